//! The programs of `bench/journal`, a subcommand per measure. Each prints one line, a JSON object with
//! a member per figure.
//!
//! All but `own` and `peer` begin by deleting the journal they write to, so they belong on servers that
//! hold nothing else.

mod closed_loop;
mod fresh_log;
mod hot;
mod latency;
mod office;
mod own;
mod peer;
mod rate;
mod requests;
mod servers;
mod shelf;
mod takeover;
mod usage;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use servers::Servers;
use service::telemetry::{LogSettings, Reader, init_logs, init_metrics};

/// The service's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Subcommand)]
enum Measure {
    /// Commands per second with so many under way.
    Rate(rate::Arguments),
    /// Latency at a fixed offered load.
    Latency(latency::Arguments),
    /// Many buyers of one product.
    Hot(hot::Arguments),
    /// From the death of an owner's process to the next one in office.
    Takeover(takeover::Arguments),
    /// The process that `takeover` kills and starts.
    Own(own::Arguments),
    /// The same commands through `cqrs-es` on Postgres.
    Peer(peer::Arguments),
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    init_logs(&LogSettings::default(), Reader::Person)?;
    // Counting costs an owner something in the service, so it does here.
    let _metrics = init_metrics()?;
    let servers = Servers::load()?;
    let figures = match arguments.measure {
        Measure::Rate(arguments) => rate::run(&servers, &arguments).await.context("rate")?,
        Measure::Latency(arguments) => latency::run(&servers, &arguments)
            .await
            .context("latency")?,
        Measure::Hot(arguments) => hot::run(&servers, &arguments).await.context("hot")?,
        Measure::Takeover(arguments) => takeover::run(&arguments).await.context("takeover")?,
        Measure::Own(arguments) => return own::run(&servers, &arguments).await.context("own"),
        Measure::Peer(arguments) => peer::run(&servers, &arguments).await.context("peer")?,
    };
    println!("{figures}");
    Ok(())
}
