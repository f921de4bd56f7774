//! A process that owns all partitions until its standard input closes, or until it is killed. It reports
//! its progress on standard output.

use crate::{closed_loop::Load, fresh_log, owners::Owners, servers::Servers};
use anyhow::Result;
use std::{path::PathBuf, sync::Arc};

/// Printed once the owners of all partitions serve.
pub const SERVING: &str = "serving";
/// Printed once the log has the requested number of commits.
pub const FILLED: &str = "filled";

/// Commands in flight while filling.
const FILL_DEPTH: u64 = 4_096;

/// The state store and the log.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder of the owners' state stores.
    #[arg(long)]
    store: PathBuf,
    /// Start with an empty log and write this many commits.
    #[arg(long)]
    fill: Option<u64>,
}

/// Runs the owners.
pub async fn run(servers: &Servers, arguments: &Arguments) -> Result<()> {
    let encoder = match arguments.fill {
        Some(_) => fresh_log::create(servers, &arguments.store).await?,
        None => fresh_log::encoder(servers).await?,
    };
    let owners = Arc::new(Owners::start(servers, &encoder, &arguments.store).await?);
    println!("{SERVING}");
    if let Some(commits) = arguments.fill {
        Load::start(&owners, FILL_DEPTH, commits).finish().await?;
        println!("{FILLED}");
    }
    let read_to_end = || std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    tokio::task::spawn_blocking(read_to_end).await??;
    if let Some(owners) = Arc::into_inner(owners) {
        owners.stop().await;
    }
    Ok(())
}
