//! A topic with a lower record limit than Kafka's default: a command whose record would be too large is refused
//! at once, and its neighbours are accepted.

use anyhow::{Result, bail, ensure};
use serde_json::Value;
use std::time::Duration;
use system_tests::{
    Deployment, Node, audit_log, expect_eq,
    sale::{import_sale, line},
};

const TOPIC: &str = "journal.orders";
/// The topic's `max.message.bytes`.
const BYTES_MAX: usize = 4_096;
/// Lines of a sale whose record is larger.
const LINES_OF_LARGE: u64 = 300;
/// Small sales of a batch; together they also exceed the limit.
const SMALL: usize = 60;
/// Line of the large sale in a batch.
const LARGE: usize = SMALL / 2;
/// Maximum number of batches until the broker applies a changed limit.
const LIMIT_ATTEMPTS_MAX: usize = 100;
const LIMIT_ATTEMPTS_EVERY: Duration = Duration::from_millis(300);
/// Maximum number of batches after the broker's refusal until one raises no barrier. Records that were sent before the
/// refusal may land after the next term has begun, which raises one more barrier.
const LATE_BATCHES_MAX: usize = 3;

pub async fn a_command_too_large_for_the_topic_is_refused_and_its_neighbours_are_not(
    deployment: &Deployment,
) -> Result<()> {
    deployment.run_successfully(&["topics", "create"]).await?;
    limit_records(deployment).await?;
    let node = deployment.commands().await?;
    one_in_a_batch_is_refused(&node, "first").await?;
    let barriers = barriers(&node).await?;
    expect_eq("barriers", &barriers, &0.0)?;
    audit_log::verify(deployment).await.map(drop)
}

pub async fn a_command_too_large_for_a_topic_that_was_changed_is_refused_and_its_neighbours_are_not(
    deployment: &Deployment,
) -> Result<()> {
    let node = deployment.commands().await?;
    limit_records(deployment).await?;
    // The node learns the limit from the broker's first refusal.
    one_in_a_batch_is_refused_once_the_limit_is_in_force(&node).await?;
    let mut before = barriers(&node).await?;
    for batch in 0..LATE_BATCHES_MAX {
        one_in_a_batch_is_refused(&node, &format!("later-{batch}")).await?;
        let after = barriers(&node).await?;
        if after == before {
            return audit_log::verify(deployment).await.map(drop);
        }
        before = after;
    }
    bail!("each of {LATE_BATCHES_MAX} batches after the refusal raised a barrier")
}

/// Sets the topic's limit, as an operator does.
async fn limit_records(deployment: &Deployment) -> Result<()> {
    let brokers = &deployment.environment.kafka_brokers;
    let topic = deployment.topic(TOPIC);
    let arguments = [brokers, &topic, "max.message.bytes", &BYTES_MAX.to_string()];
    deployment
        .python("alter_topic.py", &arguments)
        .await
        .map(drop)
}

/// Sends batches until the large sale of one is refused, and checks the answers to that batch.
///
/// The broker confirms a topic's new limit before its logs apply it, and accepts larger records until then.
async fn one_in_a_batch_is_refused_once_the_limit_is_in_force(node: &Node) -> Result<()> {
    for attempt in 0..LIMIT_ATTEMPTS_MAX {
        let answers = send_batch(node, &format!("attempt-{attempt}")).await?;
        if answers.iter().any(|answer| answer["status"] != 201) {
            return check_answers(&answers);
        }
        tokio::time::sleep(LIMIT_ATTEMPTS_EVERY).await;
    }
    bail!("a record above the topic's limit was accepted in {LIMIT_ATTEMPTS_MAX} batches")
}

async fn one_in_a_batch_is_refused(node: &Node, batch: &str) -> Result<()> {
    check_answers(&send_batch(node, batch).await?)
}

/// Sends a batch with one large sale between small ones.
async fn send_batch(node: &Node, batch: &str) -> Result<Vec<Value>> {
    let mut lines: Vec<Value> = (0..SMALL)
        .map(|number| sale(&format!("{batch}-{number}"), 1))
        .collect();
    lines.insert(LARGE, sale(&format!("{batch}-large"), LINES_OF_LARGE));
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    node.client().post_lines(body).await
}

/// The large sale is refused with the limit, and every small one is accepted.
fn check_answers(answers: &[Value]) -> Result<()> {
    expect_eq("answers", &answers.len(), &(SMALL + 1))?;
    for (index, answer) in answers.iter().enumerate() {
        if index != LARGE {
            ensure!(
                answer["status"] == 201,
                "line {index}: status is not 201: {answer}"
            );
            continue;
        }
        ensure!(
            answer["status"] == 413,
            "line {index}: status is not 413: {answer}"
        );
        let text = answer.to_string();
        let bytes_max = answer["problem"]["bytes_max"].as_u64();
        let bytes_max = bytes_max
            .or(answer["bytes_max"].as_u64())
            .unwrap_or_default();
        ensure!(
            text.contains("COMMIT_TOO_LARGE"),
            "line {index}: no COMMIT_TOO_LARGE in {answer}"
        );
        ensure!(
            (1..BYTES_MAX as u64).contains(&bytes_max),
            "line {index}: the limit is {bytes_max} instead of 1 to {BYTES_MAX} bytes: {answer}"
        );
    }
    Ok(())
}

/// A sale with many lines whose SKUs have nothing in common, so that they can't be compressed.
fn sale(invoice: &str, lines: u64) -> Value {
    let sku = |line: u64| format!("{:016x}", (line + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut body = system_tests::sale::sale(invoice);
    body["lines"] = (0..lines).map(|number| line(&sku(number))).collect();
    import_sale(invoice, &body)
}

async fn barriers(node: &Node) -> Result<f64> {
    node.client().metric("daybook_journal_barriers_total").await
}
