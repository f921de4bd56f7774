//! Views and jobs share one reader of a journal, and a stalled view delays no other reader.

use crate::{
    locked_checkpoints::{lock_partition, lock_view},
    projectors::{ORDERS, opened},
};
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use system_tests::{
    Deployment, Node, Poll, expect_eq,
    free_address::free_address,
    product::{create_product, sku_in},
    sale::{SALES, node_with_sales, sell, sell_many},
    totals_by_source, until,
};
use tokio::process::Command;

/// Longest time until all views and jobs share a reader.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time until the other readers have applied events that a stalled view has not.
const APPLY_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time until two nodes have divided the partitions.
const SHARE_TIMEOUT: Duration = Duration::from_secs(60);
/// The journal that a job reads, too.
const ORDERS_TOPIC: &str = "journal.orders";
/// More partitions than a node gets of all journals together, so that each of two nodes has some of them.
const PARTITIONS: &str = r#"{"journal.orders"=12}"#;
/// Threads of a node that consume for the write side: the owners, and the directory of owners. The operating system
/// keeps 15 characters of a name.
const OTHER_CONSUMERS: [&str; 2] = ["consume-owner", "consume-directo"];
/// The view that stalls.
const STALLED: &str = "orders_v3";
/// The view that falls back. It only adds up, so its sums show a sale that is missed or applied twice.
const FALLS_BACK: &str = "country_sales_v1";
/// Sales of a batch, and the number of batches. Together they are more than the 8,192 commits that a shared reader
/// keeps for its slowest subscriber, plus those that a view takes while it stalls: a batch in progress for each of four
/// partitions and four that wait, none with more than a partition's share of a batch of sales.
const BATCH_SALES: usize = 1_000;
const BATCHES: usize = 12;
/// The view of which one partition stalls, and its journal. Unlike an order, a product is in a partition that the test
/// chooses.
const CATALOG: &str = "catalog_v1";
const CATALOG_JOURNAL: &str = "journal.catalog";

pub async fn views_and_jobs_share_one_reader_of_a_journal(deployment: &Deployment) -> Result<()> {
    let mut node = node_with_sales(deployment, "first").await?;
    share_one_reader(&node).await?;
    let sales = i64::try_from(sell(&node, "second").await?)?;
    node.caught_up().await?;
    share_one_reader(&node).await?;
    check_totals(deployment, 2 * sales).await
}

pub async fn views_of_a_share_and_jobs_of_all_partitions_share_one_reader(
    deployment: &Deployment,
) -> Result<()> {
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let set = |command: &mut Command| {
            command
                .env("DAYBOOK_VIEWS_PARTITIONS", "group")
                .env("DAYBOOK_KAFKA_PARTITIONS_BY_TOPIC", PARTITIONS);
        };
        nodes.push(deployment.serve_with(free_address()?, set).await?);
    }
    for node in &mut nodes {
        node.ready().await?;
    }
    let [first, second] = &nodes[..] else {
        bail!("{} nodes instead of 2", nodes.len());
    };
    until("a share for both", SHARE_TIMEOUT, async || {
        let (one, other) = (opened(first, ORDERS).await?, opened(second, ORDERS).await?);
        let is_shared = one > 0 && other > 0;
        Ok(Poll::of(is_shared, || {
            format!("{one} and {other} partitions")
        }))
    })
    .await?;
    let sales = i64::try_from(sell(first, "to both").await?)?;
    for node in &mut nodes {
        node.caught_up().await?;
        let node = &*node;
        until("no other readers", JOIN_TIMEOUT, async || {
            let topics = topics_with_subscribers(node).await?;
            let (shared, own) = readers_of_journals(node)?;
            let is_shared = shared.len() == topics.len() && own.is_empty();
            Ok(Poll::of(is_shared && topics.contains(ORDERS_TOPIC), || {
                format!("{shared:?} and {own:?} for {topics:?}")
            }))
        })
        .await?;
    }
    check_totals(deployment, sales).await
}

pub async fn a_stalled_view_delays_no_other_reader(deployment: &Deployment) -> Result<()> {
    let mut node = node_with_sales(deployment, "before").await?;
    share_one_reader(&node).await?;

    let pool = deployment.postgres().await?;
    let lock = lock_view(STALLED, &pool).await?;
    let sales = i64::try_from(sell(&node, "during").await?)?;
    only_these_are_behind(&node, |reader, _| reader == STALLED).await?;
    lock.rollback().await?;
    pool.close().await;
    node.caught_up().await?;
    share_one_reader(&node).await?;
    check_totals(deployment, 2 * sales).await
}

pub async fn a_view_that_falls_back_joins_again_and_has_every_sale_once(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = node_with_sales(deployment, "before").await?;
    share_one_reader(&node).await?;
    let before = fall_backs(&node).await?;

    let pool = deployment.postgres().await?;
    let lock = lock_view(FALLS_BACK, &pool).await?;
    let mut sales = SALES;
    for batch in 0..BATCHES {
        sales += sell_many(&node, &format!("during {batch}"), BATCH_SALES).await?;
    }
    only_these_are_behind(&node, |reader, _| reader == FALLS_BACK).await?;
    lock.rollback().await?;
    pool.close().await;
    until("a view that falls back", APPLY_TIMEOUT, async || {
        let now = fall_backs(&node).await?;
        Ok(Poll::of(now > before, || format!("{now} after {before}")))
    })
    .await?;
    node.caught_up().await?;
    share_one_reader(&node).await?;
    check_totals(deployment, i64::try_from(sales)?).await?;
    let page = node.client().get_json("/api/v1/countries").await?;
    let sums = ["orders", "lines", "credit_notes"].map(|name| page["countries"][0][name].clone());
    let expected = [json!(sales), json!(sales), json!(0)];
    expect_eq("orders, lines and credit notes", &sums, &expected)?;
    let total = &page["countries"][0]["total"];
    let expected = json!({"amount": sales * 100, "currency": "GBP"});
    expect_eq("the total", total, &expected)
}

/// The number of times that the view has fallen back from the shared reader.
async fn fall_backs(node: &Node) -> Result<f64> {
    let metric = "daybook_journal_fall_backs_total";
    node.client().metric_with(metric, FALLS_BACK).await
}

pub async fn a_stalled_partition_delays_no_other_partition_of_its_view(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.serve().await?;
    node.caught_up().await?;
    let partitions = deployment.admin()?.partitions(CATALOG_JOURNAL).await?;
    ensure!(
        partitions > 1,
        "{partitions} partitions instead of 2 or more"
    );
    let pool = deployment.postgres().await?;
    let lock = lock_partition(CATALOG, 0, &pool).await?;
    // The first product stalls its partition, and the others are in the other partitions.
    let skus = (0..partitions).map(|partition| sku_in(partition, partitions));
    let skus: Vec<String> = skus.collect::<Result<_>>()?;
    for sku in &skus {
        create_product(node.client(), sku).await?;
    }
    only_these_are_behind(&node, |reader, partition| {
        (reader, partition) == (CATALOG, 0)
    })
    .await?;
    let mut expected = vec![200; skus.len()];
    expected[0] = 404;
    expect_eq(
        "answers during the lock",
        &statuses(&node, &skus).await?,
        &expected,
    )?;
    lock.rollback().await?;
    pool.close().await;
    node.caught_up().await?;
    let expected = vec![200; skus.len()];
    expect_eq(
        "answers after the lock",
        &statuses(&node, &skus).await?,
        &expected,
    )
}

/// The statuses of queries for products.
async fn statuses(node: &Node, skus: &[String]) -> Result<Vec<u16>> {
    let mut statuses = Vec::new();
    for sku in skus {
        let path = format!("/api/v1/products/{sku}");
        statuses.push(node.client().get(&path).await?.status);
    }
    Ok(statuses)
}

/// Waits until every other partition of every reader is applied, and one of these is not.
async fn only_these_are_behind(node: &Node, is_stalled: impl Fn(&str, i32) -> bool) -> Result<()> {
    until("the other readers", APPLY_TIMEOUT, async || {
        let lags = lags(node).await?;
        let (stalled, others): (Vec<_>, Vec<_>) = lags
            .iter()
            .partition(|((reader, partition), _)| is_stalled(reader, *partition));
        let is_one_behind = stalled.iter().any(|(_, lag)| **lag > 0);
        let all_applied = others.iter().all(|(_, lag)| **lag == 0);
        Ok(Poll::of(is_one_behind && all_applied, || {
            format!("{lags:?}")
        }))
    })
    .await
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
            let (shared, own) = readers_of_journals(node)?;
            let all_subscribed = expected > 0 && subscribers == expected as f64;
            let is_shared = all_subscribed && shared.len() == journals && own.is_empty();
            Ok(Poll::of(is_shared, || {
                format!("{subscribers} subscribers, {shared:?} and {own:?}")
            }))
        },
    )
    .await
}

/// The names of the node's threads that consume journals for views and jobs: those of shared readers, and those of the
/// subscribers' own readers.
fn readers_of_journals(node: &Node) -> Result<(Vec<String>, Vec<String>)> {
    let names = node.threads()?.into_iter();
    let names = names.filter(|name| {
        name.starts_with("consume-") && !OTHER_CONSUMERS.iter().any(|other| name.starts_with(other))
    });
    Ok(names.partition(|name| name == "consume-shared-"))
}

/// The journals whose shared readers have subscribers.
async fn topics_with_subscribers(node: &Node) -> Result<BTreeSet<String>> {
    let metrics = node.client().get("/metrics").await?;
    let lines = metrics.expect(200)?.text.lines();
    let samples = lines.filter_map(|line| line.strip_prefix("daybook_journal_shared_subscribers{"));
    let mut topics = BTreeSet::new();
    for sample in samples {
        let (labels, value) = sample.split_once("} ").with_context(|| sample.to_owned())?;
        if value.trim().parse::<f64>()? > 0.0 {
            let topic = labels.split('"').nth(1);
            topics.insert(topic.with_context(|| sample.to_owned())?.to_owned());
        }
    }
    Ok(topics)
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

/// The offsets that each reader has yet to apply, by reader and partition. A reader reads one journal.
async fn lags(node: &Node) -> Result<BTreeMap<(String, i32), i64>> {
    let progress = node.client().get_json("/api/v1/admin/progress").await?;
    let mut lags = BTreeMap::new();
    for reader in progress["readers"].as_array().context("no readers")? {
        let name = reader["reader"].as_str().context("no name")?;
        let partition = reader["partition"].as_i64().context("no partition")?;
        let lag = reader["lag"].as_i64().context("no lag")?;
        lags.insert((name.to_owned(), i32::try_from(partition)?), lag);
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
