//! Load by clients that each wait for an answer before they ask again, so that as many commands are
//! under way as there are clients.

use crate::{office::Office, requests::Client};
use anyhow::{Result, bail};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::task::JoinSet;

/// Clients at work.
pub struct Load {
    progress: Arc<Progress>,
    clients: JoinSet<Result<()>>,
}

struct Progress {
    /// How many commands may be asked in all; lowered to 0 to end the load.
    commands_max: AtomicU64,
    asked: AtomicU64,
    answered: AtomicU64,
}

impl Load {
    /// Starts `clients_count` clients, each a task as a connection's is. They ask `commands_max`
    /// commands in all.
    pub fn start(office: &Arc<Office>, clients_count: u64, commands_max: u64) -> Self {
        let progress = Arc::new(Progress {
            commands_max: AtomicU64::new(commands_max),
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        });
        let mut clients = JoinSet::new();
        for number in 0..clients_count {
            clients.spawn(ask_on(
                office.clone(),
                Client::new(number),
                progress.clone(),
            ));
        }
        Self { progress, clients }
    }

    /// Commands answered so far.
    pub fn answered(&self) -> u64 {
        self.progress.answered.load(Ordering::Relaxed)
    }

    /// Lets the clients get their last answers.
    pub async fn stop(self) -> Result<()> {
        self.progress.commands_max.store(0, Ordering::Relaxed);
        self.done().await
    }

    /// Waits until all commands are answered.
    pub async fn done(mut self) -> Result<()> {
        while let Some(client) = self.clients.join_next().await {
            client??;
        }
        Ok(())
    }
}

async fn ask_on(office: Arc<Office>, mut client: Client, progress: Arc<Progress>) -> Result<()> {
    while progress.asked.fetch_add(1, Ordering::Relaxed)
        < progress.commands_max.load(Ordering::Relaxed)
    {
        let answer = office.ask(client.describe()).await?;
        if answer.outcome.is_some() || answer.replayed || answer.events != 1 {
            bail!("a command that must be accepted got {answer:?}");
        }
        progress.answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
