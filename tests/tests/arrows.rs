//! The arrows between crates, and what every source file owes its reader. Needs no server.

mod checkout;

use anyhow::{Context, Result, ensure};
use cargo_metadata::{DependencyKind, MetadataCommand, Package};
use checkout::{File, files, root};

/// Whom of ours each crate may name, in its tests too. `audit` stands apart from `journal` on
/// purpose, and nobody but `commands` knows the rules.
const MAY_NAME: [(&str, &[&str]); 11] = [
    ("schemas", &[]),
    ("service", &[]),
    ("domain", &["schemas"]),
    ("kafka", &["schemas"]),
    ("journal", &["schemas", "kafka"]),
    ("audit", &["schemas", "kafka"]),
    (
        "commands",
        &["schemas", "domain", "kafka", "journal", "service"],
    ),
    ("projections", &["schemas", "kafka", "journal", "service"]),
    ("streams", &["schemas", "kafka", "journal", "service"]),
    (
        "daybook",
        &[
            "schemas",
            "kafka",
            "journal",
            "audit",
            "commands",
            "projections",
            "streams",
            "service",
        ],
    ),
    (JOURNAL_BENCH, &["schemas", "kafka", "journal", "service"]),
];

/// Measures the owners beside a peer that keeps its events in Postgres.
const JOURNAL_BENCH: &str = "bench-journal";
/// May name everything: it looks at the whole from outside.
const SYSTEM_TESTS: &str = "system-tests";

/// Libraries that one crate alone names, so that the others can't get round it.
const HOMES: [(&str, &str); 5] = [
    ("fjall", "journal"),
    ("rdkafka", "kafka"),
    ("schema_registry_converter", "kafka"),
    ("sqlx", "projections"),
    ("scylla", "projections"),
];

/// All that the rules are made of.
const DOMAIN_IS_MADE_OF: [&str; 3] = ["schemas", "serde", "thiserror"];

/// Words of clocks, randomness, threads and I/O. The contract has one place with a clock:
/// `CommandId::fresh`, which the rules must not call.
const IMPURE: [&str; 11] = [
    "std::fs",
    "std::io",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::time",
    "async fn",
    "tokio",
    "fresh()",
    "rand::",
];

/// Longest file, in lines, that needs no excuse.
const FILE_LINES_MAX: usize = 500;
/// Stands in the first line of a longer one, with the reason.
const LONG_FILE_MARK: &str = "over 500 lines";
/// What counts as source.
const SOURCES: [&str; 6] = ["rs", "sh", "py", "sql", "cql", "avsc"];
/// Golden files are written by programs.
const GOLDEN: &str = "schemas/golden/";

/// Names that say nothing of what is inside.
const DRAWERS: [&str; 7] = [
    "common", "util", "utils", "helper", "helpers", "misc", "shared",
];

#[test]
fn every_crate_names_only_those_below_it() -> Result<()> {
    let packages = packages()?;
    let names: Vec<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    for package in &packages {
        let name = package.name.as_str();
        if name == SYSTEM_TESTS {
            continue;
        }
        let (_, allowed) = MAY_NAME
            .iter()
            .find(|(known, _)| *known == name)
            .with_context(|| format!("crate {name} has no line in MAY_NAME"))?;
        for dependency in &package.dependencies {
            let other = dependency.name.as_str();
            ensure!(
                !names.contains(&other) || allowed.contains(&other),
                "crate {name} must not name crate {other}"
            );
        }
    }
    Ok(())
}

#[test]
fn libraries_stay_in_the_crate_that_wraps_them() -> Result<()> {
    for package in packages()? {
        let name = package.name.as_str();
        for (library, home) in HOMES {
            let is_named = package.dependencies.iter().any(|one| one.name == library);
            // The system tests look into the databases with their own eyes.
            let is_of_tests = name == SYSTEM_TESTS && home == "projections";
            // The peer's store takes connections of its own client library alone.
            let is_of_peer = name == JOURNAL_BENCH && library == "sqlx";
            let may_name = name == home || is_of_tests || is_of_peer;
            ensure!(
                may_name || !is_named,
                "crate {name} names {library}; {home} wraps it"
            );
        }
    }
    Ok(())
}

#[test]
fn the_rules_are_pure() -> Result<()> {
    for package in packages()? {
        let dependencies = package.dependencies.iter();
        for dependency in dependencies.filter(|one| one.kind != DependencyKind::Development) {
            let name = dependency.name.as_str();
            ensure!(
                package.name.as_str() != "domain" || DOMAIN_IS_MADE_OF.contains(&name),
                "domain must not name {name}"
            );
        }
    }
    for file in files()?
        .iter()
        .filter(|file| file.path.starts_with("domain/src/"))
    {
        for word in IMPURE {
            ensure!(!file.text.contains(word), "{} has {word}", file.path);
        }
    }
    Ok(())
}

#[test]
fn every_rust_file_opens_with_its_role() -> Result<()> {
    let files = files()?;
    let sources: Vec<&File> = files
        .iter()
        .filter(|file| file.path.ends_with(".rs"))
        .collect();
    ensure!(!sources.is_empty(), "there are no sources at all");
    for file in sources {
        ensure!(
            file.text.starts_with("//! "),
            "{} does not begin with //!",
            file.path
        );
    }
    Ok(())
}

#[test]
fn long_files_say_why() -> Result<()> {
    for file in files()? {
        let extension = file
            .path
            .rsplit_once('.')
            .map_or("", |(_, extension)| extension);
        if !SOURCES.contains(&extension) || file.path.starts_with(GOLDEN) {
            continue;
        }
        let lines = file.text.lines().count();
        let first = file.text.lines().next().unwrap_or_default();
        ensure!(
            lines <= FILE_LINES_MAX || first.contains(LONG_FILE_MARK),
            "{} has {lines} lines, and its first one does not say why it is {LONG_FILE_MARK}",
            file.path
        );
    }
    Ok(())
}

#[test]
fn no_file_or_folder_is_a_drawer() -> Result<()> {
    for file in files()? {
        for part in file.path.split('/') {
            let name = part.split('.').next().unwrap_or_default();
            ensure!(
                !DRAWERS.contains(&name),
                "{}: {part} says nothing of its content",
                file.path
            );
        }
    }
    Ok(())
}

/// The crates of the workspace.
fn packages() -> Result<Vec<Package>> {
    let mut command = MetadataCommand::new();
    let command = command.manifest_path(root().join("Cargo.toml")).no_deps();
    Ok(command.exec().context("cargo metadata")?.packages)
}
