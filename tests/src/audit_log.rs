//! `daybook audit log`, read line by line.

use crate::deployment::{COMMAND_TIMEOUT, Deployment};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::process::Stdio;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::timeout,
};

/// A valid decision; the fields that the tests use.
#[derive(Debug, Clone, Deserialize)]
pub struct Decision {
    /// The journal.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// The record's offset.
    pub offset: i64,
    /// `<aggregate type>_<aggregate id>`
    pub key: String,
    /// In hexadecimal digits.
    pub command_id: String,
    /// The stored refusal or "already so"; null if the command was accepted.
    pub outcome: Option<Value>,
    /// The recorded events.
    pub events: Vec<Event>,
}

/// An event; the fields that the tests use.
#[derive(Debug, Clone, Deserialize)]
pub struct Event {
    /// Its name.
    #[serde(rename = "type")]
    pub name: String,
    /// A sale's or a credit note's number.
    pub invoice: Option<String>,
    /// Its total in minor units.
    pub total: Option<i64>,
    /// Its lines.
    #[serde(default)]
    pub lines: Vec<Line>,
}

/// A line of a sale or of a credit note.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Line {
    /// Minor units.
    pub amount: i64,
}

impl Decision {
    /// Its position in the form of the HTTP answers: `journal.orders/3@1234`.
    pub fn position(&self) -> String {
        format!("{}/{}@{}", self.topic, self.partition, self.offset)
    }
}

/// Runs `daybook audit log` and passes every line to `take`.
pub async fn read(
    deployment: &Deployment,
    arguments: &[&str],
    mut take: impl FnMut(Decision) -> Result<()>,
) -> Result<()> {
    let mut command = deployment.command();
    command.args(["audit", "log"]).args(arguments);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no standard output")?);
    let reading = async {
        let mut line = String::new();
        while lines.read_line(&mut line).await? > 0 {
            let decision = serde_json::from_str(&line);
            take(decision.with_context(|| format!("a line of the audit log: {line}"))?)?;
            line.clear();
        }
        anyhow::Ok(child.wait().await?)
    };
    let status = timeout(COMMAND_TIMEOUT, reading).await;
    let status = status.context("daybook audit log did not end in time")??;
    ensure!(
        status.success(),
        "daybook audit log {arguments:?} ended with {status} instead of 0"
    );
    Ok(())
}

/// All decisions, for journals of a few records.
pub async fn decisions(deployment: &Deployment, arguments: &[&str]) -> Result<Vec<Decision>> {
    let mut all = Vec::new();
    read(deployment, arguments, |decision| {
        all.push(decision);
        Ok(())
    })
    .await?;
    Ok(all)
}

/// Runs `daybook audit verify`, which must have no findings; returns its report.
pub async fn verify(deployment: &Deployment) -> Result<Value> {
    let arguments = ["audit", "verify", "--format", "json"];
    let output = deployment.run_successfully(&arguments).await?;
    let report: Value = serde_json::from_str(&output.stdout)?;
    ensure!(
        report["findings_total"] == 0,
        "findings_total is not 0: {report:#}"
    );
    Ok(report)
}
