//! Queries in an open loop: each is sent at its scheduled time, from which its latency is measured.

use crate::{closed::query, latencies::Latencies, paths};
use anyhow::{Result, bail, ensure};
use serde_json::Value;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at},
};

/// Maximum number of queries in flight. If there are more, the service can't keep up and the benchmark fails.
const IN_FLIGHT_MAX: usize = 5_000;

/// The load.
#[derive(clap::Args)]
pub struct Arguments {
    /// The figures' name.
    #[arg(long)]
    name: String,
    /// The service's address, such as http://127.0.0.1:8080.
    #[arg(long)]
    url: String,
    /// Queries per second.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Duration of the warm-up, in seconds.
    #[arg(long, default_value_t = 2)]
    warm_up: u32,
    /// Duration of the measurement, in seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// A file with one path per line. Each query takes a random one.
    paths: PathBuf,
}

/// Runs the load; returns its figures.
///
/// # Errors
/// An answer other than 200, or too many queries in flight.
pub async fn run(arguments: Arguments) -> Result<Value> {
    let paths = Arc::new(paths::read(&arguments.paths)?);
    ensure!(arguments.rate > 0, "the rate is 0");
    let client = reqwest::Client::new();
    let permits = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let interval = Duration::from_secs(1) / arguments.rate;
    let mut ticks = interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut queries = JoinSet::new();
    let not_counted = arguments.rate * arguments.warm_up;
    for number in 0..not_counted + arguments.rate * arguments.seconds {
        let due = ticks.tick().await;
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            bail!("{IN_FLIGHT_MAX} queries are in flight: the service can't keep up");
        };
        let (client, url, paths) = (client.clone(), arguments.url.clone(), paths.clone());
        queries.spawn(async move {
            query(&client, &url, paths::any(&paths)).await?;
            drop(permit);
            Ok::<_, anyhow::Error>((number >= not_counted).then(|| due.elapsed()))
        });
    }
    let mut all = Latencies::new()?;
    while let Some(latency) = queries.join_next().await {
        if let Some(latency) = latency?? {
            all.add(latency);
        }
    }
    Ok(all.figures(
        &arguments.name,
        Duration::from_secs(arguments.seconds.into()),
    ))
}
