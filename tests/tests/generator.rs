//! `daybook new`, in a copy of the source tree: each call creates and changes the expected files, and the result
//! builds and passes its tests. Needs no server.

use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use system_tests::generated_tree::{Build, Copy};

/// A call of `daybook new`, and the files that it may touch.
struct Step {
    call: &'static str,
    created: &'static [&'static str],
    /// Each with the number of its added lines. A word added to a line adds 0 lines; `None` if the code is
    /// more than a line.
    changed: &'static [(&'static str, Option<usize>)],
}

/// One call of each kind. Together with the golden files, these are all files that a new feature touches.
const STEPS: [Step; 5] = [
    Step {
        call: "context warehouse --aggregate Shipment",
        created: &[
            "commands/src/contexts/warehouse/mod.rs",
            "commands/src/contexts/warehouse/shipment/create.rs",
            "domain/src/shipment/mod.rs",
            "schemas/avro/warehouse.avsc",
        ],
        changed: &[("domain/src/contexts.rs", Some(1))],
    },
    Step {
        call: "aggregate warehouse PickList",
        created: &[
            "commands/src/contexts/warehouse/pick_list/create.rs",
            "domain/src/pick_list/mod.rs",
        ],
        changed: &[
            ("commands/src/contexts/warehouse/mod.rs", Some(1)),
            ("domain/src/contexts.rs", Some(0)),
            ("schemas/avro/warehouse.avsc", None),
        ],
    },
    Step {
        call: "command warehouse Shipment ArchiveShipment",
        created: &["commands/src/contexts/warehouse/shipment/archive.rs"],
        changed: &[
            ("commands/src/contexts/warehouse/mod.rs", Some(0)),
            ("domain/src/shipment/mod.rs", None),
        ],
    },
    // A handwritten aggregate.
    Step {
        call: "command catalog Product RenameProduct",
        created: &["commands/src/contexts/catalog/product/rename.rs"],
        changed: &[
            ("commands/src/contexts/catalog/mod.rs", Some(0)),
            ("domain/src/product/mod.rs", None),
        ],
    },
    Step {
        call: "view shipment_list --context warehouse",
        created: &[
            "projections/src/views/shipment_list_v1/mod.rs",
            "projections/src/views/shipment_list_v1/query.rs",
            "projections/src/views/shipment_list_v1/sample_rows.sql",
            "projections/src/views/shipment_list_v1/schema.sql",
            "projections/src/views/shipment_list_v1/tables.rs",
            "projections/src/views/shipment_list_v1/tests.rs",
        ],
        changed: &[("projections/src/views/mod.rs", Some(1))],
    },
];

/// The files that the tests write with `UPDATE_GOLDEN=1`.
const GOLDEN: [&str; 5] = [
    "commands/golden/warehouse/fold_v1.txt",
    "commands/golden/warehouse/fold_v1_pairs.txt",
    "schemas/golden/journal.warehouse/v1/PickListCreated.hex",
    "schemas/golden/journal.warehouse/v1/ShipmentCreated.hex",
    "schemas/golden/journal.warehouse/v1/schema.avsc",
];

/// Generated tests, one of each kind, and tests of the whole tree.
const TESTS: [&str; 7] = [
    "a_crate_depends_only_on_those_below_it",
    "every_path_and_link_of_a_document_exists",
    "shipment::tests::it_is_created_once",
    "shipment::tests::archive_shipment_changes_nothing_of_the_shipment",
    "product::tests::rename_product_is_rejected_without_the_product",
    "views::shipment_list_v1::tests::an_event_becomes_a_row",
    "warehouse",
];

#[tokio::test]
async fn each_call_writes_its_files_and_no_others() -> Result<()> {
    let copy = Copy::new()?;
    for step in &STEPS {
        run(&copy, step).await?;
    }
    Ok(())
}

#[tokio::test]
async fn generated_code_is_formatted() -> Result<()> {
    let copy = Copy::new()?;
    for step in &STEPS {
        run(&copy, step).await?;
    }
    let created = STEPS.iter().flat_map(|step| step.created.iter().copied());
    let changed = STEPS
        .iter()
        .flat_map(|step| step.changed)
        .map(|(path, _)| *path);
    let files = created.chain(changed);
    let files: Vec<&str> = files.filter(|path| path.ends_with(".rs")).collect();
    copy.check_format(&files).await
}

#[tokio::test]
async fn a_refused_call_changes_nothing() -> Result<()> {
    let copy = Copy::new()?;
    for step in &STEPS {
        run(&copy, step).await?;
    }
    let mut refused: Vec<(&str, &str)> = vec![
        ("context Warehouse --aggregate Crate", "lower-case letters"),
        ("context depot --aggregate crate", "CamelCase"),
        ("context probe --aggregate Crate", "another name"),
        ("context depot --aggregate Type", "another name"),
        ("context depot --aggregate Result", "another name"),
        ("context depot --aggregate Response", "another name"),
        ("context domain --aggregate Crate", "another name"),
        ("context core --aggregate Crate", "another name"),
        ("context axum --aggregate Crate", "another name"),
        ("context depot --aggregate Product", "already exists"),
        ("context money --aggregate Coin", "schemas/src/money.rs"),
        ("aggregate depot Parcel", "has no context depot"),
        ("aggregate warehouse Decider", "another name"),
        (
            "command warehouse Product MoveProduct",
            "no aggregate Product",
        ),
        ("command catalog Product Rename", "verb phrase"),
        ("command catalog Product ToSchema", "another name"),
        // This aggregate uses the rejections of another module.
        ("command orders Order CancelOrder", "it has no line"),
        ("aggregate orders Creditnote", "creditnote"),
        ("view Shipments --context warehouse", "lower-case"),
        ("view orders_by_customer --context orders", "already exists"),
        ("view orders --context orders", "already exists"),
        (
            "view products --context catalog",
            "already serves /products/",
        ),
    ];
    // A repeated call is refused.
    for step in &STEPS {
        refused.push((step.call, "already"));
    }
    let before = copy.files()?;
    for (call, reason) in refused {
        let output = copy.daybook_new(call).await?;
        ensure!(
            output.code != 0,
            "`daybook new {call}` ended with 0 instead of an error: {}",
            output.stdout
        );
        let stderr = output.stderr;
        ensure!(
            stderr.contains(reason),
            "{call}: {reason:?} not in {stderr}"
        );
        assert_eq!(copy.files()?, before, "{call}");
    }
    Ok(())
}

#[tokio::test]
async fn the_result_builds_and_passes_its_tests() -> Result<()> {
    let copy = Copy::new()?;
    for step in &STEPS {
        run(&copy, step).await?;
    }
    copy.deny_warnings()?;
    let build = Build::of(&copy, "generator")?;
    let before = build.files()?;
    build.test(true, &["--test", "golden"]).await?;
    build.test(true, &["--test", "folds"]).await?;
    let after = build.files()?;
    assert_eq!(created(&before, &after), GOLDEN);
    assert_eq!(changed(&before, &after), Vec::<&str>::new());
    let targets = ["golden", "folds", "arrows", "documents"];
    let targets = targets.into_iter().flat_map(|name| ["--test", name]);
    let targets: Vec<&str> = targets.chain(["--lib"]).collect();
    let log = build.test(false, &targets).await?;
    for test in TESTS {
        ensure!(
            log.contains(&format!("test {test} ... ok\n")),
            "{test} did not run:\n{log}"
        );
    }
    // Clippy compiles everything again, so it runs only with `--full`.
    if std::env::var_os("DEV_TEST_FULL").is_some() {
        build.lint().await?;
    }
    Ok(())
}

/// Makes a call; checks the files that it touched, and its output.
async fn run(copy: &Copy, step: &Step) -> Result<()> {
    let before = copy.files()?;
    let output = copy.daybook_new(step.call).await?;
    ensure!(
        output.code == 0,
        "{}: exit code {} instead of 0: {}",
        step.call,
        output.code,
        output.stderr
    );
    let after = copy.files()?;
    assert_eq!(created(&before, &after), step.created, "{}", step.call);
    let paths: Vec<&str> = step.changed.iter().map(|(path, _)| *path).collect();
    assert_eq!(changed(&before, &after), paths, "{}", step.call);
    for (path, added) in step.changed {
        let lines = |files: &Files| files.get(*path).map_or(0, |text| text.lines().count());
        if let Some(added) = added {
            assert_eq!(lines(&after) - lines(&before), *added, "{path}");
        }
    }
    let printed: Vec<&str> = output.stdout.lines().collect();
    let created = step.created.iter().map(|path| format!("created {path}"));
    let changed = paths.iter().map(|path| format!("changed {path}"));
    let written: Vec<String> = created.chain(changed).collect();
    let (next, paths) = printed.split_last().unwrap_or((&"", &[]));
    assert_eq!(paths, written);
    ensure!(
        next.starts_with("next: "),
        "{}: no \"next: \" at the start of: {next}",
        step.call
    );
    Ok(())
}

type Files = BTreeMap<String, String>;

fn created<'f>(before: &Files, after: &'f Files) -> Vec<&'f str> {
    let paths = after.keys().filter(|path| !before.contains_key(*path));
    paths.map(String::as_str).collect()
}

/// Files with changed content, and deleted files.
fn changed<'f>(before: &'f Files, after: &Files) -> Vec<&'f str> {
    let changed = before
        .iter()
        .filter(|(path, text)| after.get(*path) != Some(*text));
    changed.map(|(path, _)| path.as_str()).collect()
}
