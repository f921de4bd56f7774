//! Processes that divide the views' partitions among them: `daybook projector`, and `daybook serve` with a setting.

use crate::locked_checkpoints::lock_view;
use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::json;
use std::time::Duration;
use system_tests::{
    Deployment, Node, Poll, Totals, expect_eq,
    free_address::free_address,
    http::send,
    sale::{import_sale, sale, sell},
    totals_by_source, until,
};
use tokio::time::Instant;

/// A view of the journal of orders, as its metrics name it.
pub const ORDERS: &str = "\"orders_v3\"";
/// The view whose checkpoints are locked.
const POSTGRES_VIEW: &str = "orders_v3";
const CATALOG: &str = "journal.catalog";
/// Longest time until two projectors have divided the partitions.
const SHARE_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time from the kill of a process until another one has applied its partitions' events.
const MOVE_TIMEOUT: Duration = Duration::from_secs(10);

pub async fn the_partitions_of_a_killed_projector_move_to_another_one(
    deployment: &Deployment,
) -> Result<()> {
    let (mut node, [first, second]) = node_and_two_projectors(deployment).await?;
    let mut sales = sell(&node, "both").await?;
    node.caught_up().await?;

    // The group divides the partitions of all journals together, so one projector may have all partitions of a journal.
    let (mut killed, mut left) = match opened(&second, ORDERS).await? {
        0 => (first, second),
        _ => (second, first),
    };
    let killed_at = Instant::now();
    killed.kill().await?;
    sales += sell(&node, "one").await?;
    have_moved(deployment, sales, killed_at).await?;
    node.caught_up().await?;
    left.ready().await
}

/// The views are stalled, so the killed node has not applied the last sales.
pub async fn the_views_of_a_killed_node_of_a_group_move_to_another_one(
    deployment: &Deployment,
) -> Result<()> {
    let first = deployment.serve_in_group_at(free_address()?).await?;
    let second = deployment.serve_in_group_at(free_address()?).await?;
    share(&first, &second).await?;
    let (mut killed, mut left) = match opened(&second, ORDERS).await? {
        0 => (first, second),
        _ => (second, first),
    };
    let mut sales = sell(&left, "both").await?;
    left.caught_up().await?;

    let pool = deployment.postgres().await?;
    let lock = lock_view(POSTGRES_VIEW, &pool).await?;
    sales += sell(&left, "during").await?;
    let killed_at = Instant::now();
    killed.kill().await?;
    lock.rollback().await?;
    pool.close().await;
    have_moved(deployment, sales, killed_at).await?;

    left.ready().await?;
    sales += sell(&left, "one").await?;
    left.caught_up().await?;
    let expected = i64::try_from(sales)?;
    for (source, totals) in [
        ("journal", totals_by_source::of_journal(deployment).await?),
        ("Postgres", totals_by_source::of_postgres(deployment).await?),
        ("CQL", totals_by_source::of_cql(deployment).await?),
    ] {
        expect_eq(&format!("sales in {source}"), &totals.sales, &expected)?;
    }
    Ok(())
}

/// Waits until the views in both databases have all sales, at most [`MOVE_TIMEOUT`] after the kill of a process.
async fn have_moved(deployment: &Deployment, sales: usize, killed_at: Instant) -> Result<()> {
    let expected = i64::try_from(sales)?;
    let limit = MOVE_TIMEOUT.saturating_sub(killed_at.elapsed());
    until("every event at the other process", limit, async || {
        // Both functions read several tables in turn, so they may fail or differ while a projector writes.
        let of_postgres = totals_by_source::of_postgres(deployment).await;
        let of_cql = totals_by_source::of_cql(deployment).await;
        let are_all =
            |found: &Result<Totals>| found.as_ref().is_ok_and(|found| found.sales == expected);
        let has_all = are_all(&of_postgres) && are_all(&of_cql);
        Ok(Poll::of(has_all, || format!("{of_postgres:?}, {of_cql:?}")))
    })
    .await
}

pub async fn a_query_at_a_node_without_projectors_finds_the_write_of_its_position(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.serve_without_projectors().await?;
    let mut projector = deployment.projector_at(free_address()?).await?;
    projector.ready().await?;
    node.ready().await?;
    sell(&node, "before").await?;
    node.caught_up().await?;
    let command = import_sale("own", &sale("own"));
    let answers = node.client().post_lines(format!("{command}\n")).await?;
    let answer = answers.first().cloned().unwrap_or_else(|| json!({}));
    let text = |name: &str| answer[name].as_str().with_context(|| answer.to_string());
    let (id, position) = (text("id")?, text("position")?);
    let request = node
        .client()
        .request(Method::GET, &format!("/api/v1/orders/{id}"));
    let found = send(request.header("daybook-position", position)).await?;
    let stale = found.expect(200)?.header("daybook-stale");
    expect_eq("Daybook-Stale", &stale, &"")
}

pub async fn a_projector_ends_if_a_journal_has_other_partitions_than_it_was_created_with(
    deployment: &Deployment,
) -> Result<()> {
    // A ready node has announced itself in every partition.
    let mut node = deployment.serve().await?;
    node.kill().await?;
    let created = deployment.admin()?.partitions(CATALOG).await?;
    let (brokers, topic) = (
        deployment.environment.kafka_brokers.as_str(),
        deployment.topic(CATALOG),
    );
    let more = (created + 1).to_string();
    deployment
        .python("add_partitions.py", &[brokers, &topic, &more])
        .await?;
    let output = deployment.run(&["projector"]).await?;
    let reason = format!("partitions = {more}, it must be {created}, as the first announcement");
    let log = output.stdout + &output.stderr;
    ensure!(
        output.code != 0 && log.contains(&reason),
        "the projector ended with {} and without {reason:?}:\n{log}",
        output.code
    );
    Ok(())
}

/// A node without projectors, and two projectors that both have partitions.
pub async fn node_and_two_projectors(deployment: &Deployment) -> Result<(Node, [Node; 2])> {
    let mut node = deployment.serve_without_projectors().await?;
    let mut first = deployment.projector_at(free_address()?).await?;
    let mut second = deployment.projector_at(free_address()?).await?;
    node.ready().await?;
    first.ready().await?;
    second.ready().await?;
    share(&first, &second).await?;
    Ok((node, [first, second]))
}

/// Waits until both processes have partitions.
async fn share(first: &Node, second: &Node) -> Result<()> {
    until("a share for both", SHARE_TIMEOUT, async || {
        let (one, other) = (opened(first, "").await?, opened(second, "").await?);
        let is_shared = one > 0 && other > 0;
        Ok(Poll::of(is_shared, || {
            format!("{one} and {other} partitions")
        }))
    })
    .await
}

/// The number of partitions that a projector has opened. Only views whose metrics contain the text `view` count. The
/// projector may have lost some of the partitions since.
pub async fn opened(projector: &Node, view: &str) -> Result<usize> {
    let metrics = projector.client().get("/metrics").await?;
    let metrics = metrics.expect(200)?.text.clone();
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("daybook_projections_next_offset{") && line.contains(view));
    Ok(lines.count())
}
