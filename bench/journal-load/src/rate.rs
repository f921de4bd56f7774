//! Commands per second (decided, appended, durable and answered) with a fixed number in flight.

use crate::{closed_loop::Load, fresh_log, owners::Owners, servers::Servers, usage};
use anyhow::Result;
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// The load.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder of the owners' state stores. It is emptied.
    #[arg(long)]
    store: PathBuf,
    /// Number of commands in flight.
    #[arg(long)]
    depth: u64,
    /// Duration of the warm-up, in seconds.
    #[arg(long, default_value_t = 2)]
    warm_up: u64,
    /// Duration of the measurement, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// Runs the benchmark; returns its figures.
pub async fn run(servers: &Servers, arguments: &Arguments) -> Result<Value> {
    let encoder = fresh_log::create(servers, &arguments.store).await?;
    let owners = Arc::new(Owners::start(servers, &encoder, &arguments.store).await?);
    let load = Load::start(&owners, arguments.depth, u64::MAX);
    sleep(Duration::from_secs(arguments.warm_up)).await;
    let (started, before, used) = (Instant::now(), load.answered(), usage::processor_time()?);
    sleep(Duration::from_secs(arguments.seconds)).await;
    let answered = load.answered() - before;
    let (time, used) = (started.elapsed(), usage::processor_time()? - used);
    load.stop().await?;
    if let Some(owners) = Arc::into_inner(owners) {
        owners.stop().await;
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure")]
    let answered = answered as f64;
    let depth = arguments.depth;
    Ok(json!({
        (format!("journal.rate_depth_{depth}")): answered / time.as_secs_f64(),
        (format!("journal.cpu_us_depth_{depth}")): used.as_secs_f64() * 1e6 / answered,
        "journal.rss_mb": usage::peak_mb("self")?,
    }))
}
