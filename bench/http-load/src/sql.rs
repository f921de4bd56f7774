//! The lower bound for the latency of a query by key: reads the same rows with one prepared statement, without the
//! service.

use crate::{latencies::Latencies, paths};
use anyhow::{Result, ensure};
use serde_json::Value;
use sqlx::{AssertSqlSafe, postgres::PgPoolOptions};
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
    /// The database's URL.
    #[arg(long)]
    url: String,
    /// Number of clients.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Number of connections that the clients share; the default is the service's number.
    #[arg(long, default_value_t = 10)]
    connections: u32,
    /// Duration of the warm-up, in seconds.
    #[arg(long, default_value_t = 2)]
    warm_up: u64,
    /// Duration of the measurement, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// A statement with the key as its only parameter.
    #[arg(long)]
    statement: String,
    /// A file with one key per line. Each query takes a random one.
    keys: PathBuf,
}

/// Runs the load; returns its figures.
///
/// # Errors
/// The statement fails, or finds nothing.
pub async fn run(arguments: Arguments) -> Result<Value> {
    let keys = Arc::new(paths::read(&arguments.keys)?);
    let options = PgPoolOptions::new().max_connections(arguments.connections);
    let pool = options.connect(&arguments.url).await?;
    let counted_from = Instant::now() + Duration::from_secs(arguments.warm_up);
    let end = counted_from + Duration::from_secs(arguments.seconds);
    let mut clients = JoinSet::new();
    for _ in 0..arguments.clients {
        let (pool, keys, statement) = (pool.clone(), keys.clone(), arguments.statement.clone());
        clients.spawn(async move {
            let mut latencies = Latencies::new()?;
            loop {
                let sent = Instant::now();
                if sent >= end {
                    return Ok::<_, anyhow::Error>(latencies);
                }
                let key = paths::any(&keys);
                let query = sqlx::query(AssertSqlSafe(statement.clone())).bind(key);
                let rows = query.fetch_all(&pool).await?;
                ensure!(!rows.is_empty(), "no row has the key {key}");
                if sent >= counted_from {
                    latencies.add(sent.elapsed());
                }
            }
        });
    }
    let mut all = Latencies::new()?;
    while let Some(latencies) = clients.join_next().await {
        all.merge(&latencies??)?;
    }
    Ok(all.figures(&arguments.name, Duration::from_secs(arguments.seconds)))
}
