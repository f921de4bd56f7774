//! Another program's transaction on a partition of a journal (`tests/python/transaction.py`).

use crate::{
    environment::source_file,
    poll::{Poll, until},
};
use anyhow::{Context, Result, ensure};
use kafka::{Admin, KafkaSettings};
use std::{path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// Longest time for one step of the transaction.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// The end of a transaction. To a reader that judges every record, both ends are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The record becomes visible to clients that read committed records only.
    Commit,
    /// The record stays in the log, and is invisible to such clients.
    Abort,
}

/// A transaction with one record, held open until [`OpenTransaction::end`]. If it is dropped before, its client is
/// killed, and the broker aborts the transaction after ten minutes.
pub struct OpenTransaction {
    program: Child,
    _output: BufReader<ChildStdout>,
    admin: Admin,
    topic: String,
    partition: i32,
}

impl OpenTransaction {
    /// Writes a record in a transaction; returns once it is in the log.
    pub async fn begin(
        python: &Path,
        kafka: &KafkaSettings,
        topic: &str,
        partition: i32,
        end: End,
    ) -> Result<Self> {
        let end = match end {
            End::Commit => "commit",
            End::Abort => "abort",
        };
        let prefixed = format!("{}{topic}", kafka.topic_prefix);
        let mut program = Command::new(python)
            .arg(source_file("tests/python/transaction.py"))
            .args([
                &kafka.brokers,
                &prefixed,
                &partition.to_string(),
                "foreign",
                end,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut output = BufReader::new(program.stdout.take().context("no standard output")?);
        let mut line = String::new();
        timeout(STEP_TIMEOUT, output.read_line(&mut line)).await??;
        ensure!(
            line == "open\n",
            "the transaction is not open: {line:?} instead of \"open\\n\""
        );
        Ok(Self {
            program,
            _output: output,
            admin: Admin::new(kafka)?,
            topic: topic.to_owned(),
            partition,
        })
    }

    /// Ends the transaction; returns once its control record is in the log. Nothing else may be appended to
    /// the partition meanwhile.
    pub async fn end(mut self) -> Result<()> {
        let before = self.log_end().await?;
        drop(self.program.stdin.take());
        let ended = timeout(STEP_TIMEOUT, self.program.wait()).await??;
        ensure!(
            ended.success(),
            "transaction.py ended with {ended} instead of 0"
        );
        // The coordinator answers before it has written the control record.
        until("the control record", STEP_TIMEOUT, async || {
            let end = self.log_end().await?;
            Ok(Poll::of(end > before, || format!("the log ends at {end}")))
        })
        .await
    }

    async fn log_end(&self) -> Result<i64> {
        let marks = self.admin.watermarks(&self.topic, self.partition).await?;
        Ok(marks.high)
    }
}
