//! A closed loop: each client waits for an answer before it sends its next command, so the number of
//! commands in flight is the number of clients.

use crate::{owners::Owners, requests::Client};
use anyhow::{Result, bail};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::task::JoinSet;

/// The running clients.
pub struct Load {
    progress: Arc<Progress>,
    clients: JoinSet<Result<()>>,
}

struct Progress {
    /// Maximum number of commands that all clients together send; set to 0 to end the load.
    commands_max: AtomicU64,
    sent: AtomicU64,
    answered: AtomicU64,
}

impl Load {
    /// Starts `clients_count` clients, each in its own task, as a connection has. Together they send `commands_max`
    /// commands.
    pub fn start(owners: &Arc<Owners>, clients_count: u64, commands_max: u64) -> Self {
        let progress = Arc::new(Progress {
            commands_max: AtomicU64::new(commands_max),
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        });
        let mut clients = JoinSet::new();
        for number in 0..clients_count {
            clients.spawn(run_client(
                owners.clone(),
                Client::new(number),
                progress.clone(),
            ));
        }
        Self { progress, clients }
    }

    /// Number of commands answered so far.
    pub fn answered(&self) -> u64 {
        self.progress.answered.load(Ordering::Relaxed)
    }

    /// Ends the load after the answers to the commands in flight.
    pub async fn stop(self) -> Result<()> {
        self.progress.commands_max.store(0, Ordering::Relaxed);
        self.finish().await
    }

    /// Waits until all commands are answered.
    pub async fn finish(mut self) -> Result<()> {
        while let Some(client) = self.clients.join_next().await {
            client??;
        }
        Ok(())
    }
}

async fn run_client(
    owners: Arc<Owners>,
    mut client: Client,
    progress: Arc<Progress>,
) -> Result<()> {
    while progress.sent.fetch_add(1, Ordering::Relaxed)
        < progress.commands_max.load(Ordering::Relaxed)
    {
        let answer = owners.execute(client.next_request()).await?;
        if answer.outcome.is_some() || answer.replayed || answer.events != 1 {
            bail!("a command that must be accepted got {answer:?}");
        }
        progress.answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
