//! A reader that retries after transient errors, and reports when they are over.

use crate::{
    batch::Batch,
    checkpoint::Checkpoint,
    log::ReadLog,
    protocol::RuleProtocol,
    reader::{ReadError, Reader},
};
use backoff::Backoff;
use schemas::ContextEvent;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// After this time without another error the log counts as readable again, if the brokers answer. A log to
/// which nothing is appended has no new record that would show it.
pub(super) const BACKOFF_RESET_AFTER: Duration = Duration::from_secs(5);

/// A reader with its retries.
pub(super) struct Follower<E: ContextEvent, L: ReadLog, P: RuleProtocol> {
    log: L,
    reader: Reader<E, L, P>,
    waits: Backoff,
    retry_at: Option<Instant>,
    doubt: Option<Doubt>,
}

/// The reason why it is unknown whether the log can be read, and since when.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    since: Instant,
    reason: DoubtReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DoubtReason {
    /// The reader is new.
    New,
    /// The brokers returned an error.
    Brokers,
    /// A record waits for the registry. The doubt ends only once that record is read.
    Record,
}

/// One step of a reader.
#[expect(clippy::large_enum_variant, reason = "nearly all are batches")]
pub(super) enum Step<E> {
    /// It has read a batch, so the log can be read.
    Batch(Batch<E>),
    /// It has judged records that are in no batch.
    Moved,
    /// It has halted a partition.
    Halted(i32, Arc<ReadError>),
    /// It met a transient error and will retry.
    Failing(Arc<ReadError>),
    /// The log can be read.
    Recovered,
}

impl<E: ContextEvent, L: ReadLog, P: RuleProtocol> Follower<E, L, P> {
    pub fn new(log: L, reader: Reader<E, L, P>) -> Self {
        Self {
            log,
            reader,
            waits: Backoff::for_server(),
            retry_at: None,
            doubt: Some(Doubt::now(DoubtReason::New)),
        }
    }

    /// See [`Reader::position`].
    pub fn position(&self) -> Option<BTreeMap<i32, Checkpoint>> {
        self.reader.position()
    }

    /// The log's ends when the reader was opened.
    pub fn ends(&self) -> &BTreeMap<i32, i64> {
        self.reader.ends_at_open()
    }

    /// When the log will count as readable although nothing was read; `None` if it already does, or if a record
    /// must be read first.
    pub fn calm_at(&self) -> Option<Instant> {
        let doubt = self.doubt.filter(|doubt| match doubt.reason {
            DoubtReason::New => !self.has_read_to_ends_at_open(),
            DoubtReason::Brokers => true,
            DoubtReason::Record => false,
        });
        doubt.map(|doubt| doubt.since + BACKOFF_RESET_AFTER)
    }

    /// Treats an error of another request to the log as the reader's own.
    pub fn fail(&mut self, error: ReadError) -> Step<E> {
        self.doubt = Some(Doubt::now(match matches!(error, ReadError::Codec { .. }) {
            true => DoubtReason::Record,
            false => DoubtReason::Brokers,
        }));
        // The consumer retries by itself.
        if !matches!(error, ReadError::Consumer(_)) {
            self.retry_at = Some(Instant::now() + self.waits.wait());
        }
        Step::Failing(Arc::new(error))
    }

    /// Waits for the next step. Cancel-safe.
    ///
    /// # Errors
    /// The error is permanent.
    pub async fn step(&mut self) -> Result<Step<E>, ReadError> {
        loop {
            if self.has_read_to_ends_at_open() {
                self.doubt = None;
                return Ok(Step::Recovered);
            }
            let (retry_at, calm_at) = (self.retry_at, self.calm_at());
            let read = tokio::select! {
                biased;
                read = async {
                    if let Some(at) = retry_at {
                        sleep_until(at).await;
                    }
                    self.reader.step().await
                } => read,
                () = at(calm_at) => {
                    if log_answers::<E>(&self.log, self.reader.ends_at_open()).await {
                        self.doubt = None;
                        return Ok(Step::Recovered);
                    }
                    self.doubt = Some(Doubt::now(DoubtReason::Brokers));
                    continue;
                }
            };
            self.retry_at = None;
            return match read {
                Ok(batch) => Ok(self.take(batch)),
                Err(error) => match error.halted_partition() {
                    Some(partition) => Ok(Step::Halted(partition, Arc::new(error))),
                    None if error.is_transient() => Ok(self.fail(error)),
                    None => Err(error),
                },
            };
        }
    }

    fn take(&mut self, batch: Option<Batch<E>>) -> Step<E> {
        self.waits.reset();
        match batch {
            Some(batch) => {
                self.doubt = None;
                Step::Batch(batch)
            }
            None if self
                .doubt
                .is_some_and(|doubt| doubt.reason != DoubtReason::New) =>
            {
                self.doubt = None;
                Step::Recovered
            }
            None => Step::Moved,
        }
    }

    /// Whether a new reader has read all records that the log had when the reader was opened.
    fn has_read_to_ends_at_open(&self) -> bool {
        let is_new = self
            .doubt
            .is_some_and(|doubt| doubt.reason == DoubtReason::New);
        is_new
            && self.reader.position().is_some_and(|position| {
                let ends = self.reader.ends_at_open();
                position
                    .iter()
                    .all(|(partition, state)| state.next_offset >= ends[partition])
            })
    }
}

impl Doubt {
    fn now(reason: DoubtReason) -> Self {
        Self {
            since: Instant::now(),
            reason,
        }
    }
}

/// Whether the brokers answer about the partition with the highest number.
async fn log_answers<E: ContextEvent>(log: &impl ReadLog, ends: &BTreeMap<i32, i64>) -> bool {
    match ends.last_key_value() {
        Some((partition, _)) => log.end(E::CONTEXT.topic, *partition).await.is_ok(),
        None => true,
    }
}

/// Sleeps until `time`. Without a time, it never returns.
pub(super) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
