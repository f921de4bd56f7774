//! The real data, from the file to every place that holds it.

use crate::{alteration, interface};
use anyhow::{Context, Result, ensure};
use schemas::topics::{REVENUE_BY_COUNTRY_DAY, REVENUE_BY_COUNTRY_HOUR};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf};
use system_tests::{
    Daybook, Expectation, Totals, World, audit_log,
    daybook::output_of,
    environment::online_retail,
    ledgers::{self, Aggregates, compare_windows},
    world::COMMAND_TIMEOUT,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_the_same_in_every_ledger() -> Result<()> {
    let world = World::wiped("import").await?;
    let expectation = Expectation::of_online_retail().await?;
    let mut daybook = world.serve().await?;

    let first = import(&world).await?;
    check_report(&first, &expectation)?;
    let commands = expectation.totals.invoices + expectation.products;
    ensure!(
        first["answers"]["new"] == commands,
        "answers: {}",
        first["answers"]
    );
    keep_measurements(&world, &daybook, &first)?;
    daybook.caught_up().await?;
    check_ledgers(&world, &expectation).await?;
    check_commands(&world).await?;
    check_outsider(&world, &expectation.totals).await?;
    interface::check(&daybook, &expectation).await?;

    let again = import(&world).await?;
    check_report(&again, &expectation)?;
    ensure!(
        again["answers"]["new"] == 0,
        "answers: {}",
        again["answers"]
    );
    ensure!(
        again["answers"]["already"] == commands,
        "answers: {}",
        again["answers"]
    );
    daybook.caught_up().await?;
    check_ledgers(&world, &expectation).await?;

    // The stream job reads everything again, and must publish nothing until it has.
    daybook.kill().await?;
    world.serve().await?.caught_up().await?;
    check_ledgers(&world, &expectation).await?;
    alteration::check_copies(&world).await
}

/// Imports the shipped file, which must go well; gives the report.
pub async fn import(world: &World) -> Result<Value> {
    let path = report_path(world);
    let output = output_of(world.import(&online_retail(), &path), COMMAND_TIMEOUT).await?;
    ensure!(
        output.code == 0,
        "the import ended with {}: {}",
        output.code,
        output.stderr
    );
    let (_, report) = ledgers::of_report(&path)?;
    Ok(report)
}

/// Where [`import`] leaves its report.
fn report_path(world: &World) -> PathBuf {
    world.folder.join("import.json")
}

fn check_report(report: &Value, expectation: &Expectation) -> Result<()> {
    let totals: Totals = serde_json::from_value(report.clone())?;
    ensure!(
        totals == expectation.totals,
        "the importer counted {totals:?}"
    );
    ensure!(
        report["products"] == expectation.products,
        "products: {}",
        report["products"]
    );
    let traps: BTreeMap<String, u64> = serde_json::from_value(report["traps"].clone())?;
    ensure!(
        traps == expectation.traps,
        "traps: {traps:?}, expected {:?}",
        expectation.traps
    );
    ensure!(
        report["rejected_rows"] == 0,
        "rejected rows: {}",
        report["rejected_rows"]
    );
    ensure!(
        report["answers"]["refused"] == 0,
        "answers: {}",
        report["answers"]
    );
    Ok(())
}

/// The journal, both views and both aggregate topics against the expectation.
pub async fn check_ledgers(world: &World, expectation: &Expectation) -> Result<()> {
    let expected = expectation.totals;
    let journal = ledgers::of_journal(world).await.context("the journal")?;
    ensure!(
        journal == expected,
        "the journal: {journal:?} instead of {expected:?}"
    );
    let products = ledgers::products_in_journal(world).await?;
    ensure!(
        products == expectation.products,
        "{products} products in the journal"
    );
    let postgres = ledgers::of_postgres(world).await.context("Postgres")?;
    ensure!(
        postgres == expected,
        "Postgres: {postgres:?} instead of {expected:?}"
    );
    let cql = ledgers::of_cql(world).await.context("the CQL store")?;
    ensure!(
        cql == expected,
        "the CQL store: {cql:?} instead of {expected:?}"
    );
    for (size, topic) in [
        ("day", REVENUE_BY_COUNTRY_DAY),
        ("hour", REVENUE_BY_COUNTRY_HOUR),
    ] {
        let aggregates = Aggregates::read(world, &topic).await.context(topic.name)?;
        let totals = aggregates.totals();
        ensure!(
            totals == expected,
            "{}: {totals:?} instead of {expected:?}",
            topic.name
        );
        compare_windows(
            topic.name,
            &aggregates.windows(),
            expectation.windows(size)?,
        )?;
    }
    Ok(())
}

/// `daybook reconcile` and `daybook audit verify` must come to the same.
async fn check_commands(world: &World) -> Result<()> {
    let report = report_path(world);
    let report = report.to_str().context("the folder's name is no text")?;
    let url = format!("http://{}", world.listen());
    let table = world
        .run_well(&["reconcile", "--report", report, "--url", &url])
        .await?;
    let rows = table
        .stdout
        .lines()
        .filter(|line| line.ends_with("GBP 9,747,747.93"));
    ensure!(
        rows.count() == 6,
        "not six rows of the same total:\n{}",
        table.stdout
    );
    let verified = audit_log::verify(world).await?;
    let voids = verified["partitions"].as_array().into_iter().flatten();
    let voids: Vec<&Value> = voids.map(|partition| &partition["void"]).collect();
    ensure!(
        voids.iter().all(|void| **void == json!({})),
        "void records: {voids:?}"
    );
    Ok(())
}

/// A program without any code of ours must read the same from the log.
async fn check_outsider(world: &World, expected: &Totals) -> Result<()> {
    let (brokers, registry) = (
        &world.environment.kafka_brokers,
        &world.environment.registry_url,
    );
    let found = world.python("consumer.py", &[brokers, registry]).await?;
    let found: BTreeMap<String, Totals> = serde_json::from_str(&found)?;
    ensure!(found.len() == 3, "topics read: {found:?}");
    for (topic, totals) in found {
        ensure!(
            totals == *expected,
            "an outsider reads from {topic}: {totals:?}"
        );
    }
    Ok(())
}

/// For people: how fast the import was and how much memory the service took, in `import.json` of the
/// tests' folder. Nothing is checked: a machine that others use too is no place for a bound.
fn keep_measurements(world: &World, daybook: &Daybook, report: &Value) -> Result<()> {
    let measured = json!({
        "profile": "dev",
        "peak_memory_bytes": daybook.peak_memory_bytes()?,
        "commands_per_second": report["commands_per_second"],
        "seconds": report["seconds"],
    });
    println!("import: {measured}");
    let path = world.environment.folder.join("import.json");
    std::fs::write(&path, format!("{measured:#}\n")).with_context(|| path.display().to_string())
}
