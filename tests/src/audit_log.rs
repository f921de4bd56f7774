//! `daybook audit log`, read line by line.

use crate::world::World;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::process::Stdio;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::timeout,
};

/// A valid decision, as far as the tests look at it.
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
    /// The stored refusal or "already so"; null for what was accepted.
    pub outcome: Option<Value>,
    /// What it recorded.
    pub events: Vec<Event>,
}

/// An event, as far as the tests look at it.
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
    /// Where it stands, as answers say it: `journal.orders/3@1234`.
    pub fn position(&self) -> String {
        format!("{}/{}@{}", self.topic, self.partition, self.offset)
    }
}

/// Runs `daybook audit log` and hands every line to `take`.
pub async fn read(
    world: &World,
    arguments: &[&str],
    mut take: impl FnMut(Decision) -> Result<()>,
) -> Result<()> {
    let mut command = world.command();
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
    let status = timeout(crate::world::COMMAND_TIMEOUT, reading).await;
    let status = status.context("daybook audit log did not end in time")??;
    ensure!(
        status.success(),
        "daybook audit log {arguments:?}: {status}"
    );
    Ok(())
}

/// All decisions; for journals of a few records.
pub async fn decisions(world: &World, arguments: &[&str]) -> Result<Vec<Decision>> {
    let mut all = Vec::new();
    read(world, arguments, |decision| {
        all.push(decision);
        Ok(())
    })
    .await?;
    Ok(all)
}

/// `daybook audit verify` must find nothing wrong; gives its report.
pub async fn verify(world: &World) -> Result<Value> {
    let output = world
        .run_well(&["audit", "verify", "--format", "json"])
        .await?;
    let report: Value = serde_json::from_str(&output.stdout)?;
    ensure!(report["findings_total"] == 0, "findings: {report:#}");
    Ok(report)
}
