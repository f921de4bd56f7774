//! Queries in a closed loop: the number in flight is the number of connections.

use crate::{latencies::Latencies, paths};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// The load.
#[derive(clap::Args)]
pub struct Arguments {
    /// The figures' name.
    #[arg(long)]
    name: String,
    /// The service's address, such as http://127.0.0.1:8080.
    #[arg(long)]
    url: String,
    /// Number of connections.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Duration of the warm-up, in seconds.
    #[arg(long, default_value_t = 2)]
    warm_up: u64,
    /// Duration of the measurement, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// A file with one path per line. Each query takes a random one.
    paths: PathBuf,
}

/// Runs the load; returns its figures.
///
/// # Errors
/// An answer other than 200.
pub async fn run(arguments: Arguments) -> Result<Value> {
    let paths = Arc::new(paths::read(&arguments.paths)?);
    let counted_from = Instant::now() + Duration::from_secs(arguments.warm_up);
    let end = counted_from + Duration::from_secs(arguments.seconds);
    let mut clients = JoinSet::new();
    for _ in 0..arguments.connections {
        let (url, paths) = (arguments.url.clone(), paths.clone());
        clients.spawn(run_client(url, paths, counted_from, end));
    }
    let mut all = Latencies::new()?;
    while let Some(latencies) = clients.join_next().await {
        all.merge(&latencies??)?;
    }
    ensure!(all.count() > 0, "no query was answered in time");
    Ok(all.figures(&arguments.name, Duration::from_secs(arguments.seconds)))
}

/// One connection.
async fn run_client(
    url: String,
    paths: Arc<Vec<String>>,
    counted_from: Instant,
    end: Instant,
) -> Result<Latencies> {
    let client = reqwest::Client::builder()
        .pool_max_idle_per_host(1)
        .build()?;
    let mut latencies = Latencies::new()?;
    loop {
        let sent = Instant::now();
        if sent >= end {
            return Ok(latencies);
        }
        query(&client, &url, paths::any(&paths)).await?;
        if sent >= counted_from {
            latencies.add(sent.elapsed());
        }
    }
}

/// Sends a query, and reads its whole answer.
///
/// # Errors
/// The answer is not 200.
pub async fn query(client: &reqwest::Client, url: &str, path: &str) -> Result<()> {
    let answer = client.get(format!("{url}{path}")).send().await;
    let answer = answer.with_context(|| path.to_owned())?;
    let status = answer.status();
    let body = answer.bytes().await.with_context(|| path.to_owned())?;
    ensure!(
        status == 200,
        "{path}: {status}: {}",
        String::from_utf8_lossy(&body)
    );
    Ok(())
}
