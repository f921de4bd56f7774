//! A journal in memory, for the tests of readers: a writer that follows the rule, and streams of its records.

use crate::{
    chain::Hash,
    log::{ReadLog, RecordStream},
    probe::{Event, Noted, codec},
    rule::{RULE_VERSION_ANNOUNCED, Rule, Verdict},
};
use kafka::{ConsumerError, EndReached, Fetched, Record, Registry, admin::AdminError};
use schemas::{Announcement, Body, Commit, ContextEvent, Decision, NoOp, Origin, Timestamp};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::Notify;

/// The broker's timestamp of each record, in milliseconds since 1970; the value does not matter.
const STAMP_MS: i64 = 1_767_225_600_000;
/// Maximum number of records that a stream returns at once.
const RECORDS_AT_ONCE_MAX: usize = 100;

/// The key of notes.
const NOTE_KEY: &str = "note_a";

/// The journal of the probe context.
#[derive(Clone)]
pub struct MemoryLog {
    partitions: Arc<Mutex<Vec<Partition>>>,
    appended: Arc<Notify>,
    streams: Arc<AtomicUsize>,
}

/// One partition, as its writer knows it.
struct Partition {
    records: Vec<Record>,
    /// The offset that the next record will get.
    end: i64,
    rule: Rule,
    /// Offsets of the valid records.
    valid: Vec<i64>,
}

impl MemoryLog {
    /// An empty journal.
    pub fn new(partitions: i32) -> Self {
        let partition = |number| Partition {
            records: Vec::new(),
            end: 0,
            rule: Rule::new(Event::CONTEXT.topic, number),
            valid: Vec::new(),
        };
        Self {
            partitions: Arc::new(Mutex::new((0..partitions).map(partition).collect())),
            appended: Arc::default(),
            streams: Arc::default(),
        }
    }

    /// Appends a valid announcement.
    pub fn announce(&self, partition: i32) {
        self.append_valid(partition, |partitions, rule| {
            let body = Body::Announcement(Announcement {
                rule_version: RULE_VERSION_ANNOUNCED,
                partitions,
                owner_url: "http://here".into(),
            });
            let epoch = rule.epoch() + 1;
            let mut term = [0; 16];
            term[..8].copy_from_slice(&epoch.to_be_bytes());
            (String::new(), commit([0; 32], (epoch, term, 0), body))
        });
    }

    /// Appends a valid no-op.
    pub fn no_op(&self, partition: i32) {
        self.append_valid(partition, |_, rule| {
            (String::new(), next_commit(rule, Body::NoOp(NoOp {})))
        });
    }

    /// Appends a valid decision, a note of this text.
    pub fn note(&self, partition: i32, text: &str) {
        self.append_valid(partition, |_, rule| {
            (NOTE_KEY.to_owned(), next_commit(rule, note(text)))
        });
    }

    /// Appends a valid decision of an aggregate that had `version` events before. Returns its offset.
    pub fn decide(&self, partition: i32, key: &str, version: i64, events: Vec<Event>) -> i64 {
        self.append_valid(partition, |_, rule| {
            (key.to_owned(), next_commit(rule, decision(version, events)))
        });
        self.end_of(partition) - 1
    }

    /// Appends a foreign record, which is void.
    pub fn append_void(&self, partition: i32) {
        let verdict = self.append(partition, "foreign", b"nothing of ours".to_vec());
        assert!(matches!(verdict, Some(Verdict::Void(_))), "{verdict:?}");
    }

    /// Appends a record that no correct run produces, so that readers halt.
    pub fn append_alarm(&self, partition: i32) {
        let epoch = self.partition(partition, |one| one.rule.epoch()) + 7;
        let record = commit([0; 32], (epoch, [9; 16], 1), note("an altered log"));
        let verdict = self.append(partition, NOTE_KEY, encode(&record));
        assert!(verdict.is_none(), "{verdict:?}");
    }

    /// Uses an offset without a record, as the broker does at the end of a transaction.
    pub fn skip_offset(&self, partition: i32) {
        self.partition(partition, |one| one.end += 1);
        self.appended.notify_waiters();
    }

    /// Replaces a record's value, which no broker does.
    pub fn alter(&self, partition: i32, offset: i64, value: &'static [u8]) {
        self.partition(partition, |one| {
            let mut records = one.records.iter_mut();
            let record = records.find(|record| record.offset == offset);
            record.expect("the offset has a record").value = Some(value.into());
        });
    }

    /// The offsets of the valid records.
    pub fn valid(&self, partition: i32) -> Vec<i64> {
        self.partition(partition, |one| one.valid.clone())
    }

    /// The offset that the next record will get.
    pub fn end_of(&self, partition: i32) -> i64 {
        self.partition(partition, |one| one.end)
    }

    /// Number of streams that are open.
    pub fn open_streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Waits until the log has more after one of these positions. Returns at most `count` records of each
    /// partition, and the ends after offsets without a record. Advances the positions.
    pub async fn read(&self, positions: &mut BTreeMap<i32, i64>, count: usize) -> Fetched {
        loop {
            let appended = self.appended.notified();
            let mut fetched = Fetched::default();
            for (number, next) in &mut *positions {
                self.partition(*number, |one| {
                    let from = one.records.partition_point(|record| record.offset < *next);
                    let records = one.records[from..].iter().take(count);
                    if let Some(last) = records.clone().last() {
                        *next = last.offset + 1;
                    }
                    let is_last = from + records.len() == one.records.len();
                    fetched.records.extend(records.cloned());
                    if is_last && *next < one.end {
                        *next = one.end;
                        fetched.ends.push(EndReached {
                            partition: *number,
                            position: Some(one.end),
                        });
                    }
                });
            }
            if !fetched.records.is_empty() || !fetched.ends.is_empty() {
                return fetched;
            }
            appended.await;
        }
    }

    /// Opens a stream at these positions.
    pub fn open(&self, starts: &[(i32, i64)]) -> MemoryRecords {
        self.streams.fetch_add(1, Ordering::Relaxed);
        MemoryRecords {
            log: self.clone(),
            positions: starts.iter().copied().collect(),
        }
    }

    fn append_valid(
        &self,
        partition: i32,
        record: impl FnOnce(i32, &Rule) -> (String, Commit<Event>),
    ) {
        let partitions = i32::try_from(self.lock().len()).expect("a few partitions");
        let (key, commit) = self.partition(partition, |one| record(partitions, &one.rule));
        let verdict = self.append(partition, &key, encode(&commit));
        assert!(matches!(verdict, Some(Verdict::Valid(_))), "{verdict:?}");
    }

    /// The verdict; `None` for an alarm, after which no record is judged.
    fn append(&self, partition: i32, key: &str, value: Vec<u8>) -> Option<Verdict> {
        let key = key.as_bytes();
        let verdict = self.partition(partition, |one| {
            let offset = one.end;
            let verdict = one.rule.judge(offset, Some(key), Some(&value)).ok();
            if let Some(Verdict::Valid(_)) = verdict {
                one.valid.push(offset);
            }
            one.records.push(Record {
                partition,
                offset,
                timestamp_ms: STAMP_MS,
                key: Some(key.to_vec().into()),
                value: Some(value.into()),
            });
            one.end += 1;
            verdict
        });
        self.appended.notify_waiters();
        verdict
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Partition>> {
        self.partitions.lock().expect("no holder panics")
    }

    fn partition<T>(&self, number: i32, work: impl FnOnce(&mut Partition) -> T) -> T {
        let index = usize::try_from(number).expect("partitions are not below 0");
        work(&mut self.lock()[index])
    }
}

fn next_commit(rule: &Rule, body: Body<Event>) -> Commit<Event> {
    commit(
        rule.hash(),
        (rule.epoch(), rule.term(), rule.seq() + 1),
        body,
    )
}

fn commit(
    prev: Hash,
    (epoch, term, seq): (i64, [u8; 16], i64),
    body: Body<Event>,
) -> Commit<Event> {
    Commit {
        prev,
        term,
        epoch,
        seq,
        recorded_at: Timestamp(STAMP_MS * 1_000),
        body,
    }
}

fn note(text: &str) -> Body<Event> {
    decision(0, vec![Event::Noted(Noted { text: text.into() })])
}

fn decision(version: i64, events: Vec<Event>) -> Body<Event> {
    let aggregate_type = events.first().map_or("note", Event::aggregate_type);
    Body::Decision(Decision {
        aggregate_type: aggregate_type.into(),
        version,
        command_id: [2; 16],
        command_hash: [3; 16],
        origin: Origin::Keyed,
        actor: String::new(),
        correlation_id: [2; 16],
        causation_id: None,
        traceparent: None,
        outcome: None,
        events,
    })
}

fn encode(commit: &Commit<Event>) -> Vec<u8> {
    let (_, encoder) = codec();
    encoder.encode(commit).expect("it fits our own schema")
}

impl ReadLog for MemoryLog {
    type Records = MemoryRecords;

    async fn end(&self, _: &str, partition: i32) -> Result<i64, AdminError> {
        Ok(self.end_of(partition))
    }

    fn records(
        &self,
        _: &str,
        _: &str,
        starts: &[(i32, i64)],
    ) -> Result<MemoryRecords, ConsumerError> {
        Ok(self.open(starts))
    }

    fn registry(&self) -> &Registry {
        let (registry, _) = codec();
        registry
    }
}

/// A stream of the log's records.
pub struct MemoryRecords {
    log: MemoryLog,
    positions: BTreeMap<i32, i64>,
}

impl MemoryRecords {
    /// Like [`RecordStream::next`], but at most `count` of each partition.
    pub async fn next_records(&mut self, count: usize) -> Fetched {
        self.log.read(&mut self.positions, count).await
    }
}

impl RecordStream for MemoryRecords {
    async fn next(&mut self) -> Result<Fetched, ConsumerError> {
        Ok(self.next_records(RECORDS_AT_ONCE_MAX).await)
    }
}

impl Drop for MemoryRecords {
    fn drop(&mut self) {
        self.log.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
