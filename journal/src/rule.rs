//! The void rule: which records of a journal partition are true.
//!
//! A pure function of the log up to a record: no I/O, no clock, no registry. Every reader and the
//! owner itself ask this one implementation, so all agree, and since a verdict depends on earlier
//! records only, none ever changes its mind. What a decision says is not judged here.
//!
//! - An *announcement* is valid iff its seq is 0 and its epoch is the current epoch + 1; the first
//!   epoch is 1. It begins a term and ends the one before. Its `prev` is not checked, for its writer
//!   can't know what lands before it; the chain runs through it all the same.
//! - A *commit* (no-op or decision) is valid iff epoch and term are the current ones and its seq is
//!   the last valid seq + 1. If all that holds and its `prev` is not the chain's hash, the log was
//!   altered or has lost records: an alarm, at which the reader halts.
//! - Everything else is *void*: read, counted, skipped.
//!
//! Limits. The chain confirms a record when the next valid commit comes, so it can't speak for the
//! last valid record. And an altered record may be void rather than an alarm: then all that follows
//! it in its term is void too, and behind an altered announcement all that follows. Signs of that are
//! [`VoidReason::BeforeFirstTerm`], [`VoidReason::FutureEpoch`] and
//! [`VoidReason::AnnouncementSkipsEpoch`], which no honest owner's records meet with, and within the
//! last term a gap in seq that no announcement follows.

use crate::{
    checkpoint::Checkpoint,
    frame::{Frame, FrameError, Kind},
};
use schemas::Timestamp;

/// The version of the rule that announcements name.
pub const RULE_VERSION: i32 = 1;

/// A link of the chain: BLAKE3, 32 bytes.
pub type Hash = [u8; 32];

/// h(0), the chain's beginning: it binds a log to its topic and partition.
pub fn genesis_hash(topic: &str, partition: i32) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"daybook/1");
    hasher.update(&length_prefix(topic.as_bytes()));
    hasher.update(topic.as_bytes());
    hasher.update(&partition.to_be_bytes());
    hasher.finalize().into()
}

/// h(n): the chain's hash after a valid record, from the one before it. `value` includes the 5 bytes
/// of wire header.
pub fn chain_hash(before: &Hash, key: &[u8], value: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before);
    hasher.update(&length_prefix(key));
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().into()
}

/// A length stands before what could otherwise run into the next part.
fn length_prefix(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len())
        .expect("a Kafka record and a topic's name are below 2 GiB")
        .to_be_bytes()
}

/// The rule over one partition, and all it knows of the records that it has judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The checkpoint is the rule's whole state; there is nothing beside it to get out of step.
    state: Checkpoint,
}

/// What a record is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Part of the log's truth; an announcement too.
    Valid(Frame),
    /// Nobody's truth.
    Void(VoidReason),
}

/// Why a record is void. Of several reasons the first in this order is given; the reason is for
/// people and metrics, and nothing may depend on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VoidReason {
    /// A key is there in every record of ours, though it may be empty.
    #[error("key is null")]
    NullKey,
    /// A tombstone; journals are never compacted, and know none.
    #[error("value is null")]
    NullValue,
    /// Not a record of ours.
    #[error("malformed: {0}")]
    Malformed(#[from] FrameError),
    /// An announcement or a no-op with a key.
    #[error("announcement or no-op has a key")]
    KeyForbidden,
    /// A decision about no aggregate.
    #[error("decision has an empty key")]
    KeyMissing,
    /// An announcement that is not its term's first record.
    #[error("announcement has seq {found}, not 0")]
    AnnouncementSeq {
        /// Its seq.
        found: i64,
    },
    /// An announcement that another overtook, or one that was sent again.
    #[error("announcement of epoch {found} in epoch {current}")]
    AnnouncementTooLate {
        /// The epoch in force.
        current: i64,
        /// The announcement's.
        found: i64,
    },
    /// An announcement by somebody who can't have read the epoch before it.
    #[error("announcement of epoch {found} in epoch {current} skips what lies between")]
    AnnouncementSkipsEpoch {
        /// The epoch in force.
        current: i64,
        /// The announcement's.
        found: i64,
    },
    /// A commit before any valid announcement.
    #[error("commit of epoch {found} before any announcement")]
    BeforeFirstTerm {
        /// Its epoch.
        found: i64,
    },
    /// A commit of an epoch that nobody announced. An owner commits only after it has read its
    /// announcement, so this hints at a log that was altered or has lost records.
    #[error("commit of epoch {found} in epoch {current}, before its announcement")]
    FutureEpoch {
        /// The epoch in force.
        current: i64,
        /// The commit's.
        found: i64,
    },
    /// A zombie's commit: of a term that has ended, or one that never began.
    #[error("commit of epoch {found}, term {term}, which is not in force; the epoch is {current}", term = hex::encode(found_term))]
    OtherTerm {
        /// The epoch in force.
        current: i64,
        /// The commit's epoch.
        found: i64,
        /// The commit's term.
        found_term: [u8; 16],
    },
    /// A commit that came twice, or one that a lost commit should have come before.
    #[error("commit has seq {found} where {expected} comes next")]
    SeqOutOfOrder {
        /// The only seq that would be valid.
        expected: i64,
        /// The commit's.
        found: i64,
    },
}

impl VoidReason {
    /// A stable short name, for metrics and vectors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NullKey => "null_key",
            Self::NullValue => "null_value",
            Self::Malformed(error) => error.name(),
            Self::KeyForbidden => "key_forbidden",
            Self::KeyMissing => "key_missing",
            Self::AnnouncementSeq { .. } => "announcement_seq",
            Self::AnnouncementTooLate { .. } => "announcement_too_late",
            Self::AnnouncementSkipsEpoch { .. } => "announcement_skips_epoch",
            Self::BeforeFirstTerm { .. } => "before_first_term",
            Self::FutureEpoch { .. } => "future_epoch",
            Self::OtherTerm { .. } => "other_term",
            Self::SeqOutOfOrder { expected, found } if found < expected => "seq_repeated",
            Self::SeqOutOfOrder { .. } => "seq_gap",
        }
    }
}

/// Why a reader has to halt: what it was given can't be the log that it has read so far.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Alarm {
    /// A commit in its right place that follows another history. Altered is this record, the last
    /// valid record ([`Checkpoint::probe_offset`]) or, if that is an announcement, one before it
    /// that no commit had confirmed yet.
    #[error(
        "chain broken at {topic}/{partition}@{offset}: record has prev {found}, the log before it gives {expected}"
    )]
    ChainBroken {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// The chain's hash, hex.
        expected: String,
        /// The record's `prev`, hex.
        found: String,
    },
    /// A record that was judged before, or a log that became shorter.
    #[error("offset went back at {topic}/{partition}@{offset}: next is {next_offset}")]
    OffsetWentBack {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// The least offset that may come.
        next_offset: i64,
    },
}

impl Alarm {
    /// A stable short name, for metrics and vectors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ChainBroken { .. } => "chain_broken",
            Self::OffsetWentBack { .. } => "offset_went_back",
        }
    }
}

impl Rule {
    /// The rule before the first record of a partition.
    pub fn new(topic: &str, partition: i32) -> Self {
        Self {
            state: Checkpoint::start(topic, partition),
        }
    }

    /// The rule as it was when the checkpoint was taken. Whether the log is still that log, the
    /// caller asks [`Checkpoint::probe`] first.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Self {
        Self {
            state: checkpoint.clone(),
        }
    }

    /// Judges the next record of the partition.
    ///
    /// Offsets may leap forward: control records of a transactional producer that does not belong
    /// here take offsets that no consumer sees. A leap over a lost commit shows as a gap in seq.
    ///
    /// # Errors
    /// An [`Alarm`], at which the reader halts; the state is then what it was before this record.
    pub fn judge(
        &mut self,
        offset: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<Verdict, Alarm> {
        if offset < self.state.next_offset {
            return Err(self.offset_went_back(offset));
        }
        let verdict = match self.candidate(key, value) {
            Ok((key, value, frame)) => {
                let chained = frame.prev == self.state.hash;
                if !chained && !matches!(frame.kind, Kind::Announcement { .. }) {
                    return Err(self.chain_broken(offset, &frame));
                }
                self.take(offset, key, value, &frame);
                Verdict::Valid(frame)
            }
            Err(reason) => Verdict::Void(reason),
        };
        // Kafka gives no log 2^63 records; saturating keeps even that free of panics.
        self.state.next_offset = offset.saturating_add(1);
        Ok(verdict)
    }

    /// The state after everything judged so far, also when nothing valid was seen yet.
    pub fn checkpoint(&self) -> Checkpoint {
        self.state.clone()
    }

    /// The current term's number; 0 before the first.
    pub fn epoch(&self) -> i64 {
        self.state.epoch
    }

    /// The current term; zeros before the first.
    pub fn term(&self) -> [u8; 16] {
        self.state.term
    }

    /// The current term's last valid seq; 0 is its announcement's.
    pub fn seq(&self) -> i64 {
        self.state.seq
    }

    /// h(n) of the last valid record; h(0) before the first.
    pub fn hash(&self) -> Hash {
        self.state.hash
    }

    /// h(1), which names this log; `None` before the first valid record.
    pub fn log_id(&self) -> Option<Hash> {
        self.state.log_id
    }

    /// The least offset that may come next.
    pub fn next_offset(&self) -> i64 {
        self.state.next_offset
    }

    /// Log time: the greatest `recorded_at` of valid records, and at least 1970.
    pub fn log_time(&self) -> Timestamp {
        self.state.log_time
    }

    /// What may be valid as far as its frame goes; the chain is still to be checked.
    fn candidate<'a>(
        &self,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
    ) -> Result<(&'a [u8], &'a [u8], Frame), VoidReason> {
        let key = key.ok_or(VoidReason::NullKey)?;
        let value = value.ok_or(VoidReason::NullValue)?;
        let frame = Frame::read(value)?;
        match frame.kind {
            Kind::Announcement { .. } | Kind::NoOp if !key.is_empty() => {
                return Err(VoidReason::KeyForbidden);
            }
            Kind::Decision if key.is_empty() => return Err(VoidReason::KeyMissing),
            Kind::Announcement { .. } => self.place_announcement(&frame)?,
            Kind::NoOp | Kind::Decision => self.place_commit(&frame)?,
        }
        Ok((key, value, frame))
    }

    fn place_announcement(&self, frame: &Frame) -> Result<(), VoidReason> {
        let (current, found) = (self.state.epoch, frame.epoch);
        if frame.seq != 0 {
            Err(VoidReason::AnnouncementSeq { found: frame.seq })
        } else if found <= current {
            Err(VoidReason::AnnouncementTooLate { current, found })
        } else if !follows(current, found) {
            Err(VoidReason::AnnouncementSkipsEpoch { current, found })
        } else {
            Ok(())
        }
    }

    fn place_commit(&self, frame: &Frame) -> Result<(), VoidReason> {
        let (current, found) = (self.state.epoch, frame.epoch);
        // Without this, a commit of epoch 0 and a term of zeros would match the state at the start.
        if self.state.log_id.is_none() {
            Err(VoidReason::BeforeFirstTerm { found })
        } else if found > current {
            Err(VoidReason::FutureEpoch { current, found })
        } else if found < current || frame.term != self.state.term {
            Err(VoidReason::OtherTerm {
                current,
                found,
                found_term: frame.term,
            })
        } else if !follows(self.state.seq, frame.seq) {
            Err(VoidReason::SeqOutOfOrder {
                expected: self.state.seq.saturating_add(1),
                found: frame.seq,
            })
        } else {
            Ok(())
        }
    }

    /// Makes a valid record part of the state.
    fn take(&mut self, offset: i64, key: &[u8], value: &[u8], frame: &Frame) {
        let state = &mut self.state;
        state.prev_hash = state.hash;
        state.hash = chain_hash(&state.prev_hash, key, value);
        state.log_id.get_or_insert(state.hash);
        state.epoch = frame.epoch;
        state.term = frame.term;
        state.seq = frame.seq;
        state.probe_offset = Some(offset);
        state.log_time = state.log_time.max(frame.recorded_at);
    }

    fn chain_broken(&self, offset: i64, frame: &Frame) -> Alarm {
        Alarm::ChainBroken {
            topic: self.state.topic.clone(),
            partition: self.state.partition,
            offset,
            expected: hex::encode(self.state.hash),
            found: hex::encode(frame.prev),
        }
    }

    fn offset_went_back(&self, offset: i64) -> Alarm {
        Alarm::OffsetWentBack {
            topic: self.state.topic.clone(),
            partition: self.state.partition,
            offset,
            next_offset: self.state.next_offset,
        }
    }
}

/// Whether a number is the one after the last; nothing follows the greatest.
fn follows(last: i64, found: i64) -> bool {
    last.checked_add(1) == Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No log gets there, but a checkpoint's numbers may come from anywhere.
    #[test]
    fn nothing_follows_the_greatest_numbers() {
        assert!(follows(i64::MAX - 1, i64::MAX));
        assert!(!follows(i64::MAX, i64::MIN));
        assert!(!follows(i64::MAX, i64::MAX));
    }

    #[test]
    fn alarms_and_reasons_say_where_and_why() {
        let mut rule = Rule::new("journal.orders", 3);
        let reason = match rule.judge(7, None, None) {
            Ok(Verdict::Void(reason)) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason.to_string(), "key is null");
        let alarm = rule.judge(7, None, None).unwrap_err();
        assert_eq!(
            alarm.to_string(),
            "offset went back at journal.orders/3@7: next is 8"
        );
    }
}
