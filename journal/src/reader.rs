//! Reads a journal by the void rule: valid commits are decoded in order, and void records are only counted.
//!
//! A reader starts from checkpoints (or from offset 0) and returns a new checkpoint with every batch. A
//! consumer that stores both together resumes without a gap. A record that can't be judged or decoded halts its
//! partition and is never skipped silently; the other partitions continue.

mod error;
#[cfg(test)]
mod tests;

pub use crate::batch::{Batch, Commits, Valid};
pub use error::ReadError;

use crate::{
    bodies::Bodies,
    checkpoint::Checkpoint,
    log::{ReadLog, RecordStream, Source},
    metrics as names,
    protocol::{CorrectProtocol, RuleProtocol},
    rule::{Hash, Rule, Verdict},
};
use backoff::Backoff;
use kafka::{CodecError, Fetched, Record, RegistryError};
use schemas::{Commit, ContextEvent};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Maximum number of commits in one batch.
pub const BATCH_COMMITS_MAX: usize = 2_000;
/// A log's end before the checkpoint is measured again after this time: a broker that just became the leader
/// may report an early end until it has received fetches from the other brokers.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// Reads some partitions of one journal.
pub struct Reader<E, L: ReadLog = Source, P: RuleProtocol = CorrectProtocol> {
    topic: &'static str,
    records: L::Records,
    decoder: Bodies,
    raw: VecDeque<Record>,
    /// Positions of partitions whose last offsets have no record, after `raw`.
    ends: BTreeMap<i32, i64>,
    partitions: BTreeMap<i32, Partition<E, P>>,
    ready: VecDeque<Batch<E>>,
    /// By partition: the log's end when the reader was opened.
    ends_at_open: BTreeMap<i32, i64>,
}

/// One partition's progress.
struct Partition<E, P: RuleProtocol> {
    rule: Rule<P>,
    /// Compared with the log before any record is taken from it.
    probe: Option<Checkpoint>,
    /// The last batch's `next_offset`.
    delivered: i64,
    /// The broker's timestamp of the last record, in milliseconds since 1970.
    last_stamp_ms: Option<i64>,
    building: Vec<Valid<E>>,
    bytes: usize,
    void: u64,
    halted: bool,
    /// An offset, and the chain's hash after the valid record there, once it was read.
    noted: Option<(i64, Option<Hash>)>,
}

impl<E: ContextEvent, L: ReadLog> Reader<E, L> {
    /// Starts to read the event type's journal after the given checkpoints, one per partition
    /// ([`Checkpoint::start`]: from offset 0). `role` names the client.
    ///
    /// # Errors
    /// [`ReadError`]: the log can't be measured, ends before a checkpoint, or no client can be started.
    pub async fn open(log: &L, role: &str, starts: Vec<Checkpoint>) -> Result<Self, ReadError> {
        Self::open_with(log, role, starts).await
    }
}

impl<E: ContextEvent, L: ReadLog, P: RuleProtocol> Reader<E, L, P> {
    /// Like [`Reader::open`], with the rule `P`.
    ///
    /// # Errors
    /// Those of [`Reader::open`].
    pub async fn open_with(
        log: &L,
        role: &str,
        starts: Vec<Checkpoint>,
    ) -> Result<Self, ReadError> {
        let topic = E::CONTEXT.topic;
        let mut partitions = BTreeMap::new();
        let mut ends_at_open = BTreeMap::new();
        let mut offsets = Vec::with_capacity(starts.len());
        for start in starts {
            let mut end = log.end(topic, start.partition).await?;
            if end < start.next_offset {
                tokio::time::sleep(SETTLE_TIME).await;
                end = log.end(topic, start.partition).await?;
            }
            if end < start.next_offset {
                return Err(ReadError::LogTooShort {
                    topic: topic.to_owned(),
                    partition: start.partition,
                    end,
                    next_offset: start.next_offset,
                });
            }
            ends_at_open.insert(start.partition, end);
            // Start at the probe, so that it needs no read of its own. A checkpoint without a probe has no
            // valid record, so start at offset 0.
            offsets.push((start.partition, start.probe_offset.unwrap_or(0)));
            partitions.insert(start.partition, Partition::new(start));
        }
        let records = log.records(role, topic, &offsets)?;
        Ok(Self {
            topic,
            records,
            decoder: Bodies::new(log.registry()),
            raw: VecDeque::new(),
            ends: BTreeMap::new(),
            partitions,
            ready: VecDeque::new(),
            ends_at_open,
        })
    }

    /// Waits until each checkpoint's last valid record was read again and found unchanged. Without this call,
    /// the check happens at the first batch; a caller that appends before it reads needs it earlier.
    /// Cancel-safe.
    ///
    /// # Errors
    /// Like [`Reader::next`], except that errors after those records belong to the next batch.
    pub async fn confirm(&mut self) -> Result<(), ReadError> {
        let unconfirmed = |partition: &Partition<E, P>| partition.probe.is_some();
        while self.partitions.values().any(unconfirmed) {
            self.fetch().await?;
            let judged = self.judge_fetched().await;
            self.collect();
            if self.partitions.values().any(unconfirmed) {
                judged?;
            }
        }
        Ok(())
    }

    /// Waits for the next batch. Cancel-safe.
    ///
    /// # Errors
    /// After an error that [`ReadError::is_transient`], or that has a [`ReadError::halted_partition`], call
    /// again: reading continues at the same position, or with the other partitions. After any other error, give
    /// up.
    pub async fn next(&mut self) -> Result<Batch<E>, ReadError> {
        loop {
            if let Some(batch) = self.step().await? {
                return Ok(batch);
            }
        }
    }

    /// Like [`Reader::next`], but also returns, with `None`, after judging records that are in no batch, such as
    /// those that confirm the checkpoints.
    pub(crate) async fn step(&mut self) -> Result<Option<Batch<E>>, ReadError> {
        if let Some(batch) = self.ready.pop_front() {
            return Ok(Some(batch));
        }
        if self.raw.is_empty() && self.ends.is_empty() {
            self.fetch().await?;
        }
        let judged = self.judge_fetched().await;
        self.collect();
        match judged {
            Err(error) if self.ready.is_empty() => {
                if let Some(partition) = error.halted_partition() {
                    self.halt(partition);
                }
                Err(error)
            }
            // Deliver the commits before the error first; the error will come again.
            Err(_) | Ok(()) => Ok(self.ready.pop_front()),
        }
    }

    /// Like [`Reader::next`], but retries after transient errors. `report` gets each such error, and
    /// `None` after the next success.
    pub async fn next_with_retries(
        &mut self,
        mut report: impl FnMut(Option<&ReadError>),
    ) -> Result<Batch<E>, ReadError> {
        let mut waits = Backoff::for_server();
        loop {
            match self.next().await {
                Ok(batch) => {
                    report(None);
                    return Ok(batch);
                }
                // The client retries by itself.
                Err(error @ ReadError::Consumer(_)) if error.is_transient() => report(Some(&error)),
                Err(error) if error.is_transient() => {
                    report(Some(&error));
                    tokio::time::sleep(waits.wait()).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for more records, or for the ends of partitions after offsets without a record. Cancel-safe.
    async fn fetch(&mut self) -> Result<(), ReadError> {
        let Fetched { records, ends } = self.records.next().await?;
        self.raw.extend(records);
        for end in ends {
            if let Some(position) = end.position {
                self.ends.insert(end.partition, position);
            }
        }
        Ok(())
    }

    /// Decodes and judges fetched records, up to a full batch. Judging comes last: after an error the record is
    /// still the first one of `raw`, and the rule has the state before it.
    async fn judge_fetched(&mut self) -> Result<(), ReadError> {
        for _ in 0..BATCH_COMMITS_MAX {
            let Some(record) = self.raw.front() else {
                break;
            };
            if let Some(partition) = self.partitions.get_mut(&record.partition)
                && partition.takes(record)?
            {
                let decoded = self
                    .decoder
                    .decode_if(record, || partition.would_be_valid(record));
                let commit = match decoded.await {
                    Err(error) if partition.would_be_valid(record) => {
                        return Err(unreadable(self.topic, record, error));
                    }
                    decoded => decoded.ok(),
                };
                partition.take(self.topic, record, commit)?;
            }
            self.raw.pop_front();
        }
        if self.raw.is_empty() {
            for (number, position) in std::mem::take(&mut self.ends) {
                if let Some(partition) = self.partitions.get_mut(&number) {
                    partition.pass_over(position)?;
                }
            }
        }
        Ok(())
    }

    /// The broker's timestamp of the last record of a partition that was judged, in milliseconds since 1970;
    /// `None` before the first record, or if the broker sets no timestamp.
    pub fn last_stamp_ms(&self, partition: i32) -> Option<i64> {
        let stamp = self.partitions.get(&partition)?.last_stamp_ms;
        stamp.filter(|stamp| *stamp >= 0)
    }

    /// The state of each partition that is not halted, after all returned batches; `None` while a checkpoint
    /// is not confirmed, or while a batch waits to be returned.
    pub(crate) fn position(&self) -> Option<BTreeMap<i32, Checkpoint>> {
        let read = self
            .partitions
            .iter()
            .filter(|(_, partition)| !partition.halted);
        let is_confirmed = read.clone().all(|(_, partition)| partition.probe.is_none());
        (is_confirmed && self.ready.is_empty()).then(|| {
            read.map(|(number, partition)| (*number, partition.rule.checkpoint()))
                .collect()
        })
    }

    /// The log's ends when this reader was opened.
    pub(crate) fn ends_at_open(&self) -> &BTreeMap<i32, i64> {
        &self.ends_at_open
    }

    /// Requests that the chain's hash after the valid record at an offset is kept when that record is read.
    pub(crate) fn note_hash_at(&mut self, partition: i32, offset: i64) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.noted = Some((offset, None));
        }
    }

    /// The hash of [`Reader::note_hash_at`]; `None` if no valid record was read there.
    pub(crate) fn noted_hash(&self, partition: i32) -> Option<Hash> {
        self.partitions.get(&partition)?.noted?.1
    }

    /// Builds batches of the judged records.
    fn collect(&mut self) {
        for (number, partition) in &mut self.partitions {
            self.ready.extend(partition.collect(*number));
        }
    }

    fn halt(&mut self, number: i32) {
        metrics::counter!(names::HALTED_PARTITIONS, "topic" => self.topic).increment(1);
        self.raw.retain(|record| record.partition != number);
        if let Some(partition) = self.partitions.get_mut(&number) {
            partition.halted = true;
        }
    }
}

impl<E, P: RuleProtocol> Partition<E, P> {
    fn new(start: Checkpoint) -> Self {
        let delivered = start.next_offset;
        let known = start.probe_offset.is_some();
        Self {
            rule: Rule::resume(&start),
            probe: known.then_some(start),
            delivered,
            last_stamp_ms: None,
            building: Vec::new(),
            bytes: 0,
            void: 0,
            halted: false,
            noted: None,
        }
    }

    /// Whether a record is to be judged: neither before the checkpoint nor after a halt. The first one
    /// is the probe.
    fn takes(&mut self, record: &Record) -> Result<bool, ReadError> {
        if self.halted {
            return Ok(false);
        }
        if let Some(checkpoint) = &self.probe {
            checkpoint.probe(
                record.offset,
                record.key.as_deref(),
                record.value.as_deref(),
            )?;
            self.rule.check_version()?;
            self.probe = None;
        }
        Ok(record.offset >= self.rule.next_offset())
    }

    /// Skips the offsets up to `position`, which have no record.
    fn pass_over(&mut self, position: i64) -> Result<(), ReadError> {
        if let Some(checkpoint) = &self.probe {
            // The first record must be the probe. Its offset has no record, so this is another log.
            checkpoint.probe(position, None, None)?;
        }
        if !self.halted {
            self.rule.pass_over(position);
        }
        Ok(())
    }

    fn would_be_valid(&self, record: &Record) -> bool {
        let verdict = self.rule.clone().judge(
            record.offset,
            record.key.as_deref(),
            record.value.as_deref(),
        );
        matches!(verdict, Ok(Verdict::Valid(_)))
    }

    fn take(
        &mut self,
        topic: &'static str,
        record: &Record,
        commit: Option<Commit<E>>,
    ) -> Result<(), ReadError> {
        self.last_stamp_ms = Some(record.timestamp_ms);
        let (key, value) = (record.key.clone(), record.value.as_deref());
        match (
            self.rule.judge(record.offset, key.as_deref(), value)?,
            commit,
        ) {
            (Verdict::Valid(_), Some(commit)) => {
                let key = key.expect("a valid record has a key");
                self.bytes += key.len() + value.map_or(0, <[u8]>::len);
                if let Some((offset, hash)) = &mut self.noted
                    && *offset == record.offset
                {
                    *hash = Some(self.rule.hash());
                }
                self.building.push(Valid {
                    offset: record.offset,
                    key,
                    commit,
                });
            }
            (Verdict::Valid(_), None) => unreachable!("a valid record was decoded before"),
            (Verdict::Void(reason), _) => {
                self.void += 1;
                metrics::counter!(
                    names::VOID_RECORDS, "topic" => topic, "reason" => reason.name()
                )
                .increment(1);
            }
        }
        Ok(())
    }

    fn collect(&mut self, partition: i32) -> Option<Batch<E>> {
        let checkpoint = self.rule.checkpoint();
        if self.building.is_empty() && checkpoint.next_offset <= self.delivered {
            return None;
        }
        let from = std::mem::replace(&mut self.delivered, checkpoint.next_offset);
        let commits = std::mem::take(&mut self.building);
        Some(Batch {
            partition,
            from,
            commits: commits.into(),
            bytes: std::mem::take(&mut self.bytes),
            void: std::mem::take(&mut self.void),
            checkpoint,
        })
    }
}

/// The error of a valid record that was not decoded, with its coordinates.
fn unreadable(topic: &str, record: &Record, error: CodecError) -> ReadError {
    let (topic, partition, offset) = (topic.to_owned(), record.partition, record.offset);
    match error {
        // An unavailable schema does not make the record unreadable: wait.
        CodecError::Registry(error) if !matches!(error, RegistryError::NotAvro { .. }) => {
            ReadError::Codec {
                topic,
                partition,
                offset,
                source: CodecError::Registry(error),
            }
        }
        error => ReadError::Unreadable {
            topic,
            partition,
            offset,
            reason: error.to_string(),
        },
    }
}
