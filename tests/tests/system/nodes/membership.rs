//! Nodes join, leave, are killed and start again under load: no command is lost or decided twice, and the
//! time that clients wait is printed.

use super::{
    CHANGE_TIMEOUT, SHUTDOWN_TIMEOUT,
    load::{Load, Pause},
    start, takes_over,
};
use anyhow::{Context, Result, ensure};
use kafka::BoundedReader;
use schemas::{owners::Entry, topics::OWNERS};
use serde_json::json;
use std::{collections::HashMap, net::SocketAddr};
use system_tests::{Deployment, audit_log, free_address::free_addresses};
use tokio::time::{Instant, timeout};

pub async fn a_node_that_joins_under_load_gets_a_share_and_leaves_without_an_error(
    deployment: &Deployment,
) -> Result<()> {
    let addresses = free_addresses(3)?;
    let _nodes = start(deployment, &addresses[..2]).await?;
    let load = Load::begin(&addresses[..2]).await?;
    load.take_pause();
    let mut joining = deployment.commands_at(addresses[2]).await?;
    joining.ready().await?;
    load.add(addresses[2]);
    takes_over(&joining, 1.0).await?;
    let joined = load.pause_of_every_client().await?;

    let (status, time) = joining.terminate(SHUTDOWN_TIMEOUT).await?;
    ensure!(
        status.success(),
        "it ended with {status} instead of 0 after {time:?}"
    );
    let left = load.pause_of_every_client().await?;
    println!("told to stop, it ended within {} ms", time.as_millis());
    ensure!(
        left.errors.is_empty(),
        "clients got errors instead of none: {:?}",
        left.errors
    );

    let acknowledged = load.end().await?;
    print_pause("routing.join_pause_ms", &joined);
    print_pause("routing.sigterm_pause_ms", &left);
    check_log(deployment, &acknowledged).await
}

pub async fn a_killed_node_is_replaced_by_another_and_nothing_is_lost(
    deployment: &Deployment,
) -> Result<()> {
    let addresses = free_addresses(2)?;
    let mut nodes = start(deployment, &addresses).await?;
    let load = Load::begin(&addresses).await?;
    load.take_pause();
    let index = owner_of_most_products(deployment, &addresses).await?;
    nodes[index].kill().await?;
    load.remove(addresses[index]);
    let killed = load.pause_of_every_client().await?;

    let acknowledged = load.end().await?;
    print_pause("routing.kill_pause_ms", &killed);
    check_log(deployment, &acknowledged).await
}

pub async fn the_only_node_serves_again_after_a_kill_and_nothing_is_lost(
    deployment: &Deployment,
) -> Result<()> {
    let addresses = free_addresses(1)?;
    let mut nodes = start(deployment, &addresses).await?;
    let load = Load::begin(&addresses).await?;
    load.take_pause();
    let started = Instant::now();
    nodes[0].kill().await?;
    let _again = deployment.commands_at(addresses[0]).await?;
    let restarted = load.pause_of_every_client().await?;
    println!(
        "killed and started again, it served within {} ms",
        started.elapsed().as_millis()
    );

    let acknowledged = load.end().await?;
    print_pause("routing.restart_pause_ms", &restarted);
    check_log(deployment, &acknowledged).await
}

pub(super) fn print_pause(name: &str, pause: &Pause) {
    let value = u64::try_from(pause.longest.as_millis()).ok();
    println!("{}", json!({"bench": name, "value": value, "unit": "ms"}));
    println!(
        "{name}: {} commands, errors {:?}",
        pause.commands, pause.errors
    );
}

/// Checks that the log has every acknowledged command once, and no other command.
pub(super) async fn check_log(
    deployment: &Deployment,
    acknowledged: &HashMap<String, usize>,
) -> Result<()> {
    let mut found: HashMap<String, usize> = HashMap::new();
    audit_log::read(deployment, &["--context", "catalog"], |decision| {
        *found.entry(decision.key).or_default() += decision.events.len();
        Ok(())
    })
    .await?;
    let expected = acknowledged.iter();
    let expected: HashMap<String, usize> = expected
        .map(|(sku, count)| (format!("product_{sku}"), *count))
        .collect();
    ensure!(found == expected, "{found:?} instead of {expected:?}");
    audit_log::verify(deployment).await.map(drop)
}

/// The index of the node that owns most of the load's products.
pub(super) async fn owner_of_most_products(
    deployment: &Deployment,
    addresses: &[SocketAddr],
) -> Result<usize> {
    let owners = owners_of_products(deployment).await?;
    let owned = addresses.iter().map(|address| owners.get(address));
    let most = owned.enumerate().max_by_key(|(_, count)| *count);
    Ok(most.context("no node")?.0)
}

/// The number of product partitions that each node owns, by the node's address. The topic of owners may have
/// several entries for a partition; the greatest epoch counts.
async fn owners_of_products(deployment: &Deployment) -> Result<HashMap<SocketAddr, usize>> {
    let (kafka, admin) = (deployment.kafka(), deployment.admin()?);
    let mut reader = BoundedReader::open(&kafka, &admin, "owners", OWNERS.name).await?;
    let mut greatest: HashMap<Vec<u8>, Entry> = HashMap::new();
    while let Some(records) = timeout(CHANGE_TIMEOUT, reader.next()).await?? {
        for record in records {
            let key = record.key.context("no key")?;
            let Some(value) = record.value else {
                greatest.remove(key.as_ref());
                continue;
            };
            let entry = Entry::parse(&value).with_context(|| format!("{value:?}"))?;
            let known = greatest.get(key.as_ref()).map_or(0, |entry| entry.epoch);
            if entry.epoch > known && key.starts_with(b"journal.catalog/") {
                greatest.insert(key.to_vec(), entry);
            }
        }
    }
    let mut owners = HashMap::new();
    for entry in greatest.into_values() {
        let address = entry.url.trim_start_matches("http://").parse()?;
        *owners.entry(address).or_default() += 1;
    }
    Ok(owners)
}
