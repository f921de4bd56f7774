//! Reads a journal by the void rule: valid commits, decoded, in order; void records only counted.
//!
//! A reader starts from checkpoints (or from the beginning) and gives a new checkpoint with every
//! batch, so that whoever stores both together resumes without a gap. What can't be judged or read
//! stops that partition, never passes in silence; the other partitions go on.

use crate::{
    checkpoint::{Checkpoint, ProbeError},
    log::{Feed, ReadLog, Source},
    metrics as names,
    protocol::Protocol,
    rule::{Alarm, Rule, Verdict},
};
use backon::BackoffBuilder;
use bytes::Bytes;
use kafka::{
    CodecError, ConsumerError, Decoder, Record, Registry, RegistryError, admin::AdminError,
};
use schemas::{Body, Commit, ContextEvent, Decision, ids};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Most commits in one batch.
pub const BATCH_COMMITS_MAX: usize = 2_000;
/// First and longest wait between tries while the brokers or the registry are away.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A valid commit.
#[derive(Debug, Clone)]
pub struct Valid<E> {
    /// Its place in the partition.
    pub offset: i64,
    /// `<aggregate type>_<aggregate id>`; empty for announcements and no-ops.
    pub key: Bytes,
    /// The record, decoded.
    pub commit: Commit<E>,
}

/// What a stretch of one partition came to.
#[derive(Debug, Clone)]
pub struct Batch<E> {
    /// The journal's partition.
    pub partition: i32,
    /// The `next_offset` of the checkpoint before this batch: deltas must join.
    pub from: i64,
    /// The valid records, in order. May be empty.
    pub commits: Vec<Valid<E>>,
    /// How many records were void.
    pub void: u64,
    /// The void rule's state after this batch.
    pub checkpoint: Checkpoint,
}

/// Why a journal can't be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log that the checkpoint was taken from is not this one.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The log ends before the checkpoint: it was truncated or replaced.
    #[error("{topic}/{partition} ends at {end}, before the checkpoint's offset {next_offset}")]
    LogTooShort {
        /// The journal.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The offset that the next record will get.
        end: i64,
        /// Where the checkpoint stands.
        next_offset: i64,
    },
    /// The log was altered. This partition is read no further.
    #[error(transparent)]
    Alarm(#[from] Alarm),
    /// A valid record can't be decoded, as when newer software wrote it. This partition is read no
    /// further.
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
        /// Where it went wrong.
        reason: String,
    },
    /// The brokers.
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
    /// The brokers, at start.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The registry.
    #[error("{topic}/{partition}@{offset}: {source}")]
    Codec {
        /// The journal.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// What the registry said.
        source: CodecError,
    },
}

impl ReadError {
    /// Whether the same reader may be asked again and will go on where it was.
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

    /// The partition that is read no further, if the others are.
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
pub struct Reader<E, L: ReadLog = Source> {
    topic: &'static str,
    feed: L::Feed,
    decoder: Bodies,
    raw: VecDeque<Record>,
    partitions: BTreeMap<i32, Partition<E, L::Protocol>>,
    ready: VecDeque<Batch<E>>,
}

/// One partition's progress.
struct Partition<E, P: Protocol> {
    rule: Rule<P>,
    /// Compared with the log's record before anything is taken from it.
    probe: Option<Checkpoint>,
    /// The last batch's `next_offset`.
    posted: i64,
    /// When the broker took the last record.
    last_stamp_ms: Option<i64>,
    building: Vec<Valid<E>>,
    void: u64,
    halted: bool,
}

impl<E: ContextEvent, L: ReadLog> Reader<E, L> {
    /// Begins to read the event type's journal after the given checkpoints, one per partition
    /// ([`Checkpoint::start`]: from the beginning). `role` names the client.
    pub async fn open(log: &L, role: &str, starts: Vec<Checkpoint>) -> Result<Self, ReadError> {
        let topic = E::CONTEXT.topic;
        let mut partitions = BTreeMap::new();
        let mut offsets = Vec::with_capacity(starts.len());
        for start in starts {
            let end = log.end(topic, start.partition).await?;
            if end < start.next_offset {
                return Err(ReadError::LogTooShort {
                    topic: topic.to_owned(),
                    partition: start.partition,
                    end,
                    next_offset: start.next_offset,
                });
            }
            // Reading begins with the probe, so that it needs no reading of its own. Where there is
            // none nothing valid was seen, and the beginning is as near as anything.
            offsets.push((start.partition, start.probe_offset.unwrap_or(0)));
            partitions.insert(start.partition, Partition::new(start));
        }
        let feed = log.feed(role, topic, &offsets)?;
        Ok(Self {
            topic,
            feed,
            decoder: Bodies::new(log.registry()),
            raw: VecDeque::new(),
            partitions,
            ready: VecDeque::new(),
        })
    }

    /// Waits until each checkpoint's last valid record was read again and found to be the same, which
    /// else happens at the first batch: for those who write before they read. Cancel-safe.
    ///
    /// # Errors
    /// As [`Reader::next`], but for what stands behind those records: that is the next batch's.
    pub async fn confirm(&mut self) -> Result<(), ReadError> {
        let unconfirmed = |partition: &Partition<E, L::Protocol>| partition.probe.is_some();
        while self.partitions.values().any(unconfirmed) {
            self.raw.extend(self.feed.next().await?);
            let worked = self.work_through().await;
            self.collect();
            if self.partitions.values().any(unconfirmed) {
                worked?;
            }
        }
        Ok(())
    }

    /// Waits for the next batch. Cancel-safe.
    ///
    /// # Errors
    /// After one that [`ReadError::is_transient`], or that has a [`ReadError::halted_partition`],
    /// call again: reading goes on where it was, or with the other partitions. After another, give
    /// up.
    pub async fn next(&mut self) -> Result<Batch<E>, ReadError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(batch);
            }
            let worked = self.work_through().await;
            self.collect();
            match worked {
                Err(error) if self.ready.is_empty() => {
                    if let Some(partition) = error.halted_partition() {
                        self.halt(partition);
                    }
                    return Err(error);
                }
                // What came before the error goes first; the error will come again.
                Err(_) => {}
                Ok(()) if self.ready.is_empty() => self.raw.extend(self.feed.next().await?),
                Ok(()) => {}
            }
        }
    }

    /// The same, waiting out everything that waiting mends; `trouble` hears of each such error, and
    /// of the end of trouble (`None`).
    pub async fn next_patiently(
        &mut self,
        mut trouble: impl FnMut(Option<&ReadError>),
    ) -> Result<Batch<E>, ReadError> {
        let mut waits = backoff();
        loop {
            match self.next().await {
                Ok(batch) => {
                    trouble(None);
                    return Ok(batch);
                }
                // The client itself tries again, at its own pace.
                Err(error @ ReadError::Consumer(_)) if error.is_transient() => {
                    trouble(Some(&error))
                }
                Err(error) if error.is_transient() => {
                    trouble(Some(&error));
                    tokio::time::sleep(waits.next().unwrap_or(BACKOFF.1)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Judges and decodes what was fetched, up to a full batch. A record is judged last of all: an
    /// error leaves it the first of `raw`, and the rule before it.
    async fn work_through(&mut self) -> Result<(), ReadError> {
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
        Ok(())
    }

    /// When the broker took the last record of a partition that was judged, in milliseconds since 1970;
    /// `None` before the first, or if the broker does not say.
    pub fn last_stamp_ms(&self, partition: i32) -> Option<i64> {
        let stamp = self.partitions.get(&partition)?.last_stamp_ms;
        stamp.filter(|stamp| *stamp >= 0)
    }

    /// Makes batches of what was worked through.
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

impl<E, P: Protocol> Partition<E, P> {
    fn new(start: Checkpoint) -> Self {
        let posted = start.next_offset;
        let known = start.probe_offset.is_some();
        Self {
            rule: Rule::resume(&start),
            probe: known.then_some(start),
            posted,
            last_stamp_ms: None,
            building: Vec::new(),
            void: 0,
            halted: false,
        }
    }

    /// Whether a record is to be judged: not before the checkpoint, nor after a halt. The first one
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
        if self.building.is_empty() && checkpoint.next_offset <= self.posted {
            return None;
        }
        let from = std::mem::replace(&mut self.posted, checkpoint.next_offset);
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

/// Decodes bodies, but asks the registry for nobody's sake: bytes that the rule makes void may name
/// any schema.
struct Bodies {
    decoder: Decoder,
    registry: Registry,
}

impl Bodies {
    fn new(registry: &Registry) -> Self {
        Self {
            decoder: Decoder::new(registry.clone()),
            registry: registry.clone(),
        }
    }

    async fn decode_if<E: ContextEvent>(
        &self,
        record: &Record,
        wanted: impl FnOnce() -> bool,
    ) -> Result<Commit<E>, CodecError> {
        let value = record.value.as_deref().unwrap_or_default();
        let (schema_id, _) = kafka::codec::split(value)?;
        if self.registry.cached(schema_id).is_none() && !wanted() {
            return Err(CodecError::Unreadable {
                schema_id,
                reason: "not asked for".into(),
            });
        }
        self.decoder.decode(value).await
    }
}

/// Waits between tries: doubling, jittered, bounded, without an end.
pub(crate) fn backoff() -> impl Iterator<Item = Duration> {
    backon::ExponentialBuilder::default()
        .with_min_delay(BACKOFF.0)
        .with_max_delay(BACKOFF.1)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Why a valid record has no body for us, with its coordinates.
fn unreadable(topic: &str, record: &Record, error: CodecError) -> ReadError {
    let (topic, partition, offset) = (topic.to_owned(), record.partition, record.offset);
    match error {
        // A schema that can't be had says nothing about the record: wait.
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
