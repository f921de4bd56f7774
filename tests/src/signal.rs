//! Signals to the programs that a test has started.

use anyhow::{Context, Result, ensure};
use tokio::process::{Child, Command};

/// Sends a signal, by its name for `kill`.
pub async fn signal(program: &Child, name: &str) -> Result<()> {
    let pid = program.id().context("the program has ended")?.to_string();
    let signal = format!("-{name}");
    let sent = Command::new("kill").args([&signal, &pid]).status().await?;
    ensure!(
        sent.success(),
        "kill {signal} {pid} ended with {sent} instead of 0"
    );
    Ok(())
}
