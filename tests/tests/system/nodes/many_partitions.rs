//! Hundreds of partitions on three nodes. Take-overs, streams between nodes and bytes in flight stay within the limits
//! of a process, and no owner or node ends for lack of resources. The test takes minutes, so it runs only with
//! `--full`.

use super::{LINES, sale, start_with};
use anyhow::{Result, ensure};
use schemas::CONTEXTS;
use serde_json::Value;
use std::collections::BTreeMap;
use system_tests::{Deployment, Node, expect_eq, free_address::free_addresses};

/// Partitions of each journal. Together the journals have as many as 14 journals with 64 partitions each.
const PARTITIONS: usize = 14 * 64 / CONTEXTS.len();
/// The number of batches. They have sales for nearly every partition.
const BATCHES: usize = 10;
/// Maximum number of attempts for each line.
const ATTEMPTS_MAX: usize = 10;

pub async fn three_nodes_serve_hundreds_of_partitions_and_two_continue_after_the_third_is_killed(
    deployment: &Deployment,
) -> Result<()> {
    let journals = CONTEXTS.map(|context| format!("\"{}\"={PARTITIONS}", context.topic));
    let journals = format!("{{{}}}", journals.join(","));
    let mut nodes = start_with(deployment, &free_addresses(3)?, |command| {
        command.env("DAYBOOK_KAFKA_PARTITIONS_BY_TOPIC", &journals);
    })
    .await?;
    let first = sell(&nodes[0], false).await?;
    nodes.remove(2).kill().await?;
    for node in &mut nodes {
        node.ready().await?;
    }
    // The partition's new owner recognises each sale as repeated.
    let again = sell(&nodes[1], true).await?;
    for (number, (first, again)) in first.iter().zip(&again).enumerate() {
        expect_eq(&format!("position of sale {number}"), again, first)?;
    }
    Ok(())
}

/// Sends the sales of all batches to a node, and returns the position of each. A line whose owner does not answer in time
/// is sent again with the same key, as the error asks.
async fn sell(node: &Node, are_replayed: bool) -> Result<Vec<Value>> {
    let mut positions = Vec::new();
    for batch in 0..BATCHES {
        let numbers = batch * LINES..(batch + 1) * LINES;
        let mut unanswered: BTreeMap<usize, String> = numbers
            .map(|number| (number, format!("{}\n", sale(number))))
            .collect();
        let mut sold = BTreeMap::new();
        for attempt in 0..ATTEMPTS_MAX {
            let numbers: Vec<usize> = unanswered.keys().copied().collect();
            let lines: String = unanswered.values().map(String::as_str).collect();
            let answers = node.client().post_lines(lines).await?;
            ensure!(
                answers.len() == numbers.len(),
                "{} answers to {} lines",
                answers.len(),
                numbers.len()
            );
            for (number, answer) in numbers.iter().zip(answers) {
                if answer["status"] == 503 && answer["code"] == "JOURNAL_UNAVAILABLE" {
                    continue;
                }
                // An earlier attempt may have been decided although its answer was lost.
                let is_expected = attempt > 0 || answer["replayed"] == are_replayed;
                ensure!(
                    answer["status"] == 201 && is_expected,
                    "{answer} instead of status 201, replayed: {are_replayed}"
                );
                unanswered.remove(number);
                sold.insert(*number, answer["position"].clone());
            }
            if unanswered.is_empty() {
                break;
            }
        }
        ensure!(
            unanswered.is_empty(),
            "{} sales of batch {batch} have no answer after {ATTEMPTS_MAX} attempts",
            unanswered.len()
        );
        positions.extend(sold.into_values());
    }
    Ok(positions)
}
