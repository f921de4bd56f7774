//! `daybook reconcile`: every ledger must add up to the book.
//!
//! Five sources, five pieces of code: the importer's count of the file, the audit's reading of the
//! journal, Postgres, the CQL store, and the last record per key of each aggregate topic.

use crate::{config::Config, serve::ProgressAnswer};
use anyhow::{Context, bail};
use kafka::{Admin, Registry};
use projections::Databases;
use schemas::{Currency, Money};
use serde::Deserialize;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use tokio::time::Instant;

/// Longest wait for the views to catch up.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest wait for a connection to the CQL store.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for one look.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Time between two words about what is waited for.
const WORD_INTERVAL: Duration = Duration::from_secs(5);

/// Compare the totals of the journal, of the views and of the aggregate topics
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The report of `daybook import online-retail --report`, to be compared as well
    #[arg(long)]
    report: Option<PathBuf>,
    /// The service, to wait until its views have caught up
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
}

/// What one source adds up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct Totals {
    invoices: i64,
    sales: i64,
    credit_notes: i64,
    lines: i64,
    total_minor: i64,
}

macro_rules! totals_from {
    ($($other:ty),+) => {$(
        impl From<$other> for Totals {
            fn from(other: $other) -> Self {
                Self {
                    invoices: other.invoices,
                    sales: other.sales,
                    credit_notes: other.credit_notes,
                    lines: other.lines,
                    total_minor: other.total_minor,
                }
            }
        }
    )+};
}

totals_from!(audit::Totals, projections::totals::Totals, streams::Totals);

/// Prints the table; exit code 1 if two sources differ.
pub async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    wait_until_caught_up(&args.url).await?;
    let mut rows: Vec<(String, Totals)> = Vec::new();
    if let Some(report) = &args.report {
        rows.push(("the file, by the importer".into(), read_report(report)?));
    }
    let journal = audit::journal_totals(&config.kafka, &config.registry).await?;
    rows.push(("journal (daybook audit)".into(), journal.into()));
    let databases = Databases::connect_lazily(&config.postgres, &config.cql)?;
    let postgres = projections::totals::postgres_totals(&databases.postgres).await?;
    rows.push(("Postgres orders_v1".into(), postgres.into()));
    let session = databases.cql.session_within(CONNECT_TIMEOUT).await?;
    let cql = projections::totals::cql_totals(&session).await?;
    rows.push(("CQL orders_by_customer_v1".into(), cql.into()));
    let registry = Registry::new(&config.registry)?;
    let topics =
        streams::topic_totals(&config.kafka, &registry, &Admin::new(&config.kafka)?).await?;
    rows.push(("aggregate topic, days".into(), topics.day.into()));
    rows.push(("aggregate topic, hours".into(), topics.hour.into()));
    print(&rows);
    let (_, first) = rows[0];
    match rows.iter().find(|(_, totals)| *totals != first) {
        None => Ok(ExitCode::SUCCESS),
        Some((source, _)) => {
            eprintln!("error: {source} differs from {}", rows[0].0);
            Ok(ExitCode::FAILURE)
        }
    }
}

fn read_report(path: &Path) -> anyhow::Result<Totals> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

fn print(rows: &[(String, Totals)]) {
    println!(
        "{:<28}{:>10}{:>10}{:>14}{:>10}{:>22}",
        "", "invoices", "sales", "credit notes", "lines", "total"
    );
    for (source, totals) in rows {
        let total = Money {
            amount: totals.total_minor,
            currency: Currency::GBP,
        }
        .to_string();
        println!(
            "{source:<28}{:>10}{:>10}{:>14}{:>10}{total:>22}",
            totals.invoices, totals.sales, totals.credit_notes, totals.lines
        );
    }
}

async fn wait_until_caught_up(url: &str) -> anyhow::Result<()> {
    let (started, mut said) = (Instant::now(), Instant::now());
    while started.elapsed() < CATCH_UP_TIMEOUT {
        let waiting_for = match look(url).await {
            Ok(answer) if answer.caught_up => return Ok(()),
            Ok(answer) => lagging(&answer),
            Err(error) => format!("{error:#}"),
        };
        if said.elapsed() > WORD_INTERVAL {
            eprintln!("waiting for {waiting_for}");
            said = Instant::now();
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    bail!(
        "the views have not caught up within {} s",
        CATCH_UP_TIMEOUT.as_secs()
    )
}

async fn look(url: &str) -> anyhow::Result<ProgressAnswer> {
    let url = format!("{}/api/v1/admin/progress", url.trim_end_matches('/'));
    let client = reqwest::Client::builder().timeout(LOOK_TIMEOUT).build()?;
    let answer = client.get(&url).send().await.with_context(|| url.clone())?;
    answer.error_for_status()?.json().await.with_context(|| url)
}

fn lagging(answer: &ProgressAnswer) -> String {
    let lagging: Vec<String> = answer
        .readers
        .iter()
        .filter(|reader| reader.lag > 0)
        .map(|reader| {
            format!(
                "{} ({}/{}: {} to go)",
                reader.reader, reader.topic, reader.partition, reader.lag
            )
        })
        .collect();
    match lagging.is_empty() {
        true => "the views to begin".into(),
        false => lagging.join(", "),
    }
}
