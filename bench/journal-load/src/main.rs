//! The programs of `bench/journal`, one subcommand per benchmark. Each prints one line, a JSON object with
//! a member per figure.
//!
//! All except `owner-process` and `baseline` delete the journal that they write to when they start, so run
//! them on servers that hold no other data.

mod baseline;
mod closed_loop;
mod fresh_log;
mod hot;
mod latency;
mod owner_process;
mod owners;
mod rate;
mod requests;
mod servers;
mod takeover;
mod usage;
mod workload;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;
use servers::Servers;
use service::{
    otlp::TelemetrySettings,
    telemetry::{LogSettings, Reader, init_logs, init_metrics},
};

/// The same allocator as the service's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// Commands per second with a fixed number in flight.
    Rate(rate::Arguments),
    /// Latency at a fixed offered load.
    Latency(latency::Arguments),
    /// Many buyers of one product.
    Hot(hot::Arguments),
    /// Time from the kill of an owner's process until the next process serves.
    Takeover(takeover::Arguments),
    /// The process that `takeover` kills and starts.
    OwnerProcess(owner_process::Arguments),
    /// The same commands through `cqrs-es` on Postgres.
    Baseline(baseline::Arguments),
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    init_logs(
        &LogSettings::default(),
        &TelemetrySettings::default(),
        Reader::Person,
    )?;
    // The service's owners record metrics, so the figures must include this cost.
    let _metrics = init_metrics()?;
    let servers = Servers::load()?;
    let figures = match arguments.benchmark {
        Benchmark::Rate(arguments) => rate::run(&servers, &arguments).await.context("rate")?,
        Benchmark::Latency(arguments) => latency::run(&servers, &arguments)
            .await
            .context("latency")?,
        Benchmark::Hot(arguments) => hot::run(&servers, &arguments).await.context("hot")?,
        Benchmark::Takeover(arguments) => takeover::run(&arguments).await.context("takeover")?,
        Benchmark::OwnerProcess(arguments) => {
            return owner_process::run(&servers, &arguments)
                .await
                .context("owner process");
        }
        Benchmark::Baseline(arguments) => baseline::run(&servers, &arguments)
            .await
            .context("baseline")?,
    };
    println!("{figures}");
    Ok(())
}
