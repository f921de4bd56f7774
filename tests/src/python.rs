//! Runs the programs of `tests/python`.

use crate::{
    environment::{Environment, source_file},
    node::{Output, output_of},
};
use anyhow::{Result, ensure};
use std::time::Duration;
use tokio::process::Command;

/// Runs a program to its end; returns its standard output.
pub async fn python(
    environment: &Environment,
    program: &str,
    arguments: &[&str],
    limit: Duration,
) -> Result<String> {
    let mut command = Command::new(&environment.python);
    command
        .arg(source_file("tests/python").join(program))
        .args(arguments);
    let Output {
        code,
        stdout,
        stderr,
    } = output_of(command, limit).await?;
    ensure!(
        code == 0,
        "{program} ended with {code} instead of 0: {stderr}"
    );
    Ok(stdout)
}
