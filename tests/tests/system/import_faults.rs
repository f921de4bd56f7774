//! A node that ends during an import: killed, and told to stop.

use crate::{
    import::{check_sources, import},
    importer::{Importer, shortened},
};
use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use std::{collections::HashMap, time::Duration};
use system_tests::{Deployment, Expectation, Node, audit_log};
use tokio::{sync::mpsc, time::timeout};

/// Longest time from the start of an import to the expected number of answers.
const ANSWERS_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time until an importer notices that the node has ended.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time from SIGTERM to the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// Commands that are answered when the node is killed: among the products, and then among the invoices.
const KILLED_AFTER: [f64; 2] = [1_000.0, 6_300.0];
/// Commands that are answered when the node is told to stop, including those of the open batch.
const STOPPED_AFTER: f64 = 2_500.0;
/// Commands of a client whose batch has not ended when the node is told to stop.
const OPEN_BATCH: usize = 500;

pub async fn an_import_repeated_after_two_kills_of_the_node_is_complete_and_exact(
    deployment: &Deployment,
) -> Result<()> {
    let file = shortened(deployment)?;
    let expectation = Expectation::of(&file).await?;
    for count in KILLED_AFTER {
        let mut node = deployment.serve().await?;
        let importer = Importer::begin(deployment, &file)?;
        node.answered(count, ANSWERS_TIMEOUT).await?;
        node.kill().await?;
        check_end_of(importer).await?;
    }

    let mut node = deployment.serve().await?;
    let report = import(deployment, &file).await?;
    let (new, already) = (&report["answers"]["new"], &report["answers"]["already"]);
    ensure!(
        already.as_f64() >= Some(KILLED_AFTER[1]),
        "only {already} of at least {} commands were done before, {new} were new",
        KILLED_AFTER[1]
    );
    ensure!(
        new.as_u64() > Some(0),
        "{new} commands were left to import instead of at least 1: the node was killed too late"
    );
    node.caught_up().await?;
    check_sources(deployment, &expectation).await?;
    audit_log::verify(deployment).await.map(drop)
}

pub async fn a_node_told_to_stop_during_an_import_keeps_every_acknowledged_command(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.serve().await?;
    let importer = Importer::begin(deployment, &shortened(deployment)?)?;
    let mut batch = Batch::begin(&node).await?;
    for number in 0..OPEN_BATCH {
        batch.send(number).await?;
    }
    node.answered(STOPPED_AFTER, ANSWERS_TIMEOUT).await?;
    let (status, time) = node.terminate(SHUTDOWN_TIMEOUT).await?;
    ensure!(
        status.success(),
        "it ended with {status} instead of 0 after {time:?}"
    );

    check_end_of(importer).await?;
    let acknowledged = batch.acknowledged().await?;
    ensure!(!acknowledged.is_empty(), "no command was acknowledged");
    let mut keys = HashMap::new();
    audit_log::read(deployment, &["--context", "catalog"], |decision| {
        keys.insert(decision.position(), decision.key);
        Ok(())
    })
    .await?;
    for (position, sku) in acknowledged {
        let (found, expected) = (keys.get(&position), format!("product_{sku}"));
        ensure!(
            found == Some(&expected),
            "{position}: {found:?} instead of {expected}"
        );
    }
    audit_log::verify(deployment).await.map(drop)
}

/// Waits for an importer whose node has ended: its error must ask for another import.
async fn check_end_of(importer: Importer) -> Result<()> {
    let (status, error) = importer.end(NOTICE_TIMEOUT).await?;
    ensure!(status.code() == Some(1), "{status} instead of 1: {error}");
    ensure!(
        error.contains("import again"),
        "no \"import again\" in: {error}"
    );
    Ok(())
}

/// A batch of commands that the client does not end.
struct Batch {
    lines: mpsc::Sender<String>,
    answers: tokio::task::JoinHandle<Vec<Value>>,
}

impl Batch {
    async fn begin(node: &Node) -> Result<Self> {
        let (lines, sent) = mpsc::channel(1_000);
        let sent = futures_util::stream::unfold(sent, |mut sent: mpsc::Receiver<String>| async {
            let line = sent.recv().await?;
            Some((anyhow::Ok(line), sent))
        });
        let client = node.client();
        let request = client
            .request(Method::POST, "/api/v1/admin/commands")
            .header("content-type", "application/x-ndjson")
            .body(reqwest::Body::wrap_stream(sent));
        let response = request.send().await?.error_for_status()?;
        let answers = tokio::spawn(async move {
            let mut text = Vec::new();
            let mut chunks = response.bytes_stream();
            while let Some(Ok(chunk)) = chunks.next().await {
                text.extend_from_slice(&chunk);
            }
            // The end of the connection may have cut off the last line.
            let lines = text.split_inclusive(|byte| *byte == b'\n');
            lines
                .filter_map(|line| serde_json::from_slice(line).ok())
                .collect()
        });
        Ok(Self { lines, answers })
    }

    async fn send(&mut self, number: usize) -> Result<()> {
        let body = json!({"sku": format!("SKU-{number}"), "description": "a product"});
        let line = json!({"key": format!("k/{number}"), "command": "CreateProduct", "body": body});
        Ok(self.lines.send(format!("{line}\n")).await?)
    }

    /// Positions and SKUs of the commands that were acknowledged before the connection ended.
    async fn acknowledged(self) -> Result<Vec<(String, String)>> {
        let answers = timeout(NOTICE_TIMEOUT, self.answers).await;
        let answers = answers.context("the connection to a node that has ended stays open")??;
        let done = answers.iter().filter(|answer| answer["status"] == 201);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let pairs = done.map(|answer| Some((text(&answer["position"])?, text(&answer["id"])?)));
        pairs
            .collect::<Option<_>>()
            .context("an answer without position or id")
    }
}
