//! `daybook views`: the next version of a view is projected beside the one that answers, and replaces it by a switch.
//! The list of builds is that of a former release, or of a later one.

use crate::view_builds::{ORDERS, views, while_queried};
use anyhow::{Result, ensure};
use projections::{PostgresSettings, builds::registry, postgres};
use std::time::Duration;
use system_tests::{
    Deployment, Node, Poll, expect_eq,
    sale::{SALES, node_with_sales, sell},
    until,
};

const FORMER: &str = "orders_v2";
const NEXT: &str = "orders_v3";
/// A version that no release has.
const OTHER: &str = "orders_v9";
/// A query with a filter that only the next version has.
const OF_INVOICE: &str = "/api/v1/orders?invoice=first%207";
/// Longest time until a node notices a switch, or names a version.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(30);

pub async fn the_next_version_replaces_the_former_one_without_a_failed_query(
    deployment: &Deployment,
) -> Result<()> {
    create_first_build(deployment, FORMER).await?;
    let mut node = node_with_sales(deployment, "first").await?;
    let client = node.client().clone();
    while_queried(client, replace(deployment, &mut node)).await
}

/// Lets the next version answer, then the former one, then the next one again; drops the former one.
async fn replace(deployment: &Deployment, node: &mut Node) -> Result<()> {
    let listed = views(deployment, &["list"]).await?;
    let beside = format!("answered by {FORMER}");
    ensure!(listed.contains(&beside), "no {beside:?} in: {listed}");
    former_answers(node).await?;
    // A rebuild of the next version concerns no query.
    views(deployment, &["reset", NEXT, "--build", "1"]).await?;
    node.ready().await?;
    former_answers(node).await?;

    views(deployment, &["switch", NEXT]).await?;
    next_answers(node).await?;
    let mut sales = SALES + sell(node, "switched").await?;
    has(node, sales).await?;
    views(deployment, &["undo", NEXT]).await?;
    former_answers(node).await?;
    sales += sell(node, "undone").await?;
    has(node, sales).await?;

    let refused = deployment.run(&["views", "drop", FORMER]).await?;
    ensure!(
        refused.code != 0 && refused.stderr.contains("let another version answer"),
        "the version that answers was dropped: {refused:?}"
    );
    views(deployment, &["switch", NEXT]).await?;
    next_answers(node).await?;
    views(deployment, &["drop", FORMER]).await?;
    let listed = views(deployment, &["list"]).await?;
    ensure!(!listed.contains(FORMER), "still {FORMER} in: {listed}");
    let pool = deployment.postgres().await?;
    let left: Option<String> = sqlx::query_scalar("SELECT to_regclass('orders_v2_b1')::text")
        .fetch_one(&pool)
        .await?;
    pool.close().await;
    expect_eq("the table of the former version", &left, &None)?;
    has(node, sales).await?;
    node.ready().await
}

pub async fn a_node_without_the_version_that_answers_names_it_until_a_switch(
    deployment: &Deployment,
) -> Result<()> {
    create_first_build(deployment, OTHER).await?;
    let mut node = deployment.serve_unready().await?;
    until("the version in readiness", NOTICE_TIMEOUT, async || {
        let ready = node.client().get("/health/ready").await?.json()?;
        let reason = ready["components"]["view.orders"].as_str();
        let is_named = reason.is_some_and(|reason| reason.contains(OTHER));
        Ok(Poll::of(is_named && ready["ready"] == false, || {
            ready.to_string()
        }))
    })
    .await?;
    let refused = node.client().get(ORDERS).await?;
    let refused = refused.problem(503, "VIEW_VERSION_MISSING")?;
    expect_eq("the version", &refused["version"], &OTHER.into())?;
    let listed = views(deployment, &["list"]).await?;
    ensure!(listed.contains(OTHER), "no {OTHER} in: {listed}");

    views(deployment, &["switch", NEXT]).await?;
    node.ready().await?;
    sell(&node, "first").await?;
    node.caught_up().await?;
    next_answers(&node).await?;
    views(deployment, &["drop", OTHER]).await?;
    let listed = views(deployment, &["list"]).await?;
    ensure!(!listed.contains(OTHER), "still {OTHER} in: {listed}");
    Ok(())
}

/// Makes the list of builds that of a release in which this version answers.
async fn create_first_build(deployment: &Deployment, view: &str) -> Result<()> {
    let name = deployment.postgres_name();
    let pool = postgres::connect_lazily(&PostgresSettings {
        url: deployment.environment.postgres_database(name),
        ..PostgresSettings::default()
    })?;
    registry::create_first_builds(&pool, &[view]).await?;
    pool.close().await;
    Ok(())
}

/// Waits until the former version answers, which does not have the filter.
async fn former_answers(node: &Node) -> Result<()> {
    until("the former version", NOTICE_TIMEOUT, async || {
        let answer = node.client().get(OF_INVOICE).await?;
        if answer.status == 200 {
            return Ok(Poll::Pending(answer.text));
        }
        answer.problem(400, "UNKNOWN_OR_INVALID_PARAMETER")?;
        Ok(Poll::Ready(()))
    })
    .await
}

/// Waits until the next version answers, and checks that it finds the order of an invoice.
async fn next_answers(node: &Node) -> Result<()> {
    until("the next version", NOTICE_TIMEOUT, async || {
        let answer = node.client().get(OF_INVOICE).await?;
        if answer.status == 400 {
            return Ok(Poll::Pending(answer.text));
        }
        let page = answer.expect(200)?.json()?;
        let orders = page["orders"].as_array().map_or(0, Vec::len);
        ensure!(orders == 1, "{orders} orders instead of 1: {page}");
        ensure!(page["orders"][0]["invoice"] == "first 7", "{page}");
        Ok(Poll::Ready(()))
    })
    .await
}

/// Checks that the version that answers has every sale.
async fn has(node: &mut Node, sales: usize) -> Result<()> {
    node.caught_up().await?;
    let (mut found, mut cursor) = (0, String::new());
    loop {
        let page = node.client().get_json(&format!("{ORDERS}{cursor}")).await?;
        found += page["orders"].as_array().map_or(0, Vec::len);
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    expect_eq("orders of the version that answers", &found, &sales)
}
