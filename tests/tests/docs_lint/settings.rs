//! The service's settings, read from the source of their structs.

use super::words;
use anyhow::{Context, Result, ensure};
use system_tests::source_tree::File;

/// This struct has a field per section.
const CONFIG: &str = "Config";

/// Every setting as `<section>.<field>`.
pub fn setting_names(files: &[File]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (section, kind) in fields(files, CONFIG)? {
        // The section may be an `Option<Kind>`.
        let kind = words(&kind).last().unwrap_or_default().to_owned();
        let settings = fields(files, &kind)?;
        names.extend(
            settings
                .iter()
                .map(|(field, _)| format!("{section}.{field}")),
        );
    }
    ensure!(!names.is_empty(), "no settings were found");
    Ok(names)
}

/// Names and types of a struct's fields.
fn fields(files: &[File], name: &str) -> Result<Vec<(String, String)>> {
    let head = format!("pub struct {name} {{\n");
    let rust = files.iter().filter(|file| file.path.ends_with(".rs"));
    let body = rust.filter_map(|file| file.text.split_once(&head)).next();
    let (_, body) = body.with_context(|| format!("struct {name} was not found"))?;
    let body = body.split("\n}").next().unwrap_or_default();
    let lines = body
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub "));
    let fields = lines.filter_map(|line| line.trim_end_matches(',').split_once(": "));
    Ok(fields
        .map(|(field, kind)| (field.to_owned(), kind.to_owned()))
        .collect())
}
