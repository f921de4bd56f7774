//! A node that can open no more files and connections.

use super::{CHANGE_TIMEOUT, create, journal_partitions, owned_partitions, skus, start};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::fs;
use system_tests::{
    Client, Deployment, Poll, audit_log,
    descriptor_limit::{set_soft_limit, soft_limit},
    expect_eq,
    free_address::free_addresses,
    until,
};

/// A limit below the descriptors of every client, file and connection of a node: those below it are never closed.
const NO_FREE_DESCRIPTOR: u64 = 16;
/// The reason of the operating system.
const REASON: &str = "Too many open files";
/// The message of an owner that could not read the log.
const TAKE_OVER_FAILED: &str = "take-over failed, will retry";

pub async fn a_node_without_free_descriptors_says_so_and_takes_over_once_the_limit_is_raised(
    deployment: &Deployment,
) -> Result<()> {
    let addresses = free_addresses(2)?;
    let mut nodes = start(deployment, &addresses).await?;
    let mut killed = nodes.remove(1);
    let mut left = nodes.remove(0);
    let skus = skus(deployment, "P").await?;
    let mut positions = Vec::new();
    for sku in &skus {
        let (position, replayed) = create_or_repeat(left.client(), sku).await?;
        expect_eq(&format!("{sku} replayed"), &replayed, &String::new())?;
        positions.push(position);
    }

    let log = deployment.log(&format!("commands-{}", addresses[0].port()));
    let logged_before = fs::read_to_string(&log)?.len();
    let limit = soft_limit(left.pid()?)?;
    set_soft_limit(left.pid()?, NO_FREE_DESCRIPTOR).await?;
    killed.kill().await?;
    // The node can't accept connections either, so only its log shows the reason.
    until("a take-over that fails", CHANGE_TIMEOUT, async || {
        let logged = fs::read_to_string(&log)?;
        let logged = logged.get(logged_before..).context("the log has shrunk")?;
        let has_failed = logged.contains(REASON) && logged.contains(TAKE_OVER_FAILED);
        Ok(Poll::of(has_failed, || left.log_tail()))
    })
    .await?;

    set_soft_limit(left.pid()?, limit).await?;
    left.ready().await?;
    let partitions = journal_partitions(deployment).await?;
    let owned = owned_partitions(left.client()).await?;
    ensure!(
        owned == partitions,
        "{owned} of {partitions} partitions owned"
    );
    for (sku, position) in skus.iter().zip(&positions) {
        let again = create_or_repeat(left.client(), sku).await?;
        let expected = (position.clone(), "true".to_owned());
        expect_eq(&format!("{sku}, position and replayed"), &again, &expected)?;
    }
    create(left.client(), "AFTER").await?;
    audit_log::verify(deployment).await.map(drop)
}

/// Creates a product, or repeats the command. Returns the position of the commit, and the header that says whether the
/// answer is a repeated one.
async fn create_or_repeat(client: &Client, sku: &str) -> Result<(String, String)> {
    let body = json!({"sku": sku, "description": "a product"});
    let answer = client.post("/api/v1/products", &body, Some(sku)).await?;
    let answer = answer.expect(201)?;
    let header = |name: &str| answer.header(name).to_owned();
    Ok((header("daybook-position"), header("idempotent-replayed")))
}
