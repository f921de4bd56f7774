//! `daybook new context`.

use super::{
    aggregate, avro, edit,
    names::{AggregateName, ContextName},
    template::Values,
    tree::Changes,
};
use anyhow::{Context, Result, ensure};

/// The registry of contexts.
pub const REGISTRY: &str = "domain/src/contexts.rs";
/// The block of the registry with the contexts' lines.
pub const REGISTRY_ANCHORS: [&str; 1] = ["$generate! {"];

/// Adds a context with its first aggregate; returns the next steps.
pub fn add(
    changes: &mut Changes<'_>,
    name: &ContextName,
    aggregate: &AggregateName,
) -> Result<String> {
    let context = name.as_str();
    let module = format!("schemas/src/{context}.rs");
    ensure!(
        !changes.tree.has(&module),
        "{module} already exists; choose another name, because the context needs this module"
    );
    let values = Values::of_context(name).with_aggregate(aggregate);
    aggregate::create_files(changes, name, aggregate, &values)?;
    let event = values.fill(aggregate::EVENT);
    let events = include_str!("templates/events.avsc.template");
    let events = events.replace("@event@", event.trim_end());
    changes.create(avro::path(name), events)?;
    let module = format!("commands/src/contexts/{context}/mod.rs");
    changes.create(
        module,
        values.fill(include_str!("templates/context.rs.template")),
    )?;
    let line = values.fill("            @context@ { @aggregate@::@Aggregate@ }");
    changes.edit(REGISTRY, |text| {
        edit::append_to_block(text, &REGISTRY_ANCHORS, &line)
    })?;
    Ok(aggregate::NEXT_STEPS.to_owned())
}

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
