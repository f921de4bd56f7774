//! `daybook journal describe`: the state of partitions, for operators.

use anyhow::{Context, Result, ensure};
use schemas::CONTEXTS;
use serde_json::{Value, json};
use std::time::Duration;
use system_tests::{Deployment, Node, expect_eq, free_address::free_address, node::output_of};

/// Exit codes of `daybook journal describe`.
const SUCCESS: i32 = 0;
const UNREADABLE: i32 = 2;
/// Longest time until the command reports that Kafka does not answer.
const UNREACHABLE_TIMEOUT: Duration = Duration::from_secs(60);

pub async fn describe_reports_owner_and_epoch_of_a_partition(
    deployment: &Deployment,
) -> Result<()> {
    let node = deployment.commands().await?;
    let (partition, offset) = create_product(&node).await?;
    let all = describe(deployment, &[]).await?;
    let described = all["partitions"].as_array().context("no partitions")?;
    let expected = partitions(deployment).await?;
    ensure!(
        described.len() == expected && all["alarms"] == 0,
        "not {expected} partitions without alarms: {all}"
    );
    let one = describe_one(deployment, &partition).await?;
    let owner = format!("http://{}", deployment.listen());
    ensure!(one["owner_url"] == owner, "not owned by {owner}: {one}");
    ensure!(
        one["epoch"] == 1 && one["decisions"] == 1,
        "epoch or number of decisions is not 1: {one}"
    );
    ensure!(
        one["last_offset"] == offset,
        "last_offset is not {offset}: {one}"
    );
    ensure!(
        one["void"] == json!({}) && one["behind"] == 0,
        "void is not {{}}, or behind is not 0: {one}"
    );
    ensure!(one["directory_lag"] == 0, "directory_lag is not 0: {one}");
    expect_eq("directory.term", &one["directory"]["term"], &one["term"])?;
    for hash in ["log_id", "last_hash"] {
        let length = one[hash].as_str().map(str::len);
        ensure!(
            length == Some(64),
            "{hash} has {length:?} digits instead of 64: {one}"
        );
    }
    Ok(())
}

pub async fn describe_counts_void_records_without_an_alarm(deployment: &Deployment) -> Result<()> {
    let node = deployment.commands().await?;
    let (partition, offset) = create_product(&node).await?;
    let (topic, number) = partition.split_once('/').context("no partition")?;
    let brokers = &deployment.environment.kafka_brokers;
    let arguments = [brokers, &deployment.topic(topic), number];
    let written = deployment.python("garbage.py", &arguments).await?;
    let written: u64 = written.trim().parse()?;
    let one = describe_one(deployment, &partition).await?;
    let reasons = one["void"].as_object().context("no reasons")?;
    let void: u64 = reasons.values().filter_map(Value::as_u64).sum();
    ensure!(
        void == written && one["behind"] == written,
        "{void} void records instead of {written}, or behind is not {written}: {one}"
    );
    ensure!(
        one["last_offset"] == offset,
        "last_offset is not {offset}: {one}"
    );

    let text = deployment.run(&["journal", "describe", &partition]).await?;
    ensure!(
        text.code == SUCCESS,
        "exit code {} instead of {SUCCESS}: {}",
        text.code,
        text.stderr
    );
    let summary = "described 1 partitions, 0 alarms";
    for words in [partition.as_str(), summary] {
        ensure!(text.stdout.contains(words), "no {words:?}: {}", text.stdout);
    }
    Ok(())
}

pub async fn describe_of_an_unknown_partition_fails(deployment: &Deployment) -> Result<()> {
    deployment.run_successfully(&["topics", "create"]).await?;
    let unknown = partitions(deployment).await?;
    let unknown = format!("journal.catalog/{unknown}");
    let output = deployment.run(&["journal", "describe", &unknown]).await?;
    ensure!(
        output.code == UNREADABLE && output.stderr.contains("no such partition"),
        "exit code {} instead of {UNREADABLE}, or no \"no such partition\": {}",
        output.code,
        output.stderr
    );
    Ok(())
}

pub async fn describe_without_kafka_fails_with_the_address(deployment: &Deployment) -> Result<()> {
    let nothing = free_address()?.to_string();
    let mut command = deployment.command();
    command
        .env("DAYBOOK_KAFKA_BROKERS", &nothing)
        .args(["journal", "describe"]);
    let output = output_of(command, UNREACHABLE_TIMEOUT).await?;
    ensure!(
        output.code == UNREADABLE && output.stderr.contains(&nothing),
        "exit code {} instead of {UNREADABLE}, or no {nothing}: {}",
        output.code,
        output.stderr
    );
    expect_eq("standard output", &output.stdout.as_str(), &"")
}

/// Creates a product; returns the partition and the offset of its commit.
async fn create_product(node: &Node) -> Result<(String, i64)> {
    let body = json!({"sku": "D-1", "description": "a product"});
    let answer = node.client().post("/api/v1/products", &body, None).await?;
    let position = answer.expect(201)?.header("daybook-position");
    let (partition, offset) = position.split_once('@').context("no offset")?;
    Ok((partition.to_owned(), offset.parse()?))
}

/// The number of partitions of all journals.
async fn partitions(deployment: &Deployment) -> Result<usize> {
    let admin = deployment.admin()?;
    let mut count = 0;
    for context in CONTEXTS {
        count += usize::try_from(admin.partitions(context.topic).await?)?;
    }
    Ok(count)
}

async fn describe_one(deployment: &Deployment, partition: &str) -> Result<Value> {
    let mut all = describe(deployment, &[partition]).await?;
    Ok(all["partitions"][0].take())
}

pub async fn describe(deployment: &Deployment, arguments: &[&str]) -> Result<Value> {
    let arguments = [&["journal", "describe", "--json"], arguments].concat();
    let output = deployment.run_successfully(&arguments).await?;
    Ok(serde_json::from_str(&output.stdout)?)
}
