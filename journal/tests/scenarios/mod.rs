//! The scenarios behind the vectors: each record is written with its expected verdict, and the chain
//! follows those expectations, never the rule. `schemas/golden/journal/README.md` describes the files
//! for readers in other languages, and lists the corner cases.

mod alarms;
mod bytes;
mod commits;
mod terms;

use crate::writer::{A, Draft, Written, announcement, decision, first_link, next_link};
use serde::{Deserialize, Serialize};

/// A chain's hash that occurs in no scenario.
const ELSEWHERE: [u8; 32] = [0x5e; 32];

/// One file of vectors.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Vector {
    pub name: String,
    pub why: String,
    pub topic: String,
    pub partition: i32,
    pub records: Vec<Record>,
    pub checkpoint: End,
}

/// One record, and the right verdict on it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub offset: i64,
    /// Hex.
    pub key: Option<String>,
    /// Hex.
    pub value: Option<String>,
    pub expect: Expect,
    /// The stable short name of the reason to be void, or of the alarm; `None` if valid.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    Valid,
    Void,
    /// The reader stops before this record; its state stays as it was.
    Halt,
}

/// The checkpoint after the last record that did not halt the reader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    pub topic: String,
    pub partition: i32,
    pub log_id: Option<String>,
    pub next_offset: i64,
    pub epoch: i64,
    pub term: String,
    pub seq: i64,
    pub prev_hash: String,
    pub hash: String,
    pub probe_offset: Option<i64>,
    pub log_time: i64,
}

/// Every scenario.
pub fn all() -> Vec<Vector> {
    [terms::all(), commits::all(), bytes::all(), alarms::all()]
        .into_iter()
        .flatten()
        .collect()
}

fn scenario(name: &str, why: &str, write: impl FnOnce(&mut Log)) -> Vector {
    scenario_in("journal.orders", 3, name, why, write)
}

fn scenario_in(
    topic: &str,
    partition: i32,
    name: &str,
    why: &str,
    write: impl FnOnce(&mut Log),
) -> Vector {
    let hash = first_link(topic, partition);
    let mut log = Log {
        hash,
        offset: 0,
        records: Vec::new(),
        end: End {
            topic: topic.into(),
            partition,
            log_id: None,
            next_offset: 0,
            epoch: 0,
            term: hex::encode([0; 16]),
            seq: 0,
            prev_hash: hex::encode([0; 32]),
            hash: hex::encode(hash),
            probe_offset: None,
            log_time: 0,
        },
    };
    write(&mut log);
    Vector {
        name: name.into(),
        why: why.into(),
        topic: topic.into(),
        partition,
        records: log.records,
        checkpoint: log.end,
    }
}

/// A term with one commit.
fn begin(log: &mut Log) {
    log.valid(announcement(1, A));
    log.valid(decision(1, A, 1));
}

/// A log under construction.
struct Log {
    /// The chain's hash after the last record that is expected to be valid.
    hash: [u8; 32],
    /// The next record's offset.
    offset: i64,
    records: Vec<Record>,
    end: End,
}

impl Log {
    fn valid(&mut self, draft: Draft) {
        let record = draft.write(self.offset, &self.hash);
        let before = self.hash;
        self.hash = next_link(&before, &record);
        self.end = End {
            log_id: self.end.log_id.take().or(Some(hex::encode(self.hash))),
            epoch: draft.epoch,
            term: hex::encode(draft.term),
            seq: draft.seq,
            prev_hash: hex::encode(before),
            hash: hex::encode(self.hash),
            probe_offset: Some(self.offset),
            log_time: match draft.seq {
                0 => self.end.log_time,
                _ => self.end.log_time.max(draft.time_us(self.offset)),
            },
            ..self.end.clone()
        };
        self.push(record, Expect::Valid, None);
    }

    /// A void commit, whose `prev` does not continue this log.
    fn void(&mut self, reason: &str, draft: Draft) {
        let record = draft.write(self.offset, &ELSEWHERE);
        self.push(record, Expect::Void, Some(reason));
    }

    /// The chain's hash if this were the next record, and valid.
    fn hash_after(&self, draft: &Draft) -> [u8; 32] {
        self.hash_from(&self.hash, draft)
    }

    /// The chain's hash if this were the next record after `hash`, and valid.
    fn hash_from(&self, hash: &[u8; 32], draft: &Draft) -> [u8; 32] {
        next_link(hash, &draft.write(self.offset, hash))
    }

    /// Always the last record.
    fn halt(&mut self, reason: &str, draft: Draft) {
        let record = draft.write(self.offset, &self.hash);
        let next_offset = self.end.next_offset;
        self.push(record, Expect::Halt, Some(reason));
        self.end.next_offset = next_offset;
    }

    fn push(&mut self, record: Written, expect: Expect, reason: Option<&str>) {
        self.records.push(Record {
            offset: self.offset,
            key: record.key.map(hex::encode),
            value: record.value.map(hex::encode),
            expect,
            reason: reason.map(Into::into),
        });
        self.offset += 1;
        self.end.next_offset = self.offset;
    }
}
