//! Several command nodes: each accepts every command, and the owner of the partition decides it.

pub mod declines;
pub mod descriptors;
pub mod faults;
pub mod hung_disk;
mod load;
pub mod many_partitions;
pub mod membership;
pub mod topics;
mod traces;

use anyhow::{Context, Result, ensure};
use kafka::partition::of_key;
use schemas::{CONTEXTS, context::CATALOG};
use serde_json::{Value, json};
use std::{collections::HashMap, net::SocketAddr, time::Duration};
use system_tests::{
    Client, Deployment, Node, Poll, audit_log, free_address::free_addresses, sale::import_sale,
    until,
};
use tokio::process::Command;

/// Longest time from SIGTERM to the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time until a change of the group or of a topic has taken effect.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(90);
/// Lines of a batch with lines for every partition.
const LINES: usize = 400;

pub async fn a_command_is_decided_once_whichever_nodes_receive_it(
    deployment: &Deployment,
) -> Result<()> {
    let nodes = start(deployment, &free_addresses(3)?).await?;
    let skus = skus(deployment, "P").await?;
    for sku in &skus {
        let body = json!({"sku": sku, "description": "a product"});
        let key = format!("once/{sku}");
        let requests = nodes
            .iter()
            .map(|node| node.client().post("/api/v1/products", &body, Some(&key)));
        let answers = futures_util::future::try_join_all(requests).await?;
        for answer in &answers {
            answer.expect(201)?;
            let position = answer.header("daybook-position");
            let first = answers[0].header("daybook-position");
            ensure!(position == first, "{position} instead of {first}");
        }
        let other = json!({"sku": sku, "description": "another"});
        for node in &nodes {
            let client = node.client();
            let reused = client.post("/api/v1/products", &other, Some(&key)).await?;
            reused.problem(422, "IDEMPOTENCY_KEY_REUSED")?;
            let refused = client.post("/api/v1/products", &other, None).await?;
            refused.problem(409, "PRODUCT_EXISTS")?;
        }
    }
    let metric = "daybook_commands_forwarded_total";
    let forwarded = nodes.iter().map(|node| node.client().metric(metric));
    let forwarded = futures_util::future::try_join_all(forwarded).await?;
    ensure!(
        forwarded.iter().sum::<f64>() > 0.0,
        "no node has forwarded a command: {forwarded:?}"
    );
    let decisions = audit_log::decisions(deployment, &["--event", "ProductCreated"]).await?;
    ensure!(
        decisions.len() == skus.len(),
        "{} products instead of {}",
        decisions.len(),
        skus.len()
    );
    audit_log::verify(deployment).await.map(drop)
}

pub async fn a_batch_repeated_at_another_node_gets_the_same_answers(
    deployment: &Deployment,
) -> Result<()> {
    let nodes = start(deployment, &free_addresses(2)?).await?;
    let lines: String = (0..LINES)
        .map(|number| format!("{}\n", sale(number)))
        .collect();
    let first = nodes[0].client().post_lines(lines.clone()).await?;
    let again = nodes[1].client().post_lines(lines).await?;
    ensure!(
        first.len() == LINES && again.len() == LINES,
        "{} and {} answers to {LINES} lines",
        first.len(),
        again.len()
    );
    // Lines of one partition are decided in their order.
    let mut last: HashMap<String, i64> = HashMap::new();
    for (first, again) in first.iter().zip(&again) {
        ensure!(
            first["status"] == 201 && first["replayed"] == false,
            "{first} instead of status 201, replayed: false"
        );
        ensure!(
            again["replayed"] == true && again["position"] == first["position"],
            "{again} instead of a replayed {first}"
        );
        let position = first["position"].as_str().context("no position")?;
        let (partition, offset) = position.split_once('@').context("no offset")?;
        let offset = offset.parse()?;
        let before = last.insert(partition.to_owned(), offset);
        ensure!(
            before < Some(offset),
            "{partition}: offset {offset} after {before:?}"
        );
    }
    let partitions = deployment.admin()?.partitions("journal.orders").await?;
    ensure!(
        i32::try_from(last.len())? == partitions,
        "sales in {} partitions instead of {partitions}: {last:?}",
        last.len()
    );
    audit_log::verify(deployment).await.map(drop)
}

pub async fn a_trace_reaches_the_log_whichever_node_receives_the_command(
    deployment: &Deployment,
) -> Result<()> {
    let nodes = start(deployment, &free_addresses(3)?).await?;
    traces::check(deployment, &nodes).await
}

pub async fn several_nodes_own_every_partition_once(deployment: &Deployment) -> Result<()> {
    let nodes = start(deployment, &free_addresses(3)?).await?;
    // Each node gets a command for each partition, so some belong to partitions of other nodes.
    for node in &nodes {
        let prefix = node.client().base().replace([':', '/'], "-");
        for sku in skus(deployment, &prefix).await? {
            create(node.client(), &sku).await?;
        }
    }
    let partitions = journal_partitions(deployment).await?;
    let mut owned = 0.0;
    for node in &nodes {
        let client = node.client();
        let known = client.metric("daybook_commands_owners_known").await?;
        ensure!(known == partitions, "{known} of {partitions} owners known");
        let forwarded = client.metric("daybook_commands_forwarded_total").await?;
        let sent_on = client.metric("daybook_commands_sent_on_total").await?;
        ensure!(
            sent_on > 0.0,
            "{} sent {sent_on} commands on, instead of 1 or more; it forwarded {forwarded}",
            client.base()
        );
        owned += owned_partitions(client).await?;
    }
    ensure!(
        owned == partitions,
        "{owned} of {partitions} partitions owned"
    );
    Ok(())
}

/// The number of partitions of all journals.
async fn journal_partitions(deployment: &Deployment) -> Result<f64> {
    let admin = deployment.admin()?;
    let mut count = 0.0;
    for context in CONTEXTS {
        count += f64::from(admin.partitions(context.topic).await?);
    }
    Ok(count)
}

/// The number of partitions that a node owns: those for which it reports an epoch.
async fn owned_partitions(client: &Client) -> Result<f64> {
    let text = client.get("/metrics").await?.text;
    let epochs = text
        .lines()
        .filter(|line| line.starts_with("daybook_journal_epoch{"));
    let owned = epochs.filter(|line| !line.ends_with(" 0"));
    Ok(owned.map(|_| 1.0).sum())
}

/// Checks the status of the answer to one line.
fn expect_status(answers: &[Value], status: u16) -> Result<()> {
    ensure!(
        answers[0]["status"] == status,
        "{answers:?} instead of status {status}"
    );
    Ok(())
}

fn sale(number: usize) -> Value {
    let sale = system_tests::sale::sale(&number.to_string());
    import_sale(&format!("sale/{number}"), &sale)
}

/// A SKU for each partition of the catalog's journal.
async fn skus(deployment: &Deployment, prefix: &str) -> Result<Vec<String>> {
    let partitions = deployment.admin()?.partitions(CATALOG.topic).await?;
    let in_partition = |partition: i32| {
        let mut skus = (0..).map(|number| format!("{prefix}-{number}"));
        let found =
            skus.find(|sku| of_key(format!("product_{sku}").as_bytes(), partitions) == partition);
        found.context("the numbers ran out before a SKU for each partition was found")
    };
    (0..partitions).map(in_partition).collect()
}

/// Creates a product; its SKU is the command's key.
async fn create(client: &Client, sku: &str) -> Result<()> {
    let body = json!({"sku": sku, "description": "a product"});
    let answer = client.post("/api/v1/products", &body, Some(sku)).await?;
    answer.expect(201).map(drop)
}

/// Starts nodes; returns once they have divided the partitions among them.
async fn start(deployment: &Deployment, addresses: &[SocketAddr]) -> Result<Vec<Node>> {
    start_with(deployment, addresses, |_| ()).await
}

/// Like [`start`], with further settings.
async fn start_with(
    deployment: &Deployment,
    addresses: &[SocketAddr],
    set: impl Fn(&mut Command),
) -> Result<Vec<Node>> {
    let mut nodes = launch(deployment, addresses, set).await?;
    divide_partitions(deployment, &mut nodes).await?;
    Ok(nodes)
}

/// Starts nodes; returns once they answer over HTTP.
async fn launch(
    deployment: &Deployment,
    addresses: &[SocketAddr],
    set: impl Fn(&mut Command),
) -> Result<Vec<Node>> {
    let starts = addresses
        .iter()
        .map(|address| deployment.commands_with(*address, &set));
    futures_util::future::try_join_all(starts).await
}

/// Waits until nodes have divided the partitions among them.
async fn divide_partitions(deployment: &Deployment, nodes: &mut [Node]) -> Result<()> {
    for node in nodes.iter_mut() {
        node.ready().await?;
        takes_over(node, 1.0).await?;
    }
    let partitions = journal_partitions(deployment).await?;
    until("an owner of every partition", CHANGE_TIMEOUT, async || {
        let owned = nodes.iter().map(|node| owned_partitions(node.client()));
        let owned = futures_util::future::try_join_all(owned).await?;
        Ok(Poll::of(owned.iter().sum::<f64>() == partitions, || {
            format!("{owned:?} of {partitions}")
        }))
    })
    .await
}

/// Waits until a node has taken over this many partitions since its start.
async fn takes_over(node: &Node, count: f64) -> Result<()> {
    until("take-overs of a node", CHANGE_TIMEOUT, async || {
        let taken = node.client().metric("daybook_journal_takeovers_total");
        let taken = taken.await?;
        Ok(Poll::of(taken >= count, || format!("{taken} of {count}")))
    })
    .await
    .with_context(|| node.log_tail())
}
