//! The queries of a load: a file with one path, or one key, per line.

use anyhow::{Context, Result, ensure};
use std::path::Path;

/// Reads the lines of a file.
///
/// # Errors
/// The file can't be read, or is empty.
pub fn read(file: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    ensure!(!lines.is_empty(), "{} is empty", file.display());
    Ok(lines)
}

/// A random line.
pub fn any(lines: &[String]) -> &str {
    &lines[fastrand::usize(..lines.len())]
}
