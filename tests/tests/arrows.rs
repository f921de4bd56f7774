//! The dependencies between crates and between the modules of a crate, and the form of every source file.
//! Needs no server.

mod module_graph;

use anyhow::{Context, Result, ensure};
use cargo_metadata::{DependencyKind, MetadataCommand, Package};
use module_graph::ModuleGraph;
use system_tests::source_tree::{File, files, root};

/// The crates of the workspace that each crate and its tests may depend on. `audit` is deliberately independent
/// of `journal`, and only `commands` knows the rules.
const MAY_DEPEND_ON: [(&str, &[&str]); 15] = [
    ("schemas", &[]),
    ("backoff", &[]),
    ("service", &["backoff"]),
    ("domain", &["schemas"]),
    ("kafka", &["schemas", "backoff"]),
    ("journal", &["schemas", "kafka", "backoff"]),
    // It runs the fold and the write order of views, which need no server.
    (
        "journal-simulator",
        &["schemas", "kafka", "journal", "projections"],
    ),
    ("audit", &["schemas", "kafka", "backoff"]),
    // A client of the HTTP API.
    ("import", &["schemas", "service"]),
    (
        "commands",
        &[
            "schemas", "domain", "kafka", "journal", "service", "backoff",
        ],
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
            "import",
            "service",
        ],
    ),
    (JOURNAL_BENCH, &["schemas", "kafka", "journal", "service"]),
    // A client of the HTTP API and of Postgres.
    (QUERIES_BENCH, &[]),
];

/// Measures the owners against a baseline that keeps its events in Postgres.
const JOURNAL_BENCH: &str = "bench-journal";
/// Measures the queries against plain SQL on the same rows.
const QUERIES_BENCH: &str = "bench-http";
/// May depend on everything: it tests the composed system.
const SYSTEM_TESTS: &str = "system-tests";

/// Libraries that only one crate may depend on, so that other crates can't bypass it.
const HOMES: [(&str, &str); 5] = [
    ("fjall", "journal"),
    ("rdkafka", "kafka"),
    ("schema_registry_converter", "kafka"),
    ("sqlx", "projections"),
    ("scylla", "projections"),
];

/// The only dependencies of the rules.
const DOMAIN_DEPENDENCIES: [&str; 3] = ["schemas", "serde", "thiserror"];

/// Words of clocks, randomness, threads and I/O. The contract reads a clock only in `CommandId::fresh`, which the
/// rules must not call.
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

/// Longest file, in lines, that needs no reason.
const FILE_LINES_MAX: usize = 500;
/// A longer file has this text in its first line, with the reason.
const LONG_FILE_MARK: &str = "over 500 lines";
/// Endings of source files.
const SOURCES: [&str; 6] = ["rs", "sh", "py", "sql", "cql", "avsc"];
/// Golden files are written by programs.
const GOLDEN: &str = "schemas/golden/";

/// Names that say nothing about the content.
const EMPTY_NAMES: [&str; 7] = [
    "common", "util", "utils", "helper", "helpers", "misc", "shared",
];

#[test]
fn a_crate_depends_only_on_those_below_it() -> Result<()> {
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
        let (_, allowed) = MAY_DEPEND_ON
            .iter()
            .find(|(known, _)| *known == name)
            .with_context(|| format!("crate {name} has no line in MAY_DEPEND_ON"))?;
        for dependency in &package.dependencies {
            let other = dependency.name.as_str();
            ensure!(
                !names.contains(&other) || allowed.contains(&other),
                "crate {name} must not depend on crate {other}"
            );
        }
    }
    Ok(())
}

#[test]
fn the_modules_of_a_crate_name_each_other_in_one_direction() -> Result<()> {
    let files = files()?;
    let mut cycles = Vec::new();
    for package in packages()? {
        let manifest = package
            .manifest_path
            .parent()
            .context("a manifest without a folder")?;
        let folder = manifest
            .strip_prefix(root())
            .context("a crate outside the root")?;
        let sources = folder.join("src/");
        let graph = ModuleGraph::read(&files, sources.as_str())?;
        let of_crate = graph.cycles().into_iter();
        cycles.extend(of_crate.map(|cycle| format!("{}:\n    {cycle}", package.name)));
    }
    ensure!(
        cycles.is_empty(),
        "{} cycles:\n{}",
        cycles.len(),
        cycles.join("\n")
    );
    Ok(())
}

#[test]
fn a_library_is_used_only_by_the_crate_that_wraps_it() -> Result<()> {
    for package in packages()? {
        let name = package.name.as_str();
        for (library, home) in HOMES {
            let is_named = package.dependencies.iter().any(|one| one.name == library);
            // The system tests read the databases with queries of their own.
            let is_of_tests = name == SYSTEM_TESTS && home == "projections";
            // One baseline keeps its events in Postgres, the other reads the rows of the views with plain SQL.
            let is_of_baseline =
                [JOURNAL_BENCH, QUERIES_BENCH].contains(&name) && library == "sqlx";
            let may_name = name == home || is_of_tests || is_of_baseline;
            ensure!(
                may_name || !is_named,
                "crate {name} depends on {library}; use {home}, which wraps it"
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
                package.name.as_str() != "domain" || DOMAIN_DEPENDENCIES.contains(&name),
                "domain must not depend on {name}"
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
fn every_rust_file_begins_with_its_documentation() -> Result<()> {
    let files = files()?;
    let sources: Vec<&File> = files
        .iter()
        .filter(|file| file.path.ends_with(".rs"))
        .collect();
    ensure!(!sources.is_empty(), "no sources were found");
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
            "{} has {lines} lines, and its first line does not say why it is {LONG_FILE_MARK}",
            file.path
        );
    }
    Ok(())
}

#[test]
fn every_file_and_folder_is_named_for_its_content() -> Result<()> {
    for file in files()? {
        for part in file.path.split('/') {
            let name = part.split('.').next().unwrap_or_default();
            ensure!(
                !EMPTY_NAMES.contains(&name),
                "{}: {part} says nothing about its content",
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
