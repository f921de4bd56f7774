//! Reads a journal by the void rule: valid commits are decoded in order; void records are only counted.
//!
//! A reader starts from checkpoints (or from offset 0) and gives a new checkpoint with every batch, so
//! that a consumer that stores both together resumes without a gap. A record that can't be judged or
//! decoded halts its partition and is never skipped silently; the other partitions continue.

use crate::{
    bodies::Bodies,
    checkpoint::{Checkpoint, ProbeError},
    log::{ReadLog, RecordStream, Source},
    metrics as names,
    protocol::{CorrectProtocol, RuleProtocol},
    rule::{Alarm, Rule, Verdict},
};
use backoff::Backoff;
use bytes::Bytes;
use kafka::{CodecError, ConsumerError, Fetched, Record, RegistryError, admin::AdminError};
use schemas::{Body, Commit, ContextEvent, Decision, ids};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Most commits in one batch.
pub const BATCH_COMMITS_MAX: usize = 2_000;
/// Time after which an end before the checkpoint is measured again: a broker that just became the leader may
/// have to hear from the others first.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// A valid commit.
#[derive(Debug, Clone)]
pub struct Valid<E> {
    /// Its offset in the partition.
    pub offset: i64,
    /// `<aggregate type>_<aggregate id>`; empty for announcements and no-ops.
    pub key: Bytes,
    /// The record, decoded.
    pub commit: Commit<E>,
}

/// The valid commits of a range of one partition's offsets.
#[derive(Debug, Clone)]
pub struct Batch<E> {
    /// The journal's partition.
    pub partition: i32,
    /// The `next_offset` of the checkpoint before this batch: deltas must join.
    pub from: i64,
    /// The valid records, in order. May be empty.
    pub commits: Vec<Valid<E>>,
    /// Number of void records.
    pub void: u64,
    /// The void rule's state after this batch.
    pub checkpoint: Checkpoint,
}

/// Why a journal can't be read further.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log that the checkpoint was taken from is not this one.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The log ends before the checkpoint, by two measurements: it was truncated or replaced.
    #[error("{topic}/{partition} ends at {end}, before the checkpoint's offset {next_offset}")]
    LogTooShort {
        /// The journal.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The offset that the next record will get.
        end: i64,
        /// The checkpoint's offset.
        next_offset: i64,
    },
    /// The log was altered. This partition is not read further.
    #[error(transparent)]
    Alarm(#[from] Alarm),
    /// A valid record can't be decoded, for example because newer software wrote it. This partition is
    /// not read further.
    #[error(
        "{topic}/{partition}@{offset} is valid but can't be read by this program; newer software \
         may be needed: {reason}"
    )]
    Unreadable {
        /// The journal.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// The decoder's error.
        reason: String,
    },
    /// The brokers did not give records.
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
    /// The brokers did not give an offset, at start.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The registry did not give a schema.
    #[error("{topic}/{partition}@{offset}: {source}")]
    Codec {
        /// The journal.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// The registry's error.
        source: CodecError,
    },
}

impl ReadError {
    /// Whether the same reader can continue where it was.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Consumer(error) => error.is_transient(),
            Self::Admin(error) => error.is_transient(),
            Self::Codec { .. } => true,
            Self::Probe(_)
            | Self::LogTooShort { .. }
            | Self::Alarm(_)
            | Self::Unreadable { .. } => false,
        }
    }

    /// The partition that is not read further, if the others are.
    pub fn halted_partition(&self) -> Option<i32> {
        match self {
            Self::Alarm(
                Alarm::ChainBroken { partition, .. } | Alarm::OffsetWentBack { partition, .. },
            ) => Some(*partition),
            Self::Unreadable { partition, .. } => Some(*partition),
            Self::Probe(_)
            | Self::LogTooShort { .. }
            | Self::Consumer(_)
            | Self::Admin(_)
            | Self::Codec { .. } => None,
        }
    }
}

/// Reads some partitions of one journal.
pub struct Reader<E, L: ReadLog = Source, P: RuleProtocol = CorrectProtocol> {
    topic: &'static str,
    records: L::Records,
    decoder: Bodies,
    raw: VecDeque<Record>,
    /// Positions of partitions whose last offsets have no record, behind `raw`.
    ends: BTreeMap<i32, i64>,
    partitions: BTreeMap<i32, Partition<E, P>>,
    ready: VecDeque<Batch<E>>,
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
    void: u64,
    halted: bool,
}

impl<E: ContextEvent, L: ReadLog> Reader<E, L> {
    /// Starts to read the event type's journal after the given checkpoints, one per partition
    /// ([`Checkpoint::start`]: from offset 0). `role` names the client.
    pub async fn open(log: &L, role: &str, starts: Vec<Checkpoint>) -> Result<Self, ReadError> {
        Self::open_with(log, role, starts).await
    }
}

impl<E: ContextEvent, L: ReadLog, P: RuleProtocol> Reader<E, L, P> {
    /// As [`Reader::open`], with the rule `P`.
    pub async fn open_with(
        log: &L,
        role: &str,
        starts: Vec<Checkpoint>,
    ) -> Result<Self, ReadError> {
        let topic = E::CONTEXT.topic;
        let mut partitions = BTreeMap::new();
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
            // Start at the probe, so that it needs no read of its own. Without one no valid record
            // was read, so start at offset 0.
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
        })
    }

    /// Waits until each checkpoint's last valid record was read again and found unchanged. Otherwise this
    /// happens at the first batch; a caller that appends before it reads needs it earlier. Cancel-safe.
    ///
    /// # Errors
    /// As [`Reader::next`], except that errors behind those records belong to the next batch.
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
    /// After an error that [`ReadError::is_transient`], or that has a [`ReadError::halted_partition`],
    /// call again: reading continues where it was, or with the other partitions. After any other, give
    /// up.
    pub async fn next(&mut self) -> Result<Batch<E>, ReadError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(batch);
            }
            let judged = self.judge_fetched().await;
            self.collect();
            match judged {
                Err(error) if self.ready.is_empty() => {
                    if let Some(partition) = error.halted_partition() {
                        self.halt(partition);
                    }
                    return Err(error);
                }
                // Deliver the commits before the error first; the error will come again.
                Err(_) => {}
                Ok(()) if self.ready.is_empty() => self.fetch().await?,
                Ok(()) => {}
            }
        }
    }

    /// As [`Reader::next`], but retries after transient errors. `report` gets each such error, and
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

    /// Waits for more records, or for the ends of partitions behind offsets without a record. Cancel-safe.
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

    /// Decodes and judges fetched records, up to a full batch. A record is judged last: after an error it
    /// is still the first of `raw`, and the rule is in the state before it.
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

    /// The broker's timestamp of the last record of a partition that was judged, in milliseconds since
    /// 1970; `None` before the first, or if the broker gives none.
    pub fn last_stamp_ms(&self, partition: i32) -> Option<i64> {
        let stamp = self.partitions.get(&partition)?.last_stamp_ms;
        stamp.filter(|stamp| *stamp >= 0)
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
            void: 0,
            halted: false,
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
                let key = key.expect("the rule gives no record without a key as valid");
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
            commits,
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

impl<E: ContextEvent> Valid<E> {
    /// The decision, unless this is an announcement or a no-op.
    pub fn decision(&self) -> Option<&Decision<E>> {
        match &self.commit.body {
            Body::Decision(decision) => Some(decision),
            Body::Announcement(_) | Body::NoOp(_) => None,
        }
    }

    /// The key as text: `<aggregate type>_<aggregate id>`. Our own keys are printable ASCII.
    pub fn key_text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }

    /// The id of one of its events.
    pub fn event_id(&self, log_id: &[u8; 32], index: usize) -> String {
        ids::event_id(log_id, self.commit.epoch, self.commit.seq, index)
    }
}
