//! The service is ended in mid-import, by force and in order.

use crate::import::{check_ledgers, import};
use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use std::{collections::HashMap, process::Stdio, time::Duration};
use system_tests::{
    Daybook, Expectation, Look, World, audit_log, environment::online_retail, until,
};
use tokio::{process::Child, sync::mpsc, time::timeout};

/// From the start of an import to the answers waited for.
const ANSWERS_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time for an importer to notice that the service is gone.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time from SIGTERM to the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// How many commands are answered when the service is killed: among the products, and the next time
/// among the invoices.
const KILLED_AT: [f64; 2] = [2_000.0, 15_000.0];
/// The same when it is told to stop.
const STOPPED_AT: f64 = 4_000.0;

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_mid_import_and_imported_again_it_is_as_if_nothing_had_happened() -> Result<()> {
    let world = World::wiped("killed").await?;
    let expectation = Expectation::of_online_retail().await?;
    for count in KILLED_AT {
        let daybook = world.serve().await?;
        let importer = begin_import(&world)?;
        answered(&daybook, count).await?;
        daybook.kill().await?;
        end_of(importer).await?;
    }

    let mut daybook = world.serve().await?;
    let report = import(&world).await?;
    let (new, already) = (&report["answers"]["new"], &report["answers"]["already"]);
    ensure!(
        already.as_f64() >= Some(KILLED_AT[1]),
        "{already} already there, {new} new"
    );
    ensure!(
        new.as_u64() > Some(0),
        "the service was killed too late to show anything"
    );
    daybook.caught_up().await?;
    check_ledgers(&world, &expectation).await?;
    audit_log::verify(&world).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_in_mid_import_it_ends_in_order_and_forgets_nothing() -> Result<()> {
    let world = World::wiped("stopped").await?;
    let mut daybook = world.serve().await?;
    let importer = begin_import(&world)?;
    let mut batch = Batch::begin(&daybook).await?;
    for number in 0..500 {
        batch.send(number).await?;
    }
    answered(&daybook, STOPPED_AT).await?;
    let (status, time) = daybook.terminate(SHUTDOWN_TIMEOUT).await?;
    ensure!(status.success(), "it ended with {status} after {time:?}");

    end_of(importer).await?;
    let acknowledged = batch.acknowledged().await?;
    ensure!(!acknowledged.is_empty(), "nothing was acknowledged");
    let mut keys = HashMap::new();
    audit_log::read(&world, &["--context", "catalog"], |decision| {
        keys.insert(decision.position(), decision.key);
        Ok(())
    })
    .await?;
    for (position, sku) in acknowledged {
        let key = keys.get(&position);
        ensure!(
            key == Some(&format!("product_{sku}")),
            "{position}: {key:?}, not {sku}"
        );
    }
    audit_log::verify(&world).await.map(drop)
}

fn begin_import(world: &World) -> Result<Child> {
    let mut command = world.import(&online_retail(), &world.folder.join("broken-off.json"));
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command.kill_on_drop(true).spawn()?)
}

async fn answered(daybook: &Daybook, count: f64) -> Result<()> {
    until("commands to be answered", ANSWERS_TIMEOUT, async || {
        let answered = daybook
            .client()
            .metric("daybook_commands_answered_total")
            .await?;
        Ok(Look::at(answered >= count, || {
            format!("{answered} of {count}")
        }))
    })
    .await
}

/// Waits for an importer whose service is gone: it must say so, and that nothing is lost by it.
async fn end_of(importer: Child) -> Result<()> {
    let output = timeout(NOTICE_TIMEOUT, importer.wait_with_output()).await;
    let output = output.context("the importer has not noticed that the service is gone")??;
    let said = String::from_utf8(output.stderr)?;
    let status = output.status;
    ensure!(status.code() == Some(1), "the importer: {status}: {said}");
    ensure!(said.contains("import again"), "the importer said: {said}");
    Ok(())
}

/// A batch of commands whose end the client never sends.
struct Batch {
    lines: mpsc::Sender<String>,
    answers: tokio::task::JoinHandle<Vec<Value>>,
}

impl Batch {
    async fn begin(daybook: &Daybook) -> Result<Self> {
        let (lines, sent) = mpsc::channel(1_000);
        let sent = futures_util::stream::unfold(sent, |mut sent: mpsc::Receiver<String>| async {
            let line = sent.recv().await?;
            Some((anyhow::Ok(line), sent))
        });
        let request = daybook
            .client()
            .request(Method::POST, "/api/v1/admin/commands");
        let request = request
            .header("content-type", "application/x-ndjson")
            .body(reqwest::Body::wrap_stream(sent));
        let response = request.send().await?.error_for_status()?;
        let answers = tokio::spawn(async move {
            let mut text = Vec::new();
            let mut chunks = response.bytes_stream();
            while let Some(Ok(chunk)) = chunks.next().await {
                text.extend_from_slice(&chunk);
            }
            // The last line may be cut off where the connection ended.
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

    /// Positions and SKUs of all that was answered with success before the connection ended.
    async fn acknowledged(self) -> Result<Vec<(String, String)>> {
        let answers = timeout(NOTICE_TIMEOUT, self.answers).await;
        let answers = answers.context("the connection of a service that is gone stays open")??;
        let done = answers.iter().filter(|answer| answer["status"] == 201);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let pairs = done.map(|answer| Some((text(&answer["position"])?, text(&answer["id"])?)));
        pairs
            .collect::<Option<_>>()
            .context("an answer without position or id")
    }
}
