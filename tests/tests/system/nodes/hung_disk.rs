//! The disk of a node's state store hangs: its calls neither succeed nor fail. The node must still answer requests,
//! must report the disk in its readiness, and must give up partitions that it can't serve.

use super::{
    CHANGE_TIMEOUT, SHUTDOWN_TIMEOUT, create,
    declines::not_ready,
    faults::taken_over,
    journal_partitions,
    load::Load,
    membership::{check_log, owner_of_most_products, print_pause},
    owned_partitions, start_with, takes_over,
};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use system_tests::{Deployment, HangingDisk, Poll, audit_log, free_address::free_addresses, until};

/// The reason in the readiness of a node whose disk hangs.
const HANGS: &str = "the disk has not answered";
/// The number of commands acknowledged before the disk hangs.
const ACKNOWLEDGED: usize = 16;

pub async fn the_partitions_of_a_node_whose_disk_hangs_move_to_another_until_the_disk_recovers(
    deployment: &Deployment,
) -> Result<()> {
    let addresses = free_addresses(2)?;
    let disk = HangingDisk::new(deployment).await?;
    let mut nodes = start_with(deployment, &addresses, |node| disk.attach(node)).await?;
    let load = Load::begin(&addresses).await?;
    // This owner reads its store often, because the load changes its products.
    let index = owner_of_most_products(deployment, &addresses).await?;
    let mut hung = nodes.remove(index);
    let other = &nodes[0];
    let taken = taken_over(&hung).await?;
    load.take_pause();

    disk.hang(addresses[index])?;
    let partitions = journal_partitions(deployment).await?;
    let moved = until("the other node to own all", CHANGE_TIMEOUT, async || {
        hung.client().get("/health/live").await?.expect(200)?;
        let owned = owned_partitions(other.client()).await?;
        Ok(Poll::of(owned == partitions, || {
            format!("{owned} of {partitions}")
        }))
    });
    moved.await.with_context(|| hung.log_tail())?;
    not_ready(&hung, HANGS).await?;
    not_ready(&hung, "the state store has not answered").await?;
    // Both nodes accept commands for all partitions.
    let lost = load.pause_of_every_client().await?;
    hung.client().get("/health/live").await?.expect(200)?;

    disk.recover()?;
    hung.ready().await?;
    takes_over(&hung, taken + 1.0).await?;
    let recovered = load.pause_of_every_client().await?;
    let acknowledged = load.end().await?;
    print_pause("routing.hung_disk_pause_ms", &lost);
    print_pause("routing.recovered_disk_pause_ms", &recovered);
    check_log(deployment, &acknowledged).await
}

pub async fn a_node_whose_disk_hangs_shuts_down_in_time_and_loses_no_acknowledged_command(
    deployment: &Deployment,
) -> Result<()> {
    let address = free_addresses(1)?[0];
    let disk = HangingDisk::new(deployment).await?;
    let mut nodes = start_with(deployment, &[address], |node| disk.attach(node)).await?;
    let node = &mut nodes[0];
    let mut acknowledged: Vec<_> = (0..ACKNOWLEDGED).map(|n| format!("BEFORE-{n}")).collect();
    for sku in &acknowledged {
        create(node.client(), sku).await?;
    }
    disk.hang(address)?;
    let mut sent = 0;
    until("readiness to report the disk", CHANGE_TIMEOUT, async || {
        // The disk is noticed when the owner first saves a commit.
        let sku = format!("DURING-{sent}");
        sent += 1;
        let body = json!({"sku": sku, "description": "a product"});
        let answer = node.client().post("/api/v1/products", &body, Some(&sku));
        if answer.await?.status == 201 {
            acknowledged.push(sku);
        }
        let ready = node.client().get("/health/ready").await?;
        Ok(Poll::of(ready.text.contains(HANGS), || ready.text))
    })
    .await?;
    let (status, time) = node.terminate(SHUTDOWN_TIMEOUT).await?;
    ensure!(
        status.success(),
        "it ended with {status} instead of 0 after {time:?}"
    );
    println!(
        "the node with the hung disk shut down within {} ms",
        time.as_millis()
    );

    disk.recover()?;
    let nodes = start_with(deployment, &[address], |_| ()).await?;
    for sku in &acknowledged {
        let path = format!("/api/v1/products/{sku}/price");
        let body = json!({"price": {"amount": 1, "currency": "GBP"}});
        let request = nodes[0].client().request(reqwest::Method::PUT, &path);
        let answer = system_tests::http::send(request.json(&body)).await?;
        answer.expect(201).with_context(|| sku.clone())?;
    }
    audit_log::verify(deployment).await.map(drop)
}

pub async fn a_node_that_starts_on_a_hung_disk_reports_it_and_serves_once_the_disk_recovers(
    deployment: &Deployment,
) -> Result<()> {
    let address = free_addresses(1)?[0];
    let disk = HangingDisk::new(deployment).await?;
    disk.hang(address)?;
    let node = deployment.commands_with(address, |node| disk.attach(node));
    let mut node = node.await?;
    not_ready(&node, HANGS).await?;
    disk.recover()?;
    node.ready().await?;
    create(node.client(), "AFTER").await
}
