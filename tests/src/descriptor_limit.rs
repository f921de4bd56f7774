//! The maximum number of open descriptors of a running process: its soft limit, which another process may lower, and
//! raise up to the hard limit.

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// The soft limit of a process.
pub fn soft_limit(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/limits");
    let limits = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let mut lines = limits.lines();
    let values = lines.find_map(|line| line.strip_prefix("Max open files"));
    let soft = values.and_then(|values| values.split_whitespace().next());
    let soft = soft.with_context(|| format!("{path} has no limit of open files"))?;
    soft.parse().with_context(|| soft.to_owned())
}

/// Changes the soft limit. Descriptors above it stay open, and no descriptor is opened while those below it are in use.
pub async fn set_soft_limit(process: u32, limit: u64) -> Result<()> {
    let changed = Command::new("prlimit")
        .args(["--pid", &process.to_string()])
        .arg(format!("--nofile={limit}:"))
        .status()
        .await?;
    ensure!(
        changed.success(),
        "prlimit --nofile={limit}: ended with {changed} instead of 0"
    );
    Ok(())
}
