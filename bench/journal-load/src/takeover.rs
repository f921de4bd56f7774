//! Time without an owner after its process was killed: from the signal until the owners of all partitions
//! serve in the next process, its start included.

use crate::{fresh_log, owner_process, usage};
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

/// Longest wait for the next line of a process.
const LINE_TIMEOUT: Duration = Duration::from_secs(300);

/// The log and the state store.
#[derive(clap::Args)]
pub struct Arguments {
    /// Number of commits in the log.
    #[arg(long, default_value_t = 1_000_000)]
    commits: u64,
    /// Folder of the owners' state stores. It is emptied.
    #[arg(long)]
    store: PathBuf,
}

/// Runs the benchmark; returns its figures.
pub async fn run(arguments: &Arguments) -> Result<Value> {
    let store = &arguments.store;
    let mut figures = Map::new();
    let mut owner = OwnerProcess::start(store, Some(arguments.commits))?;
    owner.await_line(owner_process::SERVING).await?;
    owner.await_line(owner_process::FILLED).await?;
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

/// Kills an owner's process, calls `between`, and waits until the next process serves. The time of `between`
/// is not counted.
async fn replace(
    owner: OwnerProcess,
    store: &Path,
    between: impl FnOnce() -> Result<()>,
) -> Result<(OwnerProcess, Duration)> {
    let killed = Instant::now();
    owner.kill().await?;
    let kill_time = killed.elapsed();
    between()?;
    let started = Instant::now();
    let mut next = OwnerProcess::start(store, None)?;
    next.await_line(owner_process::SERVING).await?;
    Ok((next, kill_time + started.elapsed()))
}

/// An owner's process, which is killed when it is dropped.
struct OwnerProcess {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl OwnerProcess {
    fn start(store: &Path, fill: Option<u64>) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("owner-process").arg("--store").arg(store);
        if let Some(commits) = fill {
            command.arg("--fill").arg(commits.to_string());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn()?;
        let stdout = child.stdout.take().context("its output is not piped")?;
        let lines = BufReader::new(stdout).lines();
        Ok(Self { child, lines })
    }

    /// Waits for the next line of its output, which must be `expected`.
    async fn await_line(&mut self, expected: &str) -> Result<()> {
        let line = timeout(LINE_TIMEOUT, self.lines.next_line()).await;
        let line = line.with_context(|| format!("no line within {LINE_TIMEOUT:?}"))??;
        ensure!(
            line.as_deref() == Some(expected),
            "the owner's process printed {line:?} instead of {expected:?}"
        );
        Ok(())
    }

    fn peak_mb(&self) -> Result<f64> {
        let id = self.child.id().context("the owner's process has ended")?;
        usage::peak_mb(&id.to_string())
    }

    /// Kills the process (SIGKILL) and waits for its end.
    async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("killing the owner")
    }
}
