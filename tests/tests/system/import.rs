//! The real data, from the file to every source that holds it. The tests that read the results share one import.

use crate::shared_deployment::Shared;
use anyhow::{Context, Result, ensure};
use schemas::topics::{TOPICS, TopicSpec};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use system_tests::{
    Deployment, Expectation, Node, Totals, audit_log,
    deployment::COMMAND_TIMEOUT,
    environment::online_retail,
    expect_eq,
    node::output_of,
    totals_by_source::{self, Aggregates, compare_windows},
};
use tokio::sync::{RwLockMappedWriteGuard, RwLockReadGuard};

/// The beginning of the aggregate topics' names.
const AGGREGATES: &str = "aggregates.";

/// The shared import.
pub static IMPORTED: Shared<Imported> = Shared::new();

/// A deployment after it has imported the whole file and caught up.
pub struct Imported {
    pub deployment: Deployment,
    pub node: Node,
    pub expectation: Expectation,
    report: Value,
}

/// The shared import, for reading.
pub async fn imported() -> Result<RwLockReadGuard<'static, Imported>> {
    IMPORTED.read(Imported::make()).await
}

/// The shared import, for one test that changes it.
async fn imported_alone() -> Result<RwLockMappedWriteGuard<'static, Imported>> {
    IMPORTED.write(Imported::make()).await
}

impl Imported {
    async fn make() -> Result<Self> {
        let deployment = Deployment::new("import")?;
        let expectation = Expectation::of(&online_retail()).await?;
        let mut node = deployment.serve().await?;
        let report = import(&deployment, &online_retail()).await?;
        keep_measurements(&deployment, &node, &report)?;
        node.caught_up().await?;
        Ok(Self {
            deployment,
            node,
            expectation,
            report,
        })
    }

    /// Commands that an import of the file sends.
    fn commands(&self) -> i64 {
        let expectation = &self.expectation;
        expectation.totals.invoices + expectation.products + expectation.priced_products
    }
}

pub async fn the_report_of_the_importer_has_the_totals_of_the_file() -> Result<()> {
    let imported = imported().await?;
    check_report(&imported.report, &imported.expectation)?;
    check_answers(&imported.report, "new", imported.commands())
}

pub async fn the_journal_holds_every_invoice_of_the_file_once() -> Result<()> {
    let imported = imported().await?;
    check_journal(&imported.deployment, &imported.expectation).await
}

pub async fn the_postgres_view_has_the_totals_of_the_file() -> Result<()> {
    let imported = imported().await?;
    let totals = totals_by_source::of_postgres(&imported.deployment).await?;
    compare("Postgres", &totals, &imported.expectation)
}

pub async fn the_cql_view_has_the_totals_of_the_file() -> Result<()> {
    let imported = imported().await?;
    let totals = totals_by_source::of_cql(&imported.deployment).await?;
    compare("the CQL store", &totals, &imported.expectation)
}

pub async fn the_aggregate_topics_have_the_windows_of_the_file() -> Result<()> {
    let imported = imported().await?;
    check_aggregates(&imported.deployment, &imported.expectation).await
}

pub async fn reconcile_shows_the_same_total_for_every_source() -> Result<()> {
    let imported = imported().await?;
    let deployment = &imported.deployment;
    let report = report_path(deployment);
    let report = report.to_str().context("the folder is not UTF-8")?;
    let url = format!("http://{}", deployment.listen());
    let arguments = ["reconcile", "--report", report, "--url", &url];
    let table = deployment.run_successfully(&arguments).await?.stdout;
    let total = pounds(imported.expectation.totals.total_minor);
    let (header, rows) = table.trim().split_once('\n').context("no rows")?;
    ensure!(header.contains("total"), "no column of totals: {table}");
    let other = rows.lines().find(|row| !row.ends_with(&total));
    ensure!(
        other.is_none(),
        "{other:?} does not end with {total}: {table}"
    );
    Ok(())
}

pub async fn audit_verify_finds_no_void_record_after_an_import() -> Result<()> {
    let imported = imported().await?;
    let verified = audit_log::verify(&imported.deployment).await?;
    let partitions = verified["partitions"].as_array().context("no partitions")?;
    let with_void: Vec<&Value> = partitions
        .iter()
        .filter(|partition| partition["void"] != json!({}))
        .collect();
    ensure!(with_void.is_empty(), "void records: {with_void:?}");
    Ok(())
}

pub async fn a_foreign_client_reads_the_same_totals() -> Result<()> {
    let imported = imported().await?;
    let deployment = &imported.deployment;
    let environment = &deployment.environment;
    let prefix = deployment.topic("");
    let mut arguments = vec![
        environment.kafka_brokers.as_str(),
        &environment.registry_url,
        &prefix,
    ];
    arguments.extend(aggregate_topics().map(|topic| topic.name));
    let found = deployment.python("consumer.py", &arguments).await?;
    let found: BTreeMap<String, BTreeMap<String, Totals>> = serde_json::from_str(&found)?;
    let expected = 1 + aggregate_topics().count();
    ensure!(
        found.len() == expected,
        "{found:?} instead of {expected} topics: the journal and every aggregate topic"
    );
    for (topic, by_currency) in found {
        let totals = by_currency.get("GBP").filter(|_| by_currency.len() == 1);
        let totals = totals.with_context(|| format!("{topic}: {by_currency:?}"))?;
        compare(&topic, totals, &imported.expectation)?;
    }
    Ok(())
}

pub async fn a_repeated_import_changes_nothing() -> Result<()> {
    let mut imported = imported_alone().await?;
    let report = import(&imported.deployment, &online_retail()).await?;
    check_report(&report, &imported.expectation)?;
    check_answers(&report, "new", 0)?;
    check_answers(&report, "already", imported.commands())?;
    imported.node.caught_up().await?;
    check_sources(&imported.deployment, &imported.expectation).await
}

/// The job reads the journal from its beginning at each start, and must not publish a window before it has read
/// the whole journal.
pub async fn a_restarted_node_publishes_nothing_twice() -> Result<()> {
    let mut imported = imported_alone().await?;
    imported.node.kill().await?;
    imported.node = imported.deployment.serve().await?;
    imported.node.caught_up().await?;
    check_sources(&imported.deployment, &imported.expectation).await
}

/// Imports a file, which must succeed; returns the report.
pub async fn import(deployment: &Deployment, file: &Path) -> Result<Value> {
    let path = report_path(deployment);
    let output = output_of(deployment.import(file, &path), COMMAND_TIMEOUT).await?;
    ensure!(
        output.code == 0,
        "the import ended with {} instead of 0: {}",
        output.code,
        output.stderr
    );
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

/// The path of the report of [`import`].
fn report_path(deployment: &Deployment) -> PathBuf {
    deployment.folder.join("import.json")
}

fn check_report(report: &Value, expectation: &Expectation) -> Result<()> {
    let totals = totals_by_source::of_report(report)?;
    compare("the importer", &totals, expectation)?;
    ensure!(
        report["products"] == expectation.products,
        "{} products instead of {}",
        report["products"],
        expectation.products
    );
    ensure!(
        report["priced_products"] == expectation.priced_products,
        "{} products with a price instead of {}",
        report["priced_products"],
        expectation.priced_products
    );
    let found: BTreeMap<String, u64> = serde_json::from_value(report["data_quality"].clone())?;
    expect_eq("data quality", &found, &expectation.data_quality)?;
    ensure!(
        report["rejected_rows"] == 0,
        "{} rejected rows instead of 0",
        report["rejected_rows"]
    );
    check_answers(report, "refused", 0)
}

fn check_answers(report: &Value, kind: &str, expected: i64) -> Result<()> {
    let answers = &report["answers"];
    ensure!(
        answers[kind] == expected,
        "{kind} is not {expected}: {answers}"
    );
    Ok(())
}

fn compare(source: &str, found: &Totals, expectation: &Expectation) -> Result<()> {
    expect_eq(source, found, &expectation.totals)
}

async fn check_journal(deployment: &Deployment, expectation: &Expectation) -> Result<()> {
    let totals = totals_by_source::of_journal(deployment).await?;
    compare("the journal", &totals, expectation)?;
    let found = totals_by_source::products_in_journal(deployment).await?;
    let expected = (expectation.products, expectation.priced_products);
    expect_eq("products and price changes", &found, &expected)
}

async fn check_aggregates(deployment: &Deployment, expectation: &Expectation) -> Result<()> {
    for topic in aggregate_topics() {
        let (_, size) = topic.name.rsplit_once('_').context("no size of windows")?;
        let aggregates = Aggregates::read(deployment, &topic).await;
        let aggregates = aggregates.context(topic.name)?;
        compare(topic.name, &aggregates.totals(), expectation)?;
        let windows = aggregates.windows();
        compare_windows(topic.name, &windows, expectation.windows(size)?)?;
    }
    Ok(())
}

/// The aggregate topics; their names end with the size of their windows.
fn aggregate_topics() -> impl Iterator<Item = TopicSpec> {
    let topics = TOPICS.into_iter();
    topics.filter(|topic| topic.name.starts_with(AGGREGATES))
}

/// Compares the journal, both views and the aggregate topics with the expectation.
pub async fn check_sources(deployment: &Deployment, expectation: &Expectation) -> Result<()> {
    check_journal(deployment, expectation).await?;
    let postgres = totals_by_source::of_postgres(deployment).await?;
    compare("Postgres", &postgres, expectation)?;
    let cql = totals_by_source::of_cql(deployment).await?;
    compare("the CQL store", &cql, expectation)?;
    check_aggregates(deployment, expectation).await
}

/// Pence in the format of `daybook reconcile`: `GBP 9,747,747.93`.
fn pounds(pence: i64) -> String {
    let digits = (pence / 100).to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("GBP {grouped}.{:02}", pence % 100)
}

/// Writes the rate of the import and the memory of the node into `import.json` of the tests' folder, for people.
/// The values are not checked, because a shared machine has no reliable bound.
fn keep_measurements(deployment: &Deployment, node: &Node, report: &Value) -> Result<()> {
    let measured = json!({
        "profile": "dev",
        "peak_memory_bytes": node.peak_memory_bytes()?,
        "commands_per_second": report["commands_per_second"],
        "seconds": report["seconds"],
    });
    println!("import: {measured}");
    let path = deployment.environment.folder.join("import.json");
    std::fs::write(&path, format!("{measured:#}\n")).with_context(|| path.display().to_string())
}
