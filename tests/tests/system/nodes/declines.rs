//! Nodes that can't serve their partitions: their commands are refused, and everything else keeps working.

use super::{
    CHANGE_TIMEOUT, SHUTDOWN_TIMEOUT, create, expect_status, journal_partitions, owned_partitions,
    sale, start,
};
use anyhow::{Context, Result, ensure};
use schemas::topics::{OWNERS, TOPICS};
use serde_json::json;
use std::{net::SocketAddr, path::PathBuf};
use system_tests::{Deployment, Node, Poll, expect_eq, free_address::free_addresses, until};
use tokio::process::Command;

const ORDERS: &str = "journal.orders";
const HASH_KEY_FILE: &str = "DAYBOOK_COMMANDS_HASH_KEY_FILE";
/// Another key than the deployment's.
const OTHER_HASH_KEY: &str = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

pub async fn a_partition_of_a_killed_node_is_not_ready_until_another_node_serves_it(
    deployment: &Deployment,
) -> Result<()> {
    let mut nodes = start(deployment, &free_addresses(2)?).await?;
    let mut killed = nodes.remove(0);
    let survivor = &mut nodes[0];
    survivor.ready().await?;
    killed.kill().await?;
    let address = killed.client().base().to_owned();
    not_ready(
        survivor,
        &format!("its last owner, {address}, does not answer"),
    )
    .await?;
    survivor.ready().await?;
    let partitions = journal_partitions(deployment).await?;
    let owned = owned_partitions(survivor.client()).await?;
    ensure!(
        owned == partitions,
        "ready, but {owned} of {partitions} owned"
    );
    create(survivor.client(), "AFTER").await
}

pub async fn a_replaced_log_is_declined_by_every_node_with_or_without_a_store(
    deployment: &Deployment,
) -> Result<()> {
    let addresses = free_addresses(3)?;
    let nodes = start(deployment, &addresses[..2]).await?;
    sell(&nodes[0], 0..20).await?;
    stop(nodes).await?;
    let admin = deployment.admin()?;
    delete(deployment, ORDERS).await?;
    let orders = TOPICS.iter().find(|topic| topic.name == ORDERS);
    let orders = *orders.context("the journal is in the list of topics")?;
    until(
        "the topic to be created again",
        CHANGE_TIMEOUT,
        async || {
            Ok(match admin.ensure(&[orders]).await {
                Ok(_) => Poll::Ready(()),
                Err(error) => Poll::Pending(error.to_string()),
            })
        },
    )
    .await?;
    // A node without a state store is the only member at first, so it is assigned every partition.
    let mut nodes = vec![deployment.commands_at(addresses[2]).await?];
    not_ready(&nodes[0], "was truncated or replaced").await?;
    for address in &addresses[..2] {
        nodes.push(deployment.commands_at(*address).await?);
    }
    for node in &nodes {
        not_ready(node, r#""journal.orders":"partition"#).await?;
        let answers = node.client().post_lines(format!("{}\n", sale(100))).await?;
        expect_status(&answers, 503)?;
    }
    // The other journal is intact.
    for (number, node) in nodes.iter().enumerate() {
        create(node.client(), &format!("P-{number}")).await?;
    }
    let end = end_of(deployment, ORDERS).await?;
    expect_eq("records in the new log", &end, &0)
}

pub async fn a_deleted_journal_is_not_created_again_until_an_operator_deletes_the_topic_of_owners(
    deployment: &Deployment,
) -> Result<()> {
    let address = free_addresses(1)?;
    let nodes = start(deployment, &address).await?;
    sell(&nodes[0], 0..20).await?;
    stop(nodes).await?;
    delete(deployment, ORDERS).await?;
    let node = deployment.commands_at(address[0]).await?;
    not_ready(
        &node,
        "topic journal.orders does not exist, but journal.owners names",
    )
    .await?;
    let created = deployment.run(&["topics", "create"]).await?;
    let reason = "journal.owners names";
    ensure!(
        created.code != 0 && created.stderr.contains(reason),
        "{created:?} instead of an error with {reason:?}"
    );
    let admin = deployment.admin()?;
    ensure!(
        !admin.exists(ORDERS).await?,
        "the journal was created again"
    );
    stop(vec![node]).await?;

    // The operator follows the message.
    delete(deployment, OWNERS.name).await?;
    let state = deployment
        .folder
        .join(format!("commands-{}", address[0].port()));
    std::fs::remove_dir_all(&state).with_context(|| state.display().to_string())?;
    let node = start(deployment, &address).await?;
    sell(&node[0], 0..20).await
}

pub async fn a_node_with_another_hash_key_leaves_its_partitions_to_other_nodes(
    deployment: &Deployment,
) -> Result<()> {
    let (mut nodes, _misconfigured) = two_nodes_and_one_with_another_key(deployment).await?;
    own_every_partition(deployment, &nodes).await?;
    for node in &mut nodes {
        node.ready().await?;
        let address = node.client().base().replace([':', '/'], "-");
        create(node.client(), &format!("P{address}")).await?;
    }
    Ok(())
}

pub async fn the_commands_of_a_node_with_another_hash_key_are_refused_by_the_owners(
    deployment: &Deployment,
) -> Result<()> {
    let (mut nodes, misconfigured) = two_nodes_and_one_with_another_key(deployment).await?;
    own_every_partition(deployment, &nodes).await?;
    for node in &mut nodes {
        node.ready().await?;
    }
    let body = json!({"sku": "FORWARDED", "description": "a product"});
    let refused = misconfigured
        .client()
        .post("/api/v1/products", &body, Some("f"))
        .await?;
    refused.problem(503, "JOURNAL_UNAVAILABLE")?;
    let reason = "another hash key";
    ensure!(
        refused.text.contains(reason),
        "no {reason:?} in {}",
        refused.text
    );
    Ok(())
}

/// Queries do not depend on the group.
pub async fn a_node_with_another_hash_key_keeps_answering_queries(
    deployment: &Deployment,
) -> Result<()> {
    let (_nodes, misconfigured) = two_nodes_and_one_with_another_key(deployment).await?;
    let client = misconfigured.client();
    client.get("/health/live").await?.expect(200)?;
    until("an answer to a query", CHANGE_TIMEOUT, async || {
        let answer = client.get("/api/v1/orders").await?;
        Ok(Poll::of(answer.status == 200, || answer.text))
    })
    .await
}

/// Waits until these nodes own every partition.
async fn own_every_partition(deployment: &Deployment, nodes: &[Node]) -> Result<()> {
    let partitions = journal_partitions(deployment).await?;
    until("owners of every partition", CHANGE_TIMEOUT, async || {
        let mut owned = 0.0;
        for node in nodes {
            owned += owned_partitions(node.client()).await?;
        }
        Ok(Poll::of(owned == partitions, || {
            format!("{owned} of {partitions}")
        }))
    })
    .await
}

/// Two nodes, and a node with another hash key, which has left the group.
async fn two_nodes_and_one_with_another_key(deployment: &Deployment) -> Result<(Vec<Node>, Node)> {
    let addresses = free_addresses(3)?;
    let nodes = start(deployment, &addresses[..2]).await?;
    let misconfigured = with_other_key(deployment, addresses[2]).await?;
    not_ready(&misconfigured, "this node left the group").await?;
    not_ready(
        &misconfigured,
        "commands.hash_key_file must hold the same key",
    )
    .await?;
    Ok((nodes, misconfigured))
}

pub async fn a_node_that_starts_with_another_hash_key_than_its_store_declines_its_partitions(
    deployment: &Deployment,
) -> Result<()> {
    let address = free_addresses(1)?;
    let nodes = start(deployment, &address).await?;
    let body = json!({"sku": "FIRST", "description": "a product"});
    let post = async |node: &Node| {
        node.client()
            .post("/api/v1/products", &body, Some("a key"))
            .await
    };
    post(&nodes[0]).await?.expect(201)?;
    stop(nodes).await?;
    // Only the store shows the difference now.
    delete(deployment, OWNERS.name).await?;

    let file = other_key(deployment)?;
    let set = |command: &mut Command| {
        command.env(HASH_KEY_FILE, &file);
    };
    let node = deployment.commands_with(address[0], set).await?;
    not_ready(&node, "was written with another hash key").await?;
    // With this key, the repeated command would look like another command under the same idempotency key, and get 422.
    post(&node).await?.problem(503, "JOURNAL_UNAVAILABLE")?;
    stop(vec![node]).await?;

    delete(deployment, OWNERS.name).await?;
    let nodes = start(deployment, &address).await?;
    let again = post(&nodes[0]).await?;
    let replayed = again.expect(201)?.header("idempotent-replayed");
    ensure!(
        replayed == "true",
        "{replayed:?} instead of true: {again:?}"
    );
    Ok(())
}

/// Starts a node with every role and with another hash key than the deployment's.
async fn with_other_key(deployment: &Deployment, address: SocketAddr) -> Result<Node> {
    let mut command = deployment.command();
    command
        .env("DAYBOOK_HTTP_LISTEN", address.to_string())
        .env(HASH_KEY_FILE, other_key(deployment)?);
    Node::start(command, "serve", address, &deployment.log("serve")).await
}

/// Writes a key that is not the deployment's; returns its file.
fn other_key(deployment: &Deployment) -> Result<PathBuf> {
    let file = deployment.folder.join("other-hash.key");
    std::fs::write(&file, OTHER_HASH_KEY)?;
    Ok(file)
}

/// Imports enough sales for every partition to have one.
async fn sell(node: &Node, numbers: std::ops::Range<usize>) -> Result<()> {
    let lines: String = numbers
        .map(|number| format!("{}\n", sale(number)))
        .collect();
    let answers = node.client().post_lines(lines).await?;
    let is_sold = |answer: &serde_json::Value| answer["status"] == 201;
    ensure!(
        answers.iter().all(is_sold),
        "{answers:?} instead of status 201"
    );
    Ok(())
}

async fn stop(nodes: Vec<Node>) -> Result<()> {
    for mut node in nodes {
        let (status, time) = node.terminate(SHUTDOWN_TIMEOUT).await?;
        ensure!(
            status.success(),
            "it ended with {status} instead of 0 after {time:?}"
        );
    }
    Ok(())
}

/// Deletes a topic; returns once it is gone from the brokers.
async fn delete(deployment: &Deployment, topic: &str) -> Result<()> {
    let admin = deployment.admin()?;
    admin.delete(&[topic]).await?;
    until("the topic to be gone", CHANGE_TIMEOUT, async || {
        let exists = admin.exists(topic).await?;
        Ok(Poll::of(!exists, || "it exists".into()))
    })
    .await
}

/// The number of offsets of all partitions of a topic.
async fn end_of(deployment: &Deployment, topic: &str) -> Result<i64> {
    let admin = deployment.admin()?;
    let mut end = 0;
    for partition in 0..admin.partitions(topic).await? {
        end += admin.watermarks(topic, partition).await?.high;
    }
    Ok(end)
}

/// Waits until a node is not ready for a reason.
pub(super) async fn not_ready(node: &Node, reason: &str) -> Result<()> {
    until("a reason against readiness", CHANGE_TIMEOUT, async || {
        let answer = node.client().get("/health/ready").await?;
        let is_given = answer.status == 503 && answer.text.contains(reason);
        Ok(Poll::of(is_given, || answer.text))
    })
    .await
    .with_context(|| node.log_tail())
}
