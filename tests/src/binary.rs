//! The `daybook` binary under test.

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::Message;
use std::{
    env,
    io::BufReader,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The path of the binary: `DEV_DAYBOOK`, or the result of a build, during which it blocks.
///
/// # Errors
/// The binary can't be built.
pub fn daybook() -> Result<PathBuf> {
    match env::var_os("DEV_DAYBOOK") {
        Some(path) => Ok(PathBuf::from(path)),
        None => build(),
    }
}

fn build() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["build", "--quiet", "--locked", "--bin", "daybook"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(root)
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("cargo build")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut executable = None;
    for message in Message::parse_stream(BufReader::new(output)) {
        if let Message::CompilerArtifact(artifact) = message?
            && artifact.target.name == "daybook"
            && let Some(path) = artifact.executable
        {
            executable = Some(path.into_std_path_buf());
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "cargo ended with {status} instead of 0");
    let Some(executable) = executable else {
        bail!("cargo did not print the path of the binary")
    };
    Ok(executable)
}
