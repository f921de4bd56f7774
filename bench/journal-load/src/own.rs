//! A process that owns all partitions until its standard input closes, or until it is killed. It says on
//! standard output how far it has come.

use crate::{closed_loop::Load, fresh_log, office::Office, servers::Servers};
use anyhow::Result;
use std::{path::PathBuf, sync::Arc};

/// Said once all partitions are in office.
pub const IN_OFFICE: &str = "in office";
/// Said once the log has all the commits asked for.
pub const FILLED: &str = "filled";

/// Commands under way while filling.
const FILL_DEPTH: u64 = 4_096;

/// What it does.
#[derive(clap::Args)]
pub struct Arguments {
    /// Where owners keep what outlives their process.
    #[arg(long)]
    store: PathBuf,
    /// Begin with an empty log and write so many commits.
    #[arg(long)]
    fill: Option<u64>,
}

/// Owns.
pub async fn run(servers: &Servers, arguments: &Arguments) -> Result<()> {
    let encoder = match arguments.fill {
        Some(_) => fresh_log::make(servers, &arguments.store).await?,
        None => fresh_log::encoder(servers).await?,
    };
    let office = Arc::new(Office::open(servers, &encoder, &arguments.store).await?);
    println!("{IN_OFFICE}");
    if let Some(commits) = arguments.fill {
        Load::start(&office, FILL_DEPTH, commits).done().await?;
        println!("{FILLED}");
    }
    let closed = || std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    tokio::task::spawn_blocking(closed).await??;
    if let Some(office) = Arc::into_inner(office) {
        office.close().await;
    }
    Ok(())
}
