//! The registry of contexts in the source tree.

use super::{
    edit,
    names::{AggregateName, ContextName},
    tree::Changes,
};
use anyhow::{Context, Result};

/// The registry of contexts.
pub const REGISTRY: &str = "domain/src/contexts.rs";
/// The block of the registry with the contexts' lines.
pub const REGISTRY_ANCHORS: [&str; 1] = ["$generate! {"];

/// Checks that the registry has a context; returns whether the context has the aggregate.
pub fn find(
    changes: &Changes<'_>,
    context: &ContextName,
    aggregate: &AggregateName,
) -> Result<bool> {
    let text = changes.tree.read(REGISTRY)?;
    let lines = edit::lines_of_block(&text, &REGISTRY_ANCHORS)
        .with_context(|| format!("can't read {REGISTRY}"))?;
    let text = lines.join("\n");
    let anchor = format!("{} {{", context.as_str());
    let line = text
        .lines()
        .position(|line| line.trim_start().starts_with(&anchor));
    let line = line.with_context(|| {
        let name = context.as_str();
        format!("{REGISTRY} has no context {name}: `daybook new context {name}` adds it")
    })?;
    let rest: Vec<&str> = text.lines().skip(line).collect();
    let list = rest.join("\n");
    let list = list.split('}').next().unwrap_or_default();
    let word = format!("{}::{}", aggregate.module(), aggregate.type_name());
    let mut words = list.split([',', '{', ' ', '\n']);
    Ok(words.any(|found| found == word))
}
