//! `daybook reconcile`: compares totals that independent code computes from independent sources: the
//! importer's report of the file, the audit of the journal, Postgres, the CQL store, and the last record
//! per key of each aggregate topic.

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
/// Longest wait for one answer about progress.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval between two probes.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);
/// Interval between two messages about lagging readers.
const MESSAGE_INTERVAL: Duration = Duration::from_secs(5);

/// Compare the totals of the journal, the views and the aggregate topics
///
/// Exit code 1 if two totals differ.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Report of `daybook import online-retail --report`, which is compared too
    #[arg(long)]
    report: Option<PathBuf>,
    /// Address of the service, whose views must have caught up first
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
}

/// Totals of one source.
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

/// Prints a table of totals; the exit code is 1 if two sources differ.
pub async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    wait_until_caught_up(&args.url).await?;
    let rows = collect(args.report.as_deref(), config).await?;
    print(&rows);
    let (first_source, first) = &rows[0];
    match rows.iter().find(|(_, totals)| totals != first) {
        None => Ok(ExitCode::SUCCESS),
        Some((source, _)) => {
            eprintln!("error: {source} differs from {first_source}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The totals of every source, by the source's name; at least one.
async fn collect(report: Option<&Path>, config: &Config) -> anyhow::Result<Vec<(String, Totals)>> {
    let mut rows = Vec::new();
    if let Some(report) = report {
        rows.push(("the file, by the importer".into(), read_report(report)?));
    }
    let journal = audit::journal_totals(&config.kafka, &config.registry).await?;
    rows.push(("journal (daybook audit)".into(), journal.into()));
    let databases = Databases::connect_lazily(&config.postgres, &config.cql)?;
    for (view, totals) in projections::totals(&databases).await? {
        rows.push((view, totals.into()));
    }
    let registry = Registry::new(&config.registry)?;
    let admin = Admin::new(&config.kafka)?;
    let topics = streams::topic_totals(&config.kafka, &registry, &admin).await?;
    rows.push(("aggregate topic, days".into(), topics.day.into()));
    rows.push(("aggregate topic, hours".into(), topics.hour.into()));
    Ok(rows)
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
    let (started, mut last_message) = (Instant::now(), Instant::now());
    while started.elapsed() < CATCH_UP_TIMEOUT {
        let waiting_for = match probe(url).await {
            Ok(answer) if answer.caught_up => return Ok(()),
            Ok(answer) => lagging(&answer),
            Err(error) => format!("{error:#}"),
        };
        if last_message.elapsed() > MESSAGE_INTERVAL {
            eprintln!("waiting for {waiting_for}");
            last_message = Instant::now();
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
    bail!(
        "the views have not caught up within {} s",
        CATCH_UP_TIMEOUT.as_secs()
    )
}

async fn probe(url: &str) -> anyhow::Result<ProgressAnswer> {
    let url = format!("{}/api/v1/admin/progress", url.trim_end_matches('/'));
    let client = reqwest::Client::builder().timeout(PROBE_TIMEOUT).build()?;
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
                "{} ({}/{}: {} records behind)",
                reader.reader, reader.topic, reader.partition, reader.lag
            )
        })
        .collect();
    match lagging.is_empty() {
        true => "the views to start".into(),
        false => lagging.join(", "),
    }
}
