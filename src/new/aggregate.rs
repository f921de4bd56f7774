//! `daybook new aggregate`, and the files of a context's first aggregate.

use super::{
    avro, edit,
    names::{AggregateName, ContextName},
    registry::{self, REGISTRY, REGISTRY_ANCHORS},
    template::Values,
    tree::Changes,
};
use anyhow::{Context, Result, ensure};

/// The Avro record of an aggregate's first event.
pub const EVENT: &str = include_str!("templates/event.avsc.template");
/// The next steps after a new context; [`next_steps`] returns those after a new aggregate.
pub const NEXT_STEPS: &str = "`UPDATE_GOLDEN=1 cargo test -p schemas`, then `UPDATE_GOLDEN=1 cargo test -p commands` write the golden files; then adapt the event, the rule and the command to the aggregate";

/// Adds an aggregate to a context; returns the next steps.
pub fn add(
    changes: &mut Changes<'_>,
    context: &ContextName,
    name: &AggregateName,
) -> Result<String> {
    let exists = registry::find(changes, context, name)?;
    ensure!(!exists, "the aggregate {} already exists", name.type_name());
    check_stored_type(changes, context, name)?;
    let values = Values::of_context(context).with_aggregate(name);
    create_files(changes, context, name, &values)?;
    let events = avro::path(context);
    changes.edit(&events, |text| avro::append(text, &values.fill(EVENT)))?;
    let word = values.fill("@aggregate@::@Aggregate@");
    changes.edit(REGISTRY, |text| {
        edit::append_word(text, &REGISTRY_ANCHORS, context.as_str(), &word)
    })?;
    let commands = format!("commands/src/contexts/{}/mod.rs", context.as_str());
    let line = values.fill("    @aggregate@ { create::Create@Aggregate@ }");
    changes.edit(&commands, |text| {
        edit::append_to_block(text, &["commands! {"], &line)
    })?;
    Ok(next_steps(changes, context))
}

/// Refuses an aggregate whose name differs from an existing name only in case: both would have the same stored type.
fn check_stored_type(
    changes: &Changes<'_>,
    context: &ContextName,
    name: &AggregateName,
) -> Result<()> {
    let path = avro::path(context);
    let events = avro::events(&changes.tree.read(&path)?).with_context(|| path.clone())?;
    let mut known = events
        .iter()
        .filter_map(|event| event["aggregate"].as_str());
    let same = known.find(|known| known.eq_ignore_ascii_case(name.type_name()));
    match same {
        None => Ok(()),
        Some(same) => anyhow::bail!(
            "the aggregate {same} already has the stored type {}",
            same.to_lowercase()
        ),
    }
}

/// The next steps after a new aggregate. If the context has golden files, its format is stored,
/// and a new event needs a new version of the format.
fn next_steps(changes: &Changes<'_>, context: &ContextName) -> String {
    let name = context.as_str();
    let version = |number: &usize| format!("schemas/golden/journal.{name}/v{number}");
    let newest = (1..).take_while(|number| changes.tree.has(&version(number)));
    match newest.last() {
        None => NEXT_STEPS.to_owned(),
        Some(newest) => format!(
            "`mkdir {}`, raise FOLD_VERSION in commands/src/contexts/{name}/mod.rs, {NEXT_STEPS}",
            version(&(newest + 1))
        ),
    }
}

/// Creates the aggregate's folders and its first command, which creates an aggregate.
pub fn create_files(
    changes: &mut Changes<'_>,
    context: &ContextName,
    name: &AggregateName,
    values: &Values,
) -> Result<()> {
    let module = name.module();
    let rules = format!("domain/src/{module}");
    for path in [rules.clone(), format!("{rules}.rs")] {
        ensure!(!changes.tree.has(&path), "{path} already exists");
    }
    check_event_name(changes, context, &values.fill("@Aggregate@Created"))?;
    check_command_name(changes, &values.fill("Create@Aggregate@"))?;
    changes.create(
        format!("{rules}/mod.rs"),
        values.fill(include_str!("templates/aggregate.rs.template")),
    )?;
    let command = format!(
        "commands/src/contexts/{}/{module}/create.rs",
        context.as_str()
    );
    changes.create(
        command,
        values.fill(include_str!("templates/create.rs.template")),
    )
}

fn check_event_name(changes: &Changes<'_>, context: &ContextName, name: &str) -> Result<()> {
    let path = avro::path(context);
    if !changes.tree.has(&path) {
        return Ok(());
    }
    let events = avro::events(&changes.tree.read(&path)?).with_context(|| path.clone())?;
    let exists = events.iter().any(|event| event["name"] == name);
    ensure!(!exists, "{path} already has an event {name}");
    Ok(())
}

/// Refuses a command's name that exists in any context: a batch finds commands by name alone.
pub fn check_command_name(changes: &Changes<'_>, name: &str) -> Result<()> {
    let constant = format!("const NAME: &'static str = \"{name}\"");
    let found = changes.tree.file_with("commands/src/contexts", &constant)?;
    match found {
        Some(path) => anyhow::bail!("{} already has a command {name}", path.display()),
        None => Ok(()),
    }
}
