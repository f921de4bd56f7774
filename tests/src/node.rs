//! The binary under test: a node that serves, as a process of its own, and the other subcommands.

use crate::{
    connections,
    http::Client,
    poll::{Poll, until},
    process_use,
    signal::signal,
};
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use std::{
    collections::BTreeSet,
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

/// Longest time from the start to the first answer over HTTP.
const LIVE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time from the start to readiness, with all servers up.
pub const READY_TIMEOUT: Duration = Duration::from_secs(90);
/// Last lines of the log in the message of a failure.
const LOG_LINES_SHOWN: usize = 15;

/// The output of a program that has ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit code. If a signal ends the program, running it is an error and returns no output.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a program to its end; kills it after `limit`.
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

/// A running node. It is killed when it is dropped.
pub struct Node {
    child: Child,
    client: Client,
    log: PathBuf,
}

impl Node {
    /// Starts a node in a role, `serve` or `commands`; returns once it answers over HTTP, ready or not.
    pub async fn start(
        mut command: Command,
        role: &str,
        listen: SocketAddr,
        log: &Path,
    ) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let child = command
            .arg(role)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{:?}", command.as_std()))?;
        let client = Client::new(format!("http://{listen}"))?;
        let mut node = Self {
            child,
            client,
            log: log.to_owned(),
        };
        let live = until("an answer of the node", LIVE_TIMEOUT, async || {
            node.check_running()?;
            Ok(match node.client.get("/health/live").await {
                Ok(answer) => Poll::of(answer.status == 200, || {
                    format!("{} {}", answer.status, answer.text)
                }),
                Err(error) => Poll::Pending(format!("{error:#}")),
            })
        });
        live.await
            .with_context(|| format!("log: {}", log.display()))?;
        Ok(node)
    }

    /// Its HTTP client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The names of its threads, of which the operating system keeps 15 characters.
    pub fn threads(&self) -> Result<Vec<String>> {
        let process = self.child.id().context("the node has ended")?;
        let mut names = Vec::new();
        for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
            // A thread that ended meanwhile has no name.
            if let Ok(name) = std::fs::read_to_string(thread?.path().join("comm")) {
                names.push(name.trim_end().to_owned());
            }
        }
        Ok(names)
    }

    /// The number of its established TCP connections to a port.
    pub fn connections_to(&self, port: u16) -> Result<usize> {
        connections::established(self.pid()?, port)
    }

    /// Returns once every component is ready, and every view answers queries.
    pub async fn ready(&mut self) -> Result<()> {
        until("readiness of the node", READY_TIMEOUT, async || {
            self.check_running()?;
            Ok(match self.client.get("/health/ready").await {
                Ok(answer) => Poll::of(answers_everything(&answer.json()?), || answer.text),
                // If the node is about to end, its log has the reason by the next poll.
                Err(error) => Poll::Pending(format!("{error:#}")),
            })
        })
        .await
        .with_context(|| self.log_tail())
    }

    /// Returns once every view and job has applied all records that the journals hold now.
    pub async fn caught_up(&mut self) -> Result<()> {
        until("views and jobs to catch up", READY_TIMEOUT, async || {
            self.check_running()?;
            let ready = self.client.get("/health/ready").await?;
            let progress = self.client.get("/api/v1/admin/progress").await?;
            let body = progress.expect(200)?.json()?;
            let expected = views_and_jobs(&ready.json()?);
            let known = readers(&body).len();
            let caught_up = body["caught_up"] == true && expected > 0 && known >= expected;
            Ok(Poll::of(caught_up, || {
                format!("{known} of {expected} readers: {}", progress.text)
            }))
        })
        .await
        .with_context(|| self.log_tail())
    }

    /// Returns once it has answered this many commands.
    pub async fn answered(&self, count: f64, limit: Duration) -> Result<()> {
        until("answers to commands", limit, async || {
            let answered = self.client.metric("daybook_commands_answered_total");
            let answered = answered.await?;
            Ok(Poll::of(answered >= count, || {
                format!("{answered} of {count}")
            }))
        })
        .await
    }

    /// Its peak memory so far, in bytes.
    pub fn peak_memory_bytes(&self) -> Result<u64> {
        Ok(process_use::memory_bytes(self.pid()?, "VmHWM")?.try_into()?)
    }

    /// Its present memory in bytes, without the pages of files, such as those of the program.
    pub fn memory_bytes(&self) -> Result<usize> {
        process_use::memory_bytes(self.pid()?, "RssAnon")
    }

    /// Kills it, like a power cut.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("kill -9 of the node")
    }

    /// Sends SIGTERM; returns the exit status and the time until the end.
    pub async fn terminate(&mut self, limit: Duration) -> Result<(ExitStatus, Duration)> {
        let started = Instant::now();
        self.signal("TERM").await?;
        match timeout(limit, self.child.wait()).await {
            Ok(status) => Ok((status?, started.elapsed())),
            Err(_) => bail!("still running {limit:?} after SIGTERM\n{}", self.log_tail()),
        }
    }

    /// Waits until it has ended; returns the exit status.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        match timeout(limit, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => bail!("still running after {limit:?}\n{}", self.log_tail()),
        }
    }

    /// Sends a signal, by its name for `kill`.
    pub async fn signal(&self, name: &str) -> Result<()> {
        signal(&self.child, name).await
    }

    /// The id of its process.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("the node has ended")
    }

    fn check_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the node ended: {status}\n{}", self.log_tail()),
        }
    }

    /// The end of its log, for the message of a failure.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
        format!("the end of {}:\n{}", self.log.display(), shown.join("\n"))
    }
}

/// Whether a node is ready and no view is projected from the start.
fn answers_everything(ready: &Value) -> bool {
    ready["ready"] == true && ready["notes"] == Value::Object(Map::new())
}

/// The number of views and jobs among a node's components.
fn views_and_jobs(ready: &Value) -> usize {
    let components = ready["components"].as_object().into_iter().flatten();
    let names = components.map(|(name, _)| name);
    names
        .filter(|name| name.starts_with("view.") || name.starts_with("job."))
        .count()
}

/// The names of the readers that have reported their progress.
fn readers(progress: &Value) -> BTreeSet<&str> {
    let readers = progress["readers"].as_array().into_iter().flatten();
    readers
        .filter_map(|reader| reader["reader"].as_str())
        .collect()
}
