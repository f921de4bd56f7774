//! Copies of the log: an unaltered copy passes the audit, an altered or truncated copy does not.

use crate::import::imported;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};
use system_tests::{Deployment, Output};

/// Exit code of `daybook audit verify` with findings.
const FINDINGS: i32 = 1;

pub async fn a_copy_of_the_log_is_verified() -> Result<()> {
    let imported = imported().await?;
    let path = copy(&imported.deployment, "true").await?;
    let output = verify(&imported.deployment, &path).await?;
    ensure!(
        output.code == 0,
        "exit code {} instead of 0: {}",
        output.code,
        output.stderr
    );
    ensure!(
        output.stdout.contains(", 0 findings"),
        "no \", 0 findings\" in: {}",
        output.stdout
    );
    Ok(())
}

pub async fn an_altered_copy_of_the_log_is_reported() -> Result<()> {
    let imported = imported().await?;
    let path = copy(&imported.deployment, "altered").await?;
    let lines = fs::read_to_string(&path)?;
    let (altered, finding) = with_a_byte_changed(&lines)?;
    fs::write(&path, altered)?;
    expect_finding(&imported.deployment, &path, &finding).await
}

pub async fn a_truncated_copy_of_the_log_is_reported() -> Result<()> {
    let imported = imported().await?;
    let path = copy(&imported.deployment, "truncated").await?;
    let lines = fs::read_to_string(&path)?;
    let kept = lines.split_inclusive('\n').take(lines.lines().count() / 2);
    fs::write(&path, kept.collect::<String>())?;
    expect_finding(&imported.deployment, &path, "FINDING truncated_copy").await
}

/// Copies the journals into a file.
async fn copy(deployment: &Deployment, name: &str) -> Result<PathBuf> {
    let path = deployment.folder.join(format!("journals.{name}"));
    let file = path.to_str().context("the folder is not UTF-8")?;
    let arguments = ["audit", "log", "--raw", "--output", file];
    deployment.run_successfully(&arguments).await?;
    Ok(path)
}

async fn verify(deployment: &Deployment, path: &Path) -> Result<Output> {
    let file = path.to_str().context("the folder is not UTF-8")?;
    deployment
        .run(&["audit", "verify", "--from-file", file])
        .await
}

async fn expect_finding(deployment: &Deployment, path: &Path, finding: &str) -> Result<()> {
    let output = verify(deployment, path).await?;
    let text = format!("{}{}", output.stdout, output.stderr);
    ensure!(
        output.code == FINDINGS,
        "exit code {} instead of {FINDINGS}: {text}",
        output.code
    );
    ensure!(text.contains(finding), "no {finding:?} in: {text}");
    Ok(())
}

/// The copy with one byte of the middle record changed, and the coordinates of that record in a finding.
fn with_a_byte_changed(copy: &str) -> Result<(String, String)> {
    let mut lines: Vec<String> = copy.lines().map(str::to_owned).collect();
    let is_record = |line: &String| line.contains("\"offset\"") && line.contains("\"value\"");
    let half = lines.len() / 2;
    let after = lines[half..].iter().position(is_record);
    let index = half + after.context("no record in the second half")?;
    let mut record: Value = serde_json::from_str(&lines[index])?;
    let mut value = record["value"].as_str().context("no value")?.to_owned();
    let middle = value.len() / 2;
    let other = if &value[middle..=middle] == "0" {
        "1"
    } else {
        "0"
    };
    value.replace_range(middle..=middle, other);
    record["value"] = value.into();
    let coordinates = format!(
        "{}/{} offset {}:",
        record["topic"].as_str().context("no topic")?,
        record["partition"],
        record["offset"]
    );
    lines[index] = record.to_string();
    Ok((lines.join("\n") + "\n", coordinates))
}
