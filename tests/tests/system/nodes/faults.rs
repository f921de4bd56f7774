//! Faults from which nodes must recover: nodes that are told to stop without a broker, a suspended node, and two
//! nodes with one member name.

use super::{
    CHANGE_TIMEOUT, SHUTDOWN_TIMEOUT, create, journal_partitions, owned_partitions, start,
};
use crate::describe::describe;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::HashMap;
use system_tests::{
    Deployment, FaultProxy, Node, Poll, Server, audit_log, free_address::free_addresses, until,
};
use tokio::task::JoinSet;

/// Commands that wait for a broker when the nodes are told to stop.
const WAITING: usize = 16;

pub async fn nodes_told_to_stop_during_a_kafka_outage_end_in_time(
    deployment: &Deployment,
) -> Result<()> {
    let mut proxy = FaultProxy::before(Server::Kafka, &deployment.environment).await?;
    let deployment = deployment.clone().behind(&proxy);
    let mut nodes = start(&deployment, &free_addresses(2)?).await?;
    for (number, node) in nodes.iter().enumerate() {
        create(node.client(), &format!("BEFORE-{number}")).await?;
    }
    proxy.close().await;
    let mut waiting = JoinSet::new();
    for number in 0..WAITING {
        let client = nodes[number % nodes.len()].client().clone();
        waiting.spawn(async move { create(&client, &format!("DURING-{number}")).await });
    }
    let expected = f64::from(u32::try_from(WAITING)?);
    until("commands at their owners", CHANGE_TIMEOUT, async || {
        let unanswered = unanswered(&nodes).await?;
        Ok(Poll::of(unanswered >= expected, || {
            format!("{unanswered} of {expected}")
        }))
    })
    .await?;
    let ends = nodes
        .iter_mut()
        .map(|node| node.terminate(SHUTDOWN_TIMEOUT));
    for (status, time) in futures_util::future::try_join_all(ends).await? {
        println!("told to stop, it ended within {} ms", time.as_millis());
        ensure!(
            status.success(),
            "it ended with {status} instead of 0 after {time:?}"
        );
    }
    while let Some(waited) = waiting.join_next().await {
        let answer = waited?;
        ensure!(
            answer.is_err(),
            "a command was acknowledged without a broker: {answer:?}"
        );
    }
    Ok(())
}

/// Commands that owners have not answered yet.
async fn unanswered(nodes: &[Node]) -> Result<f64> {
    let metric = "daybook_journal_unanswered_commands";
    let counts = nodes.iter().map(|node| node.client().metric(metric));
    let counts = futures_util::future::try_join_all(counts).await?;
    Ok(counts.iter().sum())
}

/// A suspended node resumes after its session has expired. It must not take back partitions that another node owns
/// by then, unless the group assigns them.
pub async fn a_suspended_node_takes_no_partition_from_its_successor(
    deployment: &Deployment,
) -> Result<()> {
    let nodes = start(deployment, &free_addresses(2)?).await?;
    let [suspended, successor] = &nodes[..] else {
        anyhow::bail!("{} nodes instead of 2", nodes.len());
    };
    for number in 0..WAITING {
        create(suspended.client(), &format!("BEFORE-{number}")).await?;
    }
    let taken = taken_over(suspended).await?;
    suspended.signal("STOP").await?;
    // The session has expired once the other node owns every partition.
    let partitions = journal_partitions(deployment).await?;
    until(
        "the successor to own everything",
        CHANGE_TIMEOUT,
        async || {
            let owned = owned_partitions(successor.client()).await?;
            Ok(Poll::of(owned == partitions, || {
                format!("{owned} of {partitions}")
            }))
        },
    )
    .await?;
    let before = owners(deployment).await?;
    suspended.signal("CONT").await?;
    // The group may assign the resumed node its earlier partitions. Then its owners learn from the first command
    // that they were fenced.
    let mut sent = 0;
    until("a share of the resumed node", CHANGE_TIMEOUT, async || {
        sent += 1;
        create(suspended.client(), &format!("DURING-{sent}")).await?;
        let now = taken_over(suspended).await?;
        let answer = suspended.client().get("/health/ready").await?;
        let is_member = now > taken && answer.status == 200;
        Ok(Poll::of(is_member, || {
            format!("{now} take-overs: {}", answer.text)
        }))
    })
    .await?;
    for (number, node) in [
        (0, suspended),
        (1, successor),
        (2, suspended),
        (3, successor),
    ] {
        create(node.client(), &format!("AFTER-{number}")).await?;
    }

    // If the resumed node had taken more than its share, the successor would have announced a new epoch there. Each
    // partition of the share has one new epoch or more: if the successor's last append lands after the announcement,
    // the next append of the resumed node has an unexpected offset, and the node takes over again.
    let resumed = suspended.client().base();
    for (partition, (owner, epoch)) in owners(deployment).await? {
        let (_, epoch_before) = before.get(&partition).context("a new partition")?;
        let is_expected = match owner == resumed {
            true => epoch > *epoch_before,
            false => epoch == *epoch_before,
        };
        ensure!(
            is_expected,
            "{partition}: {owner} has epoch {epoch} after {epoch_before}"
        );
    }
    audit_log::verify(deployment).await.map(drop)
}

/// The owner and the epoch of each partition, by its name.
async fn owners(deployment: &Deployment) -> Result<HashMap<String, (String, i64)>> {
    let described = describe(deployment, &[]).await?;
    let partitions = described["partitions"]
        .as_array()
        .context("no partitions")?;
    let owner = |partition: &Value| {
        let name = format!(
            "{}/{}",
            partition["topic"].as_str()?,
            partition["partition"]
        );
        let owner = partition["owner_url"].as_str()?.to_owned();
        Some((name, (owner, partition["epoch"].as_i64()?)))
    };
    let owners = partitions.iter().map(owner).collect::<Option<_>>();
    owners.with_context(|| format!("a partition without an owner: {described}"))
}

pub(super) async fn taken_over(node: &Node) -> Result<f64> {
    node.client()
        .metric("daybook_journal_takeovers_total")
        .await
}

pub async fn a_second_node_with_one_member_name_evicts_the_first_until_the_second_ends(
    deployment: &Deployment,
) -> Result<()> {
    let addresses = free_addresses(2)?;
    let mut twins = Vec::new();
    for address in addresses {
        let twin = deployment.commands_with(address, |command| {
            command.env("DAYBOOK_COMMANDS_MEMBER", "twin");
        });
        let mut twin = twin.await?;
        if twins.is_empty() {
            twin.ready().await?;
        }
        twins.push(twin);
    }
    let [first, second] = &mut twins[..] else {
        anyhow::bail!("{} nodes instead of 2", twins.len());
    };
    until("the first node to be fenced", CHANGE_TIMEOUT, async || {
        let answer = first.client().get("/health/ready").await?;
        let is_fenced = answer.text.contains("member twin");
        Ok(Poll::of(is_fenced, || answer.text))
    })
    .await?;
    second.kill().await?;
    first.ready().await?;
    for number in 0..WAITING {
        create(first.client(), &format!("AFTER-{number}")).await?;
    }
    Ok(())
}
