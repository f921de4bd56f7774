//! The binary under test: `daybook serve` as a process of its own, and the other subcommands.

use crate::{
    http::Client,
    wait::{Look, until},
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    time::{Instant, timeout},
};

/// From the start to the first answer over HTTP.
const LIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// From the start to ready, with all servers up.
pub const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// The views' and jobs' readers, each on all partitions of its journal.
const READERS_MIN: usize = 3 * 4;
/// Lines of its log that a failure shows.
const LOG_LINES_SHOWN: usize = 15;

/// What a program that has ended left.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit code; a signal is an error before.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a program to its end; it is killed at `limit`.
pub async fn output_of(mut command: Command, limit: Duration) -> Result<Output> {
    let name = format!("{:?}", command.as_std());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(limit, command.output()).await;
    let output = output.with_context(|| format!("{name} did not end within {limit:?}"))?;
    let output = output.with_context(|| name.clone())?;
    Ok(Output {
        code: output
            .status
            .code()
            .with_context(|| format!("{name}: {}", output.status))?,
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// A running service. Dropped, it is killed.
pub struct Daybook {
    child: Child,
    client: Client,
    log: PathBuf,
}

impl Daybook {
    /// Starts a service, `serve` or `commands`, and returns once it answers over HTTP; it need not be
    /// ready.
    pub async fn start(
        mut command: Command,
        service: &str,
        listen: SocketAddr,
        log: &Path,
    ) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let child = command
            .arg(service)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .context("daybook serve can't be started")?;
        let client = Client::new(format!("http://{listen}"))?;
        let mut daybook = Self {
            child,
            client,
            log: log.to_owned(),
        };
        let live = until("daybook serve to answer", LIVE_TIMEOUT, async || {
            daybook.check_running()?;
            let live = daybook.client.get("/health/live").await;
            Ok(match live {
                Ok(answer) if answer.status == 200 => Look::Done(()),
                Ok(answer) => Look::NotYet(format!("{} {}", answer.status, answer.text)),
                Err(error) => Look::NotYet(format!("{error:#}")),
            })
        });
        live.await?;
        Ok(daybook)
    }

    /// Its HTTP client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns once every component is ready.
    pub async fn ready(&mut self) -> Result<()> {
        until("daybook serve to be ready", READY_TIMEOUT, async || {
            self.check_running()?;
            Ok(match self.client.get("/health/ready").await {
                Ok(answer) => Look::at(answer.status == 200, || answer.text),
                // It may be about to end, and then says why.
                Err(error) => Look::NotYet(format!("{error:#}")),
            })
        })
        .await
        .with_context(|| self.last_words())
    }

    /// Returns once every view and job has worked in all that the journals hold now.
    pub async fn caught_up(&mut self) -> Result<()> {
        until("the views to catch up", READY_TIMEOUT, async || {
            self.check_running()?;
            let answer = self.client.get("/api/v1/admin/progress").await?;
            let body = answer.expect(200)?.json()?;
            let readers = body["readers"].as_array().map_or(0, Vec::len);
            let caught_up = body["caught_up"] == true && readers >= READERS_MIN;
            Ok(Look::at(caught_up, || answer.text))
        })
        .await
        .with_context(|| self.last_words())
    }

    /// The most memory that it has held so far, in bytes.
    pub fn peak_memory_bytes(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.pid()?);
        let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kilobytes: u64 = kilobytes.context("no VmHWM")?.trim().parse()?;
        Ok(kilobytes * 1024)
    }

    /// Ends it as a power cut would.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("kill -9 daybook serve")
    }

    /// SIGTERM; gives how it ended, and how long that took.
    pub async fn terminate(&mut self, limit: Duration) -> Result<(ExitStatus, Duration)> {
        let started = Instant::now();
        self.signal("TERM").await?;
        match timeout(limit, self.child.wait()).await {
            Ok(status) => Ok((status?, started.elapsed())),
            Err(_) => bail!(
                "still running {limit:?} after SIGTERM\n{}",
                self.last_words()
            ),
        }
    }

    /// Sends it a signal, named as `kill` does.
    pub async fn signal(&self, name: &str) -> Result<()> {
        let (signal, pid) = (format!("-{name}"), self.pid()?.to_string());
        let sent = Command::new("kill").args([&signal, &pid]).status().await?;
        ensure!(sent.success(), "kill {signal} {pid}: {sent}");
        Ok(())
    }

    fn pid(&self) -> Result<u32> {
        self.child.id().context("daybook serve has ended")
    }

    fn check_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("daybook serve ended: {status}\n{}", self.last_words()),
        }
    }

    /// The end of its log, for the message of a failure.
    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
        format!("the end of {}:\n{}", self.log.display(), shown.join("\n"))
    }
}
