//! Views and jobs share one reader of a journal, and a stalled view delays no other reader.

use anyhow::{Context, Result, ensure};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use system_tests::{
    Deployment, Node, Poll,
    sale::{node_with_sales, sell},
    totals_by_source, until,
};

/// Longest time until all views and jobs share a reader.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time until the other readers have applied events that a stalled view has not.
const APPLY_TIMEOUT: Duration = Duration::from_secs(20);
/// Threads of a node that consume for the write side: the owners, and the directory of owners. The operating system
/// keeps 15 characters of a name.
const OTHER_CONSUMERS: [&str; 2] = ["consume-owner", "consume-directo"];
/// The view that stalls.
const STALLED: &str = "orders_v2";

pub async fn views_and_jobs_share_one_reader_of_a_journal(deployment: &Deployment) -> Result<()> {
    let mut node = node_with_sales(deployment, "first").await?;
    share_one_reader(&node).await?;
    let sales = i64::try_from(sell(&node, "second").await?)?;
    node.caught_up().await?;
    share_one_reader(&node).await?;
    check_totals(deployment, 2 * sales).await
}

pub async fn a_stalled_view_delays_no_other_reader(deployment: &Deployment) -> Result<()> {
    let mut node = node_with_sales(deployment, "before").await?;
    share_one_reader(&node).await?;

    let pool = deployment.postgres().await?;
    let mut transaction = pool.begin().await?;
    sqlx::query("SELECT 1 FROM view_build_checkpoints WHERE view_name = $1 FOR UPDATE")
        .bind(STALLED)
        .execute(&mut *transaction)
        .await?;
    let sales = i64::try_from(sell(&node, "during").await?)?;
    until("the other readers", APPLY_TIMEOUT, async || {
        let lags = lags(&node).await?;
        let is_stalled = lags.get(STALLED).is_some_and(|lag| *lag > 0);
        let others = lags.iter().filter(|(reader, _)| *reader != STALLED);
        let all_applied = others.clone().all(|(_, lag)| *lag == 0);
        Ok(Poll::of(is_stalled && all_applied, || format!("{lags:?}")))
    })
    .await?;
    transaction.rollback().await?;
    pool.close().await;
    node.caught_up().await?;
    share_one_reader(&node).await?;
    check_totals(deployment, 2 * sales).await
}

/// Returns once the views and the job share a reader of each journal, and have none of their own.
async fn share_one_reader(node: &Node) -> Result<()> {
    until(
        "a reader for all views and jobs",
        JOIN_TIMEOUT,
        async || {
            let metric = "daybook_journal_shared_subscribers";
            let subscribers = node.client().metric(metric).await?;
            let (expected, journals) = readers(node).await?;
            let consumers = consumers(node)?;
            let (shared, own): (Vec<_>, Vec<_>) = consumers
                .iter()
                .filter(|name| !OTHER_CONSUMERS.iter().any(|other| name.starts_with(other)))
                .partition(|name| *name == "consume-shared-");
            let all_subscribed = expected > 0 && subscribers == expected as f64;
            let is_shared = all_subscribed && shared.len() == journals && own.is_empty();
            Ok(Poll::of(is_shared, || {
                format!("{subscribers} subscribers, {consumers:?}")
            }))
        },
    )
    .await
}

/// The names of the node's threads that consume.
fn consumers(node: &Node) -> Result<Vec<String>> {
    let names = node.threads()?.into_iter();
    Ok(names.filter(|name| name.starts_with("consume-")).collect())
}

/// The number of views and jobs, each of which reads one journal, and the number of journals that they read.
async fn readers(node: &Node) -> Result<(usize, usize)> {
    let progress = node.client().get_json("/api/v1/admin/progress").await?;
    let readers = progress["readers"].as_array().context("no readers")?;
    let distinct = |member: &str| {
        let values = readers.iter().filter_map(|reader| reader[member].as_str());
        values.collect::<BTreeSet<_>>().len()
    };
    Ok((distinct("reader"), distinct("topic")))
}

/// The offsets that each reader has yet to apply.
async fn lags(node: &Node) -> Result<BTreeMap<String, i64>> {
    let progress = node.client().get("/api/v1/admin/progress").await?;
    let progress = progress.expect(200)?.json()?;
    let mut lags = BTreeMap::new();
    for reader in progress["readers"].as_array().context("no readers")? {
        let name = reader["reader"].as_str().context("no name")?;
        let lag = reader["lag"].as_i64().context("no lag")?;
        *lags.entry(name.to_owned()).or_default() += lag;
    }
    Ok(lags)
}

async fn check_totals(deployment: &Deployment, sales: i64) -> Result<()> {
    for (source, totals) in [
        ("journal", totals_by_source::of_journal(deployment).await?),
        ("Postgres", totals_by_source::of_postgres(deployment).await?),
        ("CQL", totals_by_source::of_cql(deployment).await?),
    ] {
        ensure!(
            totals.sales == sales,
            "{source}: {totals:?} instead of {sales} sales"
        );
    }
    Ok(())
}
