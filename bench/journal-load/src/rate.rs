//! Commands per second, decided, appended, durable and answered, with a fixed number under way.

use crate::{closed_loop::Load, fresh_log, office::Office, servers::Servers, usage};
use anyhow::Result;
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// How many are under way, and for how long.
#[derive(clap::Args)]
pub struct Arguments {
    /// Where owners keep what outlives their process. It is emptied.
    #[arg(long)]
    store: PathBuf,
    /// Commands under way in the process.
    #[arg(long)]
    depth: u64,
    /// Seconds before counting begins.
    #[arg(long, default_value_t = 2)]
    warm_up: u64,
    /// Seconds that are counted.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// Measures.
pub async fn run(servers: &Servers, arguments: &Arguments) -> Result<Value> {
    let encoder = fresh_log::make(servers, &arguments.store).await?;
    let office = Arc::new(Office::open(servers, &encoder, &arguments.store).await?);
    let load = Load::start(&office, arguments.depth, u64::MAX);
    sleep(Duration::from_secs(arguments.warm_up)).await;
    let (started, before, used) = (Instant::now(), load.answered(), usage::processor_time()?);
    sleep(Duration::from_secs(arguments.seconds)).await;
    let answered = load.answered() - before;
    let (time, used) = (started.elapsed(), usage::processor_time()? - used);
    load.stop().await?;
    if let Some(office) = Arc::into_inner(office) {
        office.close().await;
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
