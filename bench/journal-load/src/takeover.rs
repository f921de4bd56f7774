//! How long partitions are without an owner after its process was killed: from the signal until the next
//! process has all of them in office, its start included.

use crate::{fresh_log, own, usage};
use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::{Instant, timeout},
};

/// How long a process may take to say its next word.
const WORD_TIMEOUT: Duration = Duration::from_secs(300);

/// The log, and the owners' folder.
#[derive(clap::Args)]
pub struct Arguments {
    /// Commits in the log.
    #[arg(long, default_value_t = 1_000_000)]
    commits: u64,
    /// Where owners keep what outlives their process. It is emptied.
    #[arg(long)]
    store: PathBuf,
}

/// Measures.
pub async fn run(arguments: &Arguments) -> Result<Value> {
    let store = &arguments.store;
    let mut figures = Map::new();
    let mut owner = Process::start(store, Some(arguments.commits))?;
    owner.says(own::IN_OFFICE).await?;
    owner.says(own::FILLED).await?;
    let mut peak_mb = owner.peak_mb()?;
    let (owner, time) = replace(owner, store, || Ok(())).await?;
    figures.insert("journal.takeover_kept_s".into(), time.as_secs_f64().into());
    peak_mb = peak_mb.max(owner.peak_mb()?);
    let (owner, time) = replace(owner, store, || fresh_log::empty(store)).await?;
    figures.insert("journal.takeover_lost_s".into(), time.as_secs_f64().into());
    let after = owner.peak_mb()?;
    figures.insert("journal.takeover_lost_rss_mb".into(), after.into());
    peak_mb = peak_mb.max(after);
    figures.insert("journal.rss_mb".into(), peak_mb.into());
    owner.kill().await?;
    Ok(figures.into())
}

/// Kills an owner's process and waits until the next one is in office. What is done `between` the two
/// is not counted.
async fn replace(
    owner: Process,
    store: &Path,
    between: impl FnOnce() -> Result<()>,
) -> Result<(Process, Duration)> {
    let killed = Instant::now();
    owner.kill().await?;
    let dead = killed.elapsed();
    between()?;
    let started = Instant::now();
    let mut next = Process::start(store, None)?;
    next.says(own::IN_OFFICE).await?;
    Ok((next, dead + started.elapsed()))
}

/// An owner's process. It ends with this one.
struct Process {
    child: Child,
    words: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(store: &Path, fill: Option<u64>) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("own").arg("--store").arg(store);
        if let Some(commits) = fill {
            command.arg("--fill").arg(commits.to_string());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn()?;
        let stdout = child.stdout.take().context("its output is piped")?;
        let words = BufReader::new(stdout).lines();
        Ok(Self { child, words })
    }

    /// Waits for its next word.
    async fn says(&mut self, expected: &str) -> Result<()> {
        let word = timeout(WORD_TIMEOUT, self.words.next_line()).await;
        let word = word.with_context(|| format!("no word within {WORD_TIMEOUT:?}"))??;
        ensure!(
            word.as_deref() == Some(expected),
            "the owner's process said {word:?} instead of {expected:?}"
        );
        Ok(())
    }

    fn peak_mb(&self) -> Result<f64> {
        let id = self.child.id().context("the owner's process has ended")?;
        usage::peak_mb(&id.to_string())
    }

    /// Kills it (SIGKILL); returns once it is gone.
    async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("killing the owner")
    }
}
