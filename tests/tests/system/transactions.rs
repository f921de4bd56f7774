//! Another program's transaction on a partition of a journal: while it is open and after its end, owners and
//! readers continue as before, and every reader finds the same records.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use system_tests::{
    Deployment, Node, OpenTransaction, Poll, audit_log,
    node::READY_TIMEOUT,
    sale::{SALES, node_with_sales, sell},
    transaction::End,
    until,
};

const TOPIC: &str = "journal.orders";
/// The partition of the transaction; sales go to every partition.
const PARTITION: i32 = 1;

pub async fn a_transaction_that_is_held_open_and_then_aborted_stops_no_reader(
    deployment: &Deployment,
) -> Result<()> {
    stops_no_reader(deployment, End::Abort).await
}

pub async fn a_transaction_that_is_held_open_and_then_committed_stops_no_reader(
    deployment: &Deployment,
) -> Result<()> {
    stops_no_reader(deployment, End::Commit).await
}

async fn stops_no_reader(deployment: &Deployment, end: End) -> Result<()> {
    let mut node = deployment.serve().await?;
    sell(&node, "before").await?;
    let python = &deployment.environment.python;
    let kafka = deployment.kafka();
    let transaction = OpenTransaction::begin(python, &kafka, TOPIC, PARTITION, end).await?;
    // The second batch is certainly after the transaction's record.
    sell(&node, "during").await?;
    sell(&node, "during, again").await?;
    node.caught_up().await?;
    compares_its_logs(deployment, &mut node).await?;
    // The owners' state stores are ahead of the transaction's beginning.
    let (ended, _) = node.terminate(READY_TIMEOUT).await?;
    ensure!(ended.success(), "the node ended with {ended} instead of 0");
    let mut node = node_with_sales(deployment, "after a take-over").await?;
    readers_agree(deployment, 4 * SALES).await?;

    // Nothing is appended after the control record, so no reader gets a record that would reveal it.
    transaction.end().await?;
    node.caught_up().await?;
    readers_agree(deployment, 4 * SALES).await?;
    node.kill().await?;
    let mut node = deployment.serve().await?;
    node.caught_up().await?;
    sell(&node, "after the end").await?;
    node.caught_up().await?;
    readers_agree(deployment, 5 * SALES).await
}

/// Makes a node check its topics and logs, which it does at once after a topic's configuration was wrong.
async fn compares_its_logs(deployment: &Deployment, node: &mut Node) -> Result<()> {
    let reason = "topic journal.catalog has retention.ms = 86400000";
    let brokers = &deployment.environment.kafka_brokers;
    let topic = deployment.topic("journal.catalog");
    let set = async |retention: &str| {
        let arguments = [brokers, &topic, "retention.ms", retention];
        deployment.python("alter_topic.py", &arguments).await
    };
    set("86400000").await?;
    until("a reason against readiness", READY_TIMEOUT, async || {
        let answer = node.client().get("/health/ready").await?;
        Ok(Poll::of(answer.text.contains(reason), || answer.text))
    })
    .await?;
    set("-1").await?;
    node.ready().await
}

/// The description, the audit, a copy of the log and an independent reader must find the same records up to
/// the end of the log, and the sales among them.
async fn readers_agree(deployment: &Deployment, sales: usize) -> Result<()> {
    let path = deployment.folder.join("journals.copy");
    let file = path.to_str().context("the folder is not UTF-8")?;
    let partition = format!("{TOPIC}/{PARTITION}");
    let described = crate::describe::describe(deployment, &[&partition]).await?;
    let described = &described["partitions"][0];
    let marks = deployment.admin()?.watermarks(TOPIC, PARTITION).await?;
    for field in ["log_end", "read_to"] {
        ensure!(
            described[field] == marks.high,
            "{field} is not {}: {described}",
            marks.high
        );
    }
    let audited = audit_log::verify(deployment).await?;
    let _ = std::fs::remove_file(&path);
    deployment
        .run_successfully(&["audit", "log", "--raw", "--output", file])
        .await?;
    let copied = ["audit", "verify", "--format", "json", "--from-file", file];
    let copied = deployment.run_successfully(&copied).await?;
    let copied: Value = serde_json::from_str(&copied.stdout)?;
    ensure!(
        copied["findings_total"] == 0,
        "findings_total is not 0: {copied:#}"
    );
    for report in [&audited, &copied] {
        let partitions = report["partitions"].as_array().context("no partitions")?;
        let same = partitions
            .iter()
            .find(|one| one["topic"] == TOPIC && one["partition"] == PARTITION);
        let same = same.context("the partition is missing")?;
        for field in ["records", "void", "last_hash"] {
            ensure!(
                same[field] == described[field],
                "{field}: {same:#} instead of {described:#}"
            );
        }
    }
    let environment = &deployment.environment;
    let prefix = deployment.topic("");
    let arguments = [
        environment.kafka_brokers.as_str(),
        &environment.registry_url,
        TOPIC,
        &prefix,
    ];
    let counted = deployment.python("chaos/counts.py", &arguments).await?;
    let counted: Value = serde_json::from_str(&counted)?;
    let partitions = audited["partitions"].as_array().context("no partitions")?;
    let of_topic = partitions.iter().filter(|one| one["topic"] == TOPIC);
    let records: u64 = of_topic.filter_map(|one| one["records"].as_u64()).sum();
    ensure!(
        counted["records"] == records && counted["decisions"] == sales,
        "{counted} instead of {records} records and {sales} decisions"
    );
    Ok(())
}
