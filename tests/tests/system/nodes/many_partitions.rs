//! Hundreds of partitions on three nodes. Threads, descriptors and connections stay within the limits of a process,
//! also while all partitions are taken over, and no owner or node ends for lack of them. The test takes minutes, so it
//! runs only with `--full`.

use super::{LINES, divide_partitions, launch, sale};
use anyhow::{Context, Result, ensure};
use schemas::CONTEXTS;
use serde_json::Value;
use std::{collections::BTreeMap, num::NonZeroUsize};
use system_tests::{
    Deployment, Node, expect_eq,
    free_address::free_addresses,
    process_use::{Peak, PeakSampler},
};

/// Partitions of each journal. Together the journals have as many as 14 journals with 64 partitions each.
const PARTITIONS: usize = 14 * 64 / CONTEXTS.len();
/// The number of batches. They have sales for nearly every partition.
const BATCHES: usize = 10;
/// Maximum number of attempts for each line.
const ATTEMPTS_MAX: usize = 10;

/// Clients that may read the log at the same time, as `journal/src/owner/process_limits.rs` limits them: for take-overs
/// (per processor), and after barriers.
const TAKE_OVERS_PER_PROCESSOR: usize = 4;
const RECOVERIES_MAX: usize = 32;
/// Clients per allowed one. A client that was dropped ends while its successor starts.
const CLIENTS_PER_SLOT: usize = 2;
/// The use of one client: its threads, which include one per connection, and its descriptors, two of which wake up each
/// thread of a connection.
const THREADS_PER_CLIENT: usize = 6;
const CONNECTIONS_PER_CLIENT: usize = 3;
const DESCRIPTORS_PER_CLIENT: usize = 12;
/// The use of a process without such clients: the runtime's threads for blocking calls, 64 of which call the broker,
/// and the threads of the producer, the group's member, the readers and the store.
const OTHER_THREADS_MAX: usize = 200;
const OTHER_CONNECTIONS_MAX: usize = 30;
/// Files of the state store, of which it keeps 256 open, connections of clients, and those of [`OTHER_THREADS_MAX`].
const OTHER_DESCRIPTORS_MAX: usize = 600;
/// Partitions whose streams to one node share a connection, as `commands/src/routing/node_client.rs` divides them.
const STREAMS_MAX: usize = 100;

pub async fn three_nodes_serve_hundreds_of_partitions_and_two_continue_after_the_third_is_killed(
    deployment: &Deployment,
) -> Result<()> {
    let journals = CONTEXTS.map(|context| format!("\"{}\"={PARTITIONS}", context.topic));
    let journals = format!("{{{}}}", journals.join(","));
    let addresses = free_addresses(3)?;
    let mut nodes = launch(deployment, &addresses, |command| {
        command.env("DAYBOOK_KAFKA_PARTITIONS_BY_TOPIC", &journals);
    })
    .await?;
    // The nodes answer over HTTP before they create the topics, so the first take-overs are sampled as well.
    let broker = broker_port(deployment)?;
    let ports = addresses.iter().map(|address| address.port());
    let ports: Vec<u16> = ports.chain([broker]).collect();
    let sample = |node: &Node| anyhow::Ok(PeakSampler::start(node.pid()?, ports.clone()));
    let samplers: Vec<PeakSampler> = nodes.iter().map(sample).collect::<Result<_>>()?;
    divide_partitions(deployment, &mut nodes).await?;
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
    for sampler in &samplers {
        check_limits(&sampler.peak(), broker)?;
    }
    Ok(())
}

fn broker_port(deployment: &Deployment) -> Result<u16> {
    let brokers = &deployment.environment.kafka_brokers;
    let (_, port) = brokers.rsplit_once(':').context("a broker has a port")?;
    Ok(port.parse()?)
}

/// Checks that the use of a node has never exceeded the limits, which do not depend on the number of its partitions.
fn check_limits(peak: &Peak, broker: u16) -> Result<()> {
    println!("the peak of a node: {peak:?}");
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let clients = CLIENTS_PER_SLOT * (TAKE_OVERS_PER_PROCESSOR * processors + RECOVERIES_MAX);
    let threads_max = clients * THREADS_PER_CLIENT + processors + OTHER_THREADS_MAX;
    let descriptors_max = clients * DESCRIPTORS_PER_CLIENT + OTHER_DESCRIPTORS_MAX;
    // A connection that has ended may overlap with its successor.
    let to_a_node_max = 2 * (PARTITIONS * CONTEXTS.len()).div_ceil(STREAMS_MAX);
    let mut limits = vec![
        ("threads".to_owned(), peak.threads, threads_max),
        ("descriptors".to_owned(), peak.descriptors, descriptors_max),
    ];
    for (port, found) in &peak.connections {
        let maximum = match *port == broker {
            true => clients * CONNECTIONS_PER_CLIENT + OTHER_CONNECTIONS_MAX,
            false => to_a_node_max,
        };
        limits.push((format!("connections to port {port}"), *found, maximum));
    }
    for (what, found, maximum) in limits {
        ensure!(
            found <= maximum,
            "{found} {what} instead of at most {maximum}: {peak:?}"
        );
    }
    ensure!(
        peak.threads > 0 && peak.descriptors > 0,
        "no sample of the node: {peak:?}"
    );
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
