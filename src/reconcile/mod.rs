//! `daybook reconcile`: compares totals that independent code computes from independent sources: the
//! importer's report of the file, the audit of the journal, Postgres, the CQL store, and the last record
//! per key of each aggregate topic.
//!
//! Commands may be decided during the comparison, so each source is read with its position in the journal, and
//! compared with the journal up to that position. [`sources`] reads them, [`progress`] waits until the views have
//! reached the journal's current end, and [`comparison`] compares and prints.

mod comparison;
mod progress;
mod sources;

use crate::config::Config;
use clap::Args as ClapArgs;
use comparison::Comparison;
use sources::Sources;
use std::{path::PathBuf, process::ExitCode};

/// Maximum number of comparisons, each at a later position. A view without snapshots can't return an
/// order as it was before a change; the next comparison is at a position after the change.
const ATTEMPTS_MAX: u32 = 3;

/// Compare the totals of the journal, the views and the aggregate topics
///
/// Commands may be sent during the comparison: each source is compared with the journal up to the position that the source
/// has read. Exit code 1 if two totals differ.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Report of `daybook import online-retail --report`: its totals are compared with those of the same invoices
    /// in the journal
    #[arg(long)]
    report: Option<PathBuf>,
    /// Address of the node that runs the views and the job
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
}

/// Prints a table of totals; the exit code is 1 if two sources differ.
pub async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let sources = Sources::open(config, &args.url, args.report.as_deref())?;
    let mut attempt = 1;
    let comparison = loop {
        let comparison = sources.compare().await?;
        if comparison.difference().is_none() || attempt == ATTEMPTS_MAX {
            break comparison;
        }
        attempt += 1;
        eprintln!(
            "the totals differ; attempt {attempt} of {ATTEMPTS_MAX} compares them at a later position"
        );
    };
    print(&comparison);
    match comparison.difference() {
        None => Ok(ExitCode::SUCCESS),
        Some(difference) => {
            eprintln!("error: {difference}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn print(comparison: &Comparison) {
    print!("{comparison}");
    for warning in comparison.warnings() {
        eprintln!("warning: {warning}");
    }
}
