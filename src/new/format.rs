//! Formats Rust code with rustfmt, because the line breaks of a filled template depend on the lengths of the
//! names in it.

use anyhow::{Context, Result, ensure};
use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
};

/// The files, with Rust code formatted.
pub fn formatted(files: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let format = |(path, text): (String, String)| {
        let text = match path.ends_with(".rs") {
            true => rustfmt(&text).with_context(|| format!("failed to format {path}"))?,
            false => text,
        };
        Ok((path, text))
    };
    files.into_iter().map(format).collect()
}

fn rustfmt(code: &str) -> Result<String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--emit", "stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("can't start rustfmt; `rustup component add rustfmt` installs it")?;
    let mut stdin = child.stdin.take().context("rustfmt has no input")?;
    // rustfmt reads everything before it writes, so neither side waits for the other.
    stdin.write_all(code.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "rustfmt: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}
