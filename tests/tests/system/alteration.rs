//! Copies of the log: a true one is sound, an altered one and a truncated one are not.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{fs, path::Path};
use system_tests::World;

/// Exit code of `daybook audit verify` where something is wrong.
const FINDINGS: i32 = 1;

/// Copies the journals and checks the copy, then the copy with one byte changed, then half of it.
pub async fn check_copies(world: &World) -> Result<()> {
    let path = world.folder.join("journals.copy");
    let name = path.to_str().context("the folder's name is no text")?;
    world
        .run_well(&["audit", "log", "--raw", "--output", name])
        .await?;
    let verified = world
        .run_well(&["audit", "verify", "--from-file", name])
        .await?;
    ensure!(
        verified.stdout.contains(", 0 findings"),
        "{}",
        verified.stdout
    );

    let copy = fs::read_to_string(&path)?;
    let lines: Vec<&str> = copy.lines().collect();
    let (altered, place) = with_a_byte_changed(&lines)?;
    expect_finding(world, &path, &altered, &place).await?;
    let half = lines[..lines.len() / 2].join("\n") + "\n";
    expect_finding(world, &path, &half, "FINDING truncated_copy").await
}

async fn expect_finding(world: &World, path: &Path, copy: &str, finding: &str) -> Result<()> {
    fs::write(path, copy)?;
    let name = path.to_str().context("the folder's name is no text")?;
    let output = world.run(&["audit", "verify", "--from-file", name]).await?;
    let said = format!("{}{}", output.stdout, output.stderr);
    ensure!(output.code == FINDINGS, "exit code {}: {said}", output.code);
    ensure!(
        said.contains(finding),
        "it does not say {finding:?}: {said}"
    );
    Ok(())
}

/// The copy with one byte changed in the middle of the middle record; and where that stands, as a
/// finding says it.
fn with_a_byte_changed(lines: &[&str]) -> Result<(String, String)> {
    let is_record = |line: &&str| line.contains("\"offset\"") && line.contains("\"value\"");
    let (before, after) = lines.split_at(lines.len() / 2);
    let next = after
        .iter()
        .position(is_record)
        .context("no record after it")?;
    let mut record: Value = serde_json::from_str(after[next])?;
    let mut value = record["value"].as_str().context("no value")?.to_owned();
    let middle = value.len() / 2;
    let other = if &value[middle..=middle] == "0" {
        "1"
    } else {
        "0"
    };
    value.replace_range(middle..=middle, other);
    record["value"] = value.into();
    let place = format!(
        "{}/{} offset {}:",
        record["topic"].as_str().context("no topic")?,
        record["partition"],
        record["offset"]
    );
    let mut altered: Vec<String> = before.iter().map(|line| (*line).to_owned()).collect();
    altered.extend(after.iter().map(|line| (*line).to_owned()));
    altered[before.len() + next] = record.to_string();
    Ok((altered.join("\n") + "\n", place))
}
