//! Records in a journal that none of our owners wrote: they are counted as void, and change nothing else.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;
use system_tests::{
    Deployment, Poll, audit_log,
    sale::{SALES, node_with_sales, sell},
    totals_by_source, until,
};

const TOPIC: &str = "journal.orders";
/// The partition that gets the foreign records; sales go to every partition.
const PARTITION: &str = "1";
/// Longest time from the writing of foreign records to their count in the metrics.
const COUNT_TIMEOUT: Duration = Duration::from_secs(15);

pub async fn foreign_records_are_counted_as_void_and_stop_no_reader(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.serve().await?;
    sell(&node, "before").await?;
    let written = write_foreign_records(deployment).await?;
    // The owner has read only its own commits so far, and reads the foreign records before its next commits.
    sell(&node, "after").await?;
    let metric = "daybook_journal_void_records_total";
    until("void records in the metrics", COUNT_TIMEOUT, async || {
        let counted = node.client().metric(metric).await?;
        Ok(Poll::of(counted >= written, || {
            format!("{counted} of {written}")
        }))
    })
    .await?;
    node.ready().await?;
    node.caught_up().await?;
    check_sources(deployment, 2 * SALES, written).await
}

pub async fn foreign_records_written_while_the_node_is_down_stop_no_reader(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.serve().await?;
    sell(&node, "before").await?;
    node.kill().await?;
    let written = write_foreign_records(deployment).await?;
    let _node = node_with_sales(deployment, "after a restart").await?;
    check_sources(deployment, 2 * SALES, written).await
}

/// Writes foreign records; returns their number.
async fn write_foreign_records(deployment: &Deployment) -> Result<f64> {
    let brokers = &deployment.environment.kafka_brokers;
    let topic = deployment.topic(TOPIC);
    let written = deployment
        .python("garbage.py", &[brokers, &topic, PARTITION])
        .await?;
    written.trim().parse().with_context(|| written.clone())
}

/// The journal and both views must have the sales, and the audit all void records.
async fn check_sources(deployment: &Deployment, sales: usize, written: f64) -> Result<()> {
    let sales = i64::try_from(sales)?;
    for (source, totals) in [
        ("journal", totals_by_source::of_journal(deployment).await?),
        ("Postgres", totals_by_source::of_postgres(deployment).await?),
        ("CQL", totals_by_source::of_cql(deployment).await?),
    ] {
        ensure!(
            (totals.sales, totals.total_minor) == (sales, 100 * sales),
            "{source}: {totals:?} instead of {sales} sales of 100 each"
        );
    }
    let report = audit_log::verify(deployment).await?;
    let partitions = report["partitions"].as_array().context("no partitions")?;
    let reasons = partitions
        .iter()
        .filter_map(|partition| partition["void"].as_object());
    let counts = reasons.flat_map(|reasons| reasons.values());
    let void: f64 = counts.filter_map(Value::as_f64).sum();
    ensure!(
        void >= written,
        "{void} void records instead of at least {written}: {report:#}"
    );
    Ok(())
}
