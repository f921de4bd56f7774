//! The metrics of the views' projectors: how far each partition is behind, and the size and time of the batches. The
//! metrics of the whole node have the labels of the catalogue.

use crate::locked_checkpoints::lock_view;
use anyhow::{Context, Result, ensure};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use system_tests::{
    Deployment, Node, Poll, expect_eq,
    sale::{SALES, node_with_sales, sell},
    until,
};

/// Longest time until the lags are measured. A node measures them every 5 s.
const LAG_TIMEOUT: Duration = Duration::from_secs(25);
/// The journal of the sales.
const JOURNAL: &str = "journal.orders";
/// The view that stalls. It reads [`JOURNAL`].
const STALLED: &str = "customers_v1";
/// The metric of a position of a build.
const NEXT_OFFSET: &str = "daybook_projections_next_offset";
/// The metrics of a lag.
const LAGS: [&str; 2] = [
    "daybook_projections_lag_records",
    "daybook_projections_lag_seconds",
];

/// The values of a metric by view, topic and partition.
type ByPartition = BTreeMap<(String, String, String), f64>;

pub async fn the_lag_of_a_stalled_view_is_exported_by_partition_until_it_continues(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = node_with_sales(deployment, "before").await?;
    let pool = deployment.postgres().await?;
    let lock = lock_view(STALLED, &pool).await?;
    sell(&node, "during").await?;
    let partitions = usize::try_from(deployment.admin()?.partitions(JOURNAL).await?)?;
    await_lags(&node, "the lag of the stalled view", |lags| {
        let (stalled, others): (Vec<_>, Vec<_>) = lags
            .iter()
            .partition(|((view, topic, _), _)| view == STALLED && topic == JOURNAL);
        stalled.len() == partitions
            && stalled.iter().all(|(_, lag)| **lag > 0.0)
            && others.iter().any(|((_, topic, _), _)| topic == JOURNAL)
            && others.iter().all(|(_, lag)| **lag == 0.0)
    })
    .await?;
    lock.rollback().await?;
    pool.close().await;
    node.caught_up().await?;
    await_lags(&node, "lags of 0", |lags| {
        !lags.is_empty() && lags.values().all(|lag| *lag == 0.0)
    })
    .await
}

pub async fn the_histograms_of_a_view_count_its_batches_and_their_events(
    deployment: &Deployment,
) -> Result<()> {
    let node = node_with_sales(deployment, "sales").await?;
    let views: BTreeSet<String> = by_partition(&node, NEXT_OFFSET)
        .await?
        .into_keys()
        .filter(|(_, topic, _)| topic == JOURNAL)
        .map(|(view, ..)| view)
        .collect();
    ensure!(views.contains(STALLED), "no {STALLED} in {views:?}");
    for view in views {
        let value = async |histogram: &str, part: &str| {
            let name = format!("daybook_projections_{histogram}_{part}");
            let label = format!("view=\"{view}\"");
            node.client().metric_with(&name, &label).await
        };
        // Each sale has one event.
        let events = value("batch_events", "sum").await?;
        expect_eq(&format!("events of {view}"), &events, &(SALES as f64))?;
        let batches = value("batch_events", "count").await?;
        ensure!(batches > 0.0, "{view}: {batches} batches");
        for seconds in ["apply_seconds", "database_seconds"] {
            let count = value(seconds, "count").await?;
            expect_eq(&format!("{seconds} of {view}"), &count, &batches)?;
        }
        // The database's time is a part of the whole.
        let whole = value("apply_seconds", "sum").await?;
        let part = value("database_seconds", "sum").await?;
        ensure!(
            0.0 < part && part < whole,
            "{view}: {part} of {whole} s are the database's"
        );
    }
    Ok(())
}

/// The alerting rules are checked against the catalogue, so the catalogue must be right.
pub async fn the_metrics_of_a_node_have_the_labels_of_the_catalogue(
    deployment: &Deployment,
) -> Result<()> {
    let node = node_with_sales(deployment, "sales").await?;
    let compared = deployment.python("alerts", &[node.client().base()]).await?;
    println!("{compared}");
    Ok(())
}

/// Waits until each metric of [`LAGS`] satisfies a condition at one time.
async fn await_lags(node: &Node, name: &str, holds: impl Fn(&ByPartition) -> bool) -> Result<()> {
    for metric in LAGS {
        until(&format!("{name}: {metric}"), LAG_TIMEOUT, async || {
            let lags = by_partition(node, metric).await?;
            Ok(Poll::of(holds(&lags), || format!("{lags:?}")))
        })
        .await?;
    }
    Ok(())
}

/// A metric of all builds.
async fn by_partition(node: &Node, metric: &str) -> Result<ByPartition> {
    let mut values = ByPartition::new();
    for (labels, value) in node.client().samples(metric).await? {
        let label = |name: &str| {
            let start = format!("{name}=\"");
            let (_, rest) = labels.split_once(&start).context(start)?;
            let (value, _) = rest.split_once('"').context("a label has no end")?;
            anyhow::Ok(value.to_owned())
        };
        values.insert(
            (label("view")?, label("topic")?, label("partition")?),
            value,
        );
    }
    Ok(values)
}
