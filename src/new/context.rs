//! `daybook new context`.

use super::{
    aggregate, avro, edit,
    names::{AggregateName, ContextName},
    registry::{REGISTRY, REGISTRY_ANCHORS},
    template::Values,
    tree::Changes,
};
use anyhow::{Result, ensure};

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
