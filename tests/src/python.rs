//! Runs the programs of `tests/python`.

use crate::{
    daybook::{Output, output_of},
    environment::{Environment, checkout},
};
use anyhow::{Result, ensure};
use std::time::Duration;
use tokio::process::Command;

/// Runs a program to its end; gives what it wrote to standard output.
pub async fn python(
    environment: &Environment,
    program: &str,
    arguments: &[&str],
    limit: Duration,
) -> Result<String> {
    let mut command = Command::new(&environment.python);
    command
        .arg(checkout("tests/python").join(program))
        .args(arguments);
    let Output {
        code,
        stdout,
        stderr,
    } = output_of(command, limit).await?;
    ensure!(code == 0, "{program} ended with {code}: {stderr}");
    Ok(stdout)
}
