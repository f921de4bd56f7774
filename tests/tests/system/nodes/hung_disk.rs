//! The disk of a node's state store hangs: its calls neither succeed nor fail. The node must still answer requests,
//! must report the disk in its readiness, and must give up partitions that it can't serve.
//!
//! In most of these tests the kernel freezes a real file system, which holds calls that change it. A preloaded library
//! replaces it if this user may not mount, in the test of a process that ends while the disk hangs, and for calls that
//! read.

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
use std::net::SocketAddr;
use system_tests::{
    Deployment, HangingDisk, Node, Poll, audit_log, expect_eq,
    free_address::free_addresses,
    sale::{SALES, sell, sell_many},
    totals_by_source, until,
};
use tokio::net::TcpStream;

/// The reason in the readiness of a node whose disk hangs.
const HANGS: &str = "the disk has not answered";
/// The reason in the readiness of a node that has left its partitions to others.
const HAS_LEFT: &str = "the state store has not answered";
/// The number of commands acknowledged before the disk hangs.
const ACKNOWLEDGED: usize = 16;
/// Queries of Postgres and of the CQL store.
const QUERIES: [&str; 3] = [
    "/api/v1/orders?limit=100",
    "/api/v1/countries",
    "/api/v1/customers/1/orders",
];

pub async fn the_partitions_of_a_node_whose_disk_hangs_move_to_another_until_the_disk_recovers(
    deployment: &Deployment,
) -> Result<()> {
    let disk = HangingDisk::new(deployment).await?;
    partitions_move_until_the_disk_recovers(deployment, &free_addresses(2)?, disk).await
}

pub async fn the_partitions_of_a_node_whose_file_system_freezes_move_to_another_until_it_thaws(
    deployment: &Deployment,
) -> Result<()> {
    let addresses = free_addresses(2)?;
    let disk = HangingDisk::mounted(deployment, &addresses).await?;
    partitions_move_until_the_disk_recovers(deployment, &addresses, disk).await
}

async fn partitions_move_until_the_disk_recovers(
    deployment: &Deployment,
    addresses: &[SocketAddr],
    mut disk: HangingDisk,
) -> Result<()> {
    let mut nodes = start_with(deployment, addresses, |node| disk.attach(node)).await?;
    let load = Load::begin(addresses).await?;
    // This owner reads its store often, because the load changes its products.
    let index = owner_of_most_products(deployment, addresses).await?;
    let mut hung = nodes.remove(index);
    let other = &nodes[0];
    let taken = taken_over(&hung).await?;
    load.take_pause();

    disk.hang(addresses[index]).await?;
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
    not_ready(&hung, HAS_LEFT).await?;
    // Both nodes accept commands for all partitions.
    let lost = load.pause_of_every_client().await?;
    hung.client().get("/health/live").await?.expect(200)?;

    disk.recover(addresses[index]).await?;
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
    // With a real file system, the process would end only after it has thawed.
    let mut disk = HangingDisk::new(deployment).await?;
    let mut nodes = start_with(deployment, &[address], |node| disk.attach(node)).await?;
    let acknowledged = create_until_the_disk_is_reported(&nodes[0], address, &mut disk).await?;
    let (status, time) = nodes[0].terminate(SHUTDOWN_TIMEOUT).await?;
    ensure!(
        status.success(),
        "it ended with {status} instead of 0 after {time:?}"
    );
    println!(
        "the node with the hung disk shut down within {} ms",
        time.as_millis()
    );

    disk.recover(address).await?;
    change_each(deployment, address, &acknowledged).await
}

pub async fn a_node_told_to_stop_while_its_file_system_is_frozen_ends_cleanly_once_it_thaws(
    deployment: &Deployment,
) -> Result<()> {
    let address = free_addresses(1)?[0];
    let mut disk = HangingDisk::mounted(deployment, &[address]).await?;
    let mut nodes = start_with(deployment, &[address], |node| disk.attach(node)).await?;
    let acknowledged = create_until_the_disk_is_reported(&nodes[0], address, &mut disk).await?;
    nodes[0].signal("TERM").await?;
    // The process stays until the kernel returns from its calls, but it serves no more clients.
    until("a closed port", CHANGE_TIMEOUT, async || {
        let connected = TcpStream::connect(address).await;
        Ok(Poll::of(connected.is_err(), || format!("{connected:?}")))
    })
    .await?;
    disk.recover(address).await?;
    let status = nodes[0].ended(SHUTDOWN_TIMEOUT).await?;
    ensure!(status.success(), "it ended with {status} instead of 0");
    change_each(deployment, address, &acknowledged).await
}

/// Creates products, lets the disk hang, and creates more products until the readiness reports the disk. Returns the
/// acknowledged products.
async fn create_until_the_disk_is_reported(
    node: &Node,
    address: SocketAddr,
    disk: &mut HangingDisk,
) -> Result<Vec<String>> {
    let mut acknowledged: Vec<_> = (0..ACKNOWLEDGED).map(|n| format!("BEFORE-{n}")).collect();
    for sku in &acknowledged {
        create(node.client(), sku).await?;
    }
    disk.hang(address).await?;
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
    Ok(acknowledged)
}

/// Starts the node again, and changes each product: all of them must exist.
async fn change_each(deployment: &Deployment, address: SocketAddr, skus: &[String]) -> Result<()> {
    let nodes = start_with(deployment, &[address], |_| ()).await?;
    for sku in skus {
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
    let disk = HangingDisk::new(deployment).await?;
    starts_on_a_hung_disk(deployment, free_addresses(1)?[0], disk).await
}

pub async fn a_node_that_starts_on_a_frozen_file_system_reports_it_and_serves_once_it_thaws(
    deployment: &Deployment,
) -> Result<()> {
    let address = free_addresses(1)?[0];
    let disk = HangingDisk::mounted(deployment, &[address]).await?;
    starts_on_a_hung_disk(deployment, address, disk).await
}

async fn starts_on_a_hung_disk(
    deployment: &Deployment,
    address: SocketAddr,
    mut disk: HangingDisk,
) -> Result<()> {
    disk.hang(address).await?;
    let node = deployment.commands_with(address, |node| disk.attach(node));
    let mut node = node.await?;
    not_ready(&node, HANGS).await?;
    disk.recover(address).await?;
    node.ready().await?;
    create(node.client(), "AFTER").await
}

pub async fn a_node_with_every_role_answers_queries_while_its_file_system_is_frozen_and_loses_no_sale(
    deployment: &Deployment,
) -> Result<()> {
    let address = free_addresses(1)?[0];
    let mut disk = HangingDisk::mounted(deployment, &[address]).await?;
    let node = deployment.serve_with(address, |node| {
        node.env("DAYBOOK_COMMANDS_STATE_DIR", disk.state_directory(address));
        disk.attach(node);
    });
    let mut node = node.await?;
    node.ready().await?;
    sell(&node, "before").await?;
    node.caught_up().await?;

    disk.hang(address).await?;
    let mut sent = 0;
    until("a node without partitions", CHANGE_TIMEOUT, async || {
        // The disk is noticed when an owner first saves a commit. A sale that is refused may be in the log.
        let _ = sell_many(&node, &format!("during {sent}"), 1).await;
        sent += 1;
        let ready = node.client().get("/health/ready").await?;
        let has_left = ready.text.contains(HANGS) && ready.text.contains(HAS_LEFT);
        Ok(Poll::of(has_left, || ready.text))
    })
    .await?;
    for path in QUERIES {
        node.client().get(path).await?.expect(200)?;
    }
    node.client().get("/health/live").await?.expect(200)?;

    disk.recover(address).await?;
    node.ready().await?;
    for number in 0..sent {
        sell_many(&node, &format!("during {number}"), 1).await?;
    }
    node.caught_up().await?;
    let expected = i64::try_from(SALES + sent)?;
    for (source, found) in [
        ("journal", totals_by_source::of_journal(deployment).await?),
        ("Postgres", totals_by_source::of_postgres(deployment).await?),
        ("CQL", totals_by_source::of_cql(deployment).await?),
    ] {
        expect_eq(&format!("sales in {source}"), &found.sales, &expected)?;
    }
    Ok(())
}
