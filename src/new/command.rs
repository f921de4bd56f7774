//! `daybook new command`.

use super::{
    aggregate,
    edit::{self, EditError},
    names::{AggregateName, CommandName, ContextName},
    registry,
    template::Values,
    tree::Changes,
};
use anyhow::{Context, Result, ensure};

const RULE: &str = include_str!("templates/rule.rs.template");
const RULE_TEST: &str = include_str!("templates/rule_test.rs.template");
const RULE_TEST_EXISTING: &str = include_str!("templates/rule_test_existing.rs.template");
/// The function in the aggregate's tests that returns its first event.
const FIRST_EVENT: &str = "fn created() -> Event {";

/// Adds a command to an aggregate; returns the next steps.
pub fn add(
    changes: &mut Changes<'_>,
    context: &ContextName,
    aggregate: &AggregateName,
    name: &CommandName,
) -> Result<String> {
    let exists = registry::find(changes, context, aggregate)?;
    let (type_name, module) = (aggregate.type_name(), aggregate.module());
    ensure!(exists, "{} has no aggregate {type_name}", context.as_str());
    aggregate::check_command_name(changes, name.type_name())?;
    let rules = format!("domain/src/{module}/mod.rs");
    let text = changes.tree.read(&rules)?;
    let function = name.function(aggregate);
    ensure!(
        !text.contains(&format!("fn {function}(")),
        "{rules} already has a function {function}"
    );
    let states = states(&text).with_context(|| format!("can't read the states of {rules}"))?;
    let values = Values::of_context(context)
        .with_aggregate(aggregate)
        .with_command(name, aggregate)
        .with("absent", states.absent)
        .with("present", states.present.join(" | "));
    add_rule(changes, &rules, &values)?;
    let code = not_found_code(changes, &rules, &values)?;
    let values = values.with("not found", code);
    let folder = format!("commands/src/contexts/{}", context.as_str());
    changes.create(
        format!("{folder}/{module}/{function}.rs"),
        values.fill(include_str!("templates/command.rs.template")),
    )?;
    let word = values.fill("@function@::@Command@");
    changes.edit(&format!("{folder}/mod.rs"), |text| {
        edit::append_word(text, &["commands! {"], &module, &word)
    })?;
    Ok(format!(
        "`cargo test -p domain -p commands`; then add the body's fields, and the events of `{function}` in {rules}"
    ))
}

/// Patterns for the aggregate's states.
struct States {
    /// The default state, in which the aggregate does not exist.
    absent: String,
    /// All other states.
    present: Vec<String>,
}

/// Reads the patterns of the enum `State`.
fn states(text: &str) -> Result<States> {
    let lines = edit::lines_of_block(text, &["pub enum State {"])?;
    let (mut absent, mut present, mut is_default) = (None, Vec::new(), false);
    for line in lines {
        let variant = line.strip_prefix("    ").unwrap_or_default();
        if variant == "#[default]" {
            is_default = true;
        } else if variant.starts_with(|c: char| c.is_ascii_uppercase()) {
            let pattern = pattern(variant);
            match std::mem::take(&mut is_default) {
                true => absent = Some(pattern),
                false => present.push(pattern),
            }
        }
    }
    let absent = absent.context("the enum `State` must have a variant with `#[default]`")?;
    ensure!(
        !present.is_empty(),
        "the enum `State` must have a variant beside the default one"
    );
    Ok(States { absent, present })
}

/// The pattern of a variant that begins with `line`.
fn pattern(line: &str) -> String {
    let end = line.find(|c: char| !c.is_ascii_alphanumeric());
    let (name, rest) = line.split_at(end.unwrap_or(line.len()));
    match rest.trim_start().chars().next() {
        Some('{') => format!("State::{name} {{ .. }}"),
        Some('(') => format!("State::{name}(..)"),
        _ => format!("State::{name}"),
    }
}

/// Adds the command's variant, its arm in `decide`, its rule and the rule's tests.
fn add_rule(changes: &mut Changes<'_>, rules: &str, values: &Values) -> Result<()> {
    let text = changes.tree.read(rules)?;
    let variants = edit::lines_of_block(&text, &["pub enum Command {"])
        .with_context(|| format!("can't edit {rules}"))?;
    let verb = values.fill("@Verb@");
    let is_verb = |line: &&str| pattern(line.trim()) == format!("State::{verb}");
    ensure!(
        !variants.iter().any(is_verb),
        "{rules} already has a command {verb}"
    );
    let mut tests = values.fill(RULE_TEST);
    if text.lines().any(|line| line.trim() == FIRST_EVENT) {
        tests += &values.fill(RULE_TEST_EXISTING);
    }
    changes.edit(rules, |text| {
        let variant = values.fill("    /// @Sentence@.\n    @Verb@,");
        let text = edit::append_to_block(text, &["pub enum Command {"], &variant)?;
        let arm = values.fill("            Command::@Verb@ => @function@(state),");
        let text = edit::append_to_block(&text, &["match command {"], &arm)?;
        let text = edit::insert_before(&text, "#[cfg(test)]", &values.fill(RULE))?;
        edit::append_to_block(&text, &["mod tests {"], &tests)
    })
}

/// The code of the rejection `Unknown`. Adds this rejection to an aggregate without it.
fn not_found_code(changes: &mut Changes<'_>, rules: &str, values: &Values) -> Result<String> {
    let text = changes.tree.read(rules)?;
    let code_anchors = ["fn code(&self) -> &'static str {", "match self {"];
    let kind_anchors = ["fn kind(&self) -> RejectionKind {", "match self {"];
    let codes = edit::lines_of_block(&text, &code_anchors)
        .with_context(|| format!("can't edit {rules}"))?;
    let known = codes.iter().find_map(|line| {
        let code = line.trim().strip_prefix("Self::Unknown => \"")?;
        code.strip_suffix("\",")
    });
    if let Some(code) = known {
        return Ok(code.to_owned());
    }
    let code = values.fill("@CODE@_NOT_FOUND");
    changes.edit(rules, |text| -> Result<String, EditError> {
        let variant = values.fill(
            "    /// The @words@ does not exist.\n    #[error(\"the @words@ does not exist\")]\n    Unknown,",
        );
        let text = edit::append_to_block(text, &["pub enum Rejection {"], &variant)?;
        let arm = format!("            Self::Unknown => \"{code}\",");
        let text = edit::append_to_block(&text, &code_anchors, &arm)?;
        let arm = "            Self::Unknown => RejectionKind::NotFound,";
        edit::append_to_block(&text, &kind_anchors, arm)
    })?;
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_patterns_of_every_form() {
        let text = "\
pub enum State {
    /// None.
    #[default]
    Unknown,
    Created {
        name: String,
    },
    Priced(i64),
}
";
        let states = states(text).unwrap();
        assert_eq!(states.absent, "State::Unknown");
        assert_eq!(
            states.present,
            ["State::Created { .. }", "State::Priced(..)"]
        );
        super::states("pub enum State {\n    A,\n}\n")
            .map(drop)
            .unwrap_err();
    }
}
