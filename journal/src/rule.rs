//! The void rule: which records of a journal partition are valid.
//!
//! A verdict is a pure function of the log up to that record: no I/O, no clock, no registry. Every reader and
//! the owner itself use this one implementation, so all agree, and since a verdict depends on earlier records
//! only, it never changes. The rule does not read a decision's content.
//!
//! - An *announcement* is valid iff its seq is 0 and its epoch is the current epoch + 1; the first
//!   epoch is 1. It begins a term and ends the previous one. Its `prev` is not checked, because its
//!   writer can't know which records land before it; the chain includes it nevertheless.
//! - A *commit* (no-op or decision) is valid iff epoch and term are the current ones, its seq is the
//!   last valid seq + 1 and its `prev` is the chain's hash. A record that carries that hash and is not
//!   valid was altered.
//! - Every other record is *void*: read, counted, skipped. The exception is a record that no correct run
//!   produces: it raises an *alarm*, at which the reader halts.
//!
//! **Why no correct run raises an alarm.** An owner announces the epoch after the one that it has read
//! to be in force, under a term that no other owner uses; commits only after it has read its own
//! announcement as valid; and gives each seq of its term to one record. A log keeps every record that
//! was once read from it. So:
//!
//! - An announcement of epoch e comes after the valid one of e - 1. When it is judged, the current
//!   epoch is e - 1 or later: it is the next or too late, and never skips one.
//! - A commit of epoch e and term t comes after the valid announcement of both. When it is judged, the current epoch
//!   is e or later; and if it is e, the term is t, because an epoch has one valid announcement. So it is never before
//!   the first term, of a future epoch, or of another term under the current epoch. A zombie's commit is of an epoch
//!   that has ended, so it is void.
//! - Each seq of a term names one record, so the record that was judged valid before a commit is the
//!   one that its owner wrote before it, and so on back to the announcement. So if epoch, term and
//!   seq are right, `prev` is right.
//! - The chain's hash names all valid records up to here. So the writer of a commit that carries it as
//!   `prev` had read or written exactly these records, its term's announcement among them: the commit
//!   is the term's next one, with the next seq, and can't be void.
//!
//! Each point holds for late, lost and duplicated appends and for zombies, because it depends on the records
//! that a writer had read before it wrote, and delays don't change those. A reader that meets a counterexample
//! does not have the log that the writer read: an announcement was altered or is lost, or records before it
//! are. Reading on silently would be wrong, because all following records might be void for that reason alone.
//! The model of owners in `journal/tests/` shows the same exhaustively.
//!
//! **Later versions.** An announcement names the version of the rule that its owner follows. One that
//! would be valid but for a later version than [`RULE_VERSION_KNOWN`] raises an alarm too: "newer software
//! needed". A checkpoint that names such a version also raises the alarm. So a later version may change
//! everything except the frame up to the announcement's fields.
//!
//! Limits. The chain confirms a record only when the next valid commit arrives, so the last valid record
//! is unconfirmed. A commit that is lost, or that is altered in `prev` and elsewhere, leaves its
//! term without a next seq: the rest of the term is void, and the first commit of the next term raises
//! the alarm, because its `prev` covers them. Anyone who may write to the topic can halt its readers.

mod verdict;

pub use verdict::{Alarm, Breach, Verdict, VoidReason};

pub use crate::{
    chain::{Hash, chain_hash, genesis_hash},
    rule_version::{RULE_VERSION_ANNOUNCED, RULE_VERSION_FIRST, RULE_VERSION_KNOWN},
};

use crate::{
    checkpoint::Checkpoint,
    frame::{self, Frame, Kind},
    protocol::{CorrectProtocol, RuleProtocol, follows},
};
use schemas::Timestamp;
use std::marker::PhantomData;

/// Why a record is not valid.
enum Objection {
    Void(VoidReason),
    Breach(Breach),
}

impl From<VoidReason> for Objection {
    fn from(reason: VoidReason) -> Self {
        Self::Void(reason)
    }
}

impl From<Breach> for Objection {
    fn from(breach: Breach) -> Self {
        Self::Breach(breach)
    }
}

/// The rule over one partition, with its state after the records that it has judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule<P: RuleProtocol = CorrectProtocol> {
    /// The checkpoint is the rule's whole state, so no other field can diverge from it.
    state: Checkpoint,
    protocol: PhantomData<P>,
}

impl Rule {
    /// The rule before the first record of a partition.
    pub fn new(topic: &str, partition: i32) -> Self {
        Self::start(topic, partition)
    }

    /// The rule as it was after the checkpoint's last valid record; see [`Rule::resume`].
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Self {
        Self::resume(checkpoint)
    }
}

impl<P: RuleProtocol> Rule<P> {
    /// The rule, or a mutation of it, before the first record of a partition.
    pub fn start(topic: &str, partition: i32) -> Self {
        Self::of(Checkpoint::start(topic, partition))
    }

    /// The rule, or a mutation of it, as it was after the checkpoint's last valid record. The caller
    /// calls [`Checkpoint::probe`] first to check that this record is still there. The void records
    /// after it are judged again, because no hash covers them.
    pub fn resume(checkpoint: &Checkpoint) -> Self {
        Self::of(Checkpoint {
            next_offset: checkpoint.resume_offset(),
            ..checkpoint.clone()
        })
    }

    fn of(state: Checkpoint) -> Self {
        Self {
            state,
            protocol: PhantomData,
        }
    }

    /// Judges the next record of the partition.
    ///
    /// Offsets may skip forward: control records of a foreign transactional producer take offsets that
    /// no consumer sees. A skipped commit shows as a gap in seq.
    ///
    /// # Errors
    /// An [`Alarm`], at which the reader halts; the state stays as it was before this record.
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
                self.take(offset, key, value, &frame);
                Verdict::Valid(frame)
            }
            Err(Objection::Void(reason)) if self.was_altered(value) => {
                return Err(self.chain_broken(offset, Breach::Altered { reason }));
            }
            Err(Objection::Void(reason)) => Verdict::Void(reason),
            Err(Objection::Breach(breach)) => return Err(self.chain_broken(offset, breach)),
        };
        // No Kafka log reaches 2^63 records; saturating rules out a panic anyway.
        self.state.next_offset = offset.saturating_add(1);
        Ok(verdict)
    }

    /// Skips the offsets before `offset` that were not judged. They belong to control records of a foreign
    /// transactional producer, which no consumer sees. No verdict depends on them.
    pub fn pass_over(&mut self, offset: i64) {
        self.state.next_offset = self.state.next_offset.max(offset);
    }

    /// The state after all records judged so far, even if none of them was valid.
    pub fn checkpoint(&self) -> Checkpoint {
        self.state.clone()
    }

    /// Checks that this rule supports the version of the current term. A checkpoint may come from newer software.
    ///
    /// # Errors
    /// The [`Alarm`] that the term's announcement would raise, at the offset of the last valid record.
    pub fn check_version(&self) -> Result<(), Alarm> {
        let offset = self.state.probe_offset.unwrap_or(0);
        Self::known(self.state.rule_version).map_err(|breach| self.chain_broken(offset, breach))
    }

    /// The current term's number; 0 before the first.
    pub fn epoch(&self) -> i64 {
        self.state.epoch
    }

    /// The current term; zeros before the first.
    pub fn term(&self) -> [u8; 16] {
        self.state.term
    }

    /// The current term's last valid seq; the announcement has seq 0.
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

    /// The lowest offset that the next record may have.
    pub fn next_offset(&self) -> i64 {
        self.state.next_offset
    }

    /// Log time: the greatest `recorded_at` of valid commits, and at least 1970. Announcements don't
    /// count.
    pub fn log_time(&self) -> Timestamp {
        self.state.log_time
    }

    /// Whether a value has the chain's hash at the position of a commit's `prev`.
    fn was_altered(&self, value: Option<&[u8]>) -> bool {
        value
            .and_then(frame::prev)
            .is_some_and(|prev| P::was_altered(prev, &self.state.hash))
    }

    /// Key, value and frame of a record that is valid.
    fn candidate<'a>(
        &self,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
    ) -> Result<(&'a [u8], &'a [u8], Frame), Objection> {
        let key = key.ok_or(VoidReason::NullKey)?;
        let value = value.ok_or(VoidReason::NullValue)?;
        let frame = Frame::read(value).map_err(VoidReason::Malformed)?;
        match frame.kind {
            Kind::Announcement { .. } | Kind::NoOp if !key.is_empty() => {
                return Err(VoidReason::KeyForbidden.into());
            }
            Kind::Decision if key.is_empty() => return Err(VoidReason::KeyMissing.into()),
            Kind::Announcement { rule_version, .. } => {
                self.place_announcement(&frame, rule_version)?;
            }
            Kind::NoOp | Kind::Decision => self.place_commit(&frame)?,
        }
        Ok((key, value, frame))
    }

    fn place_announcement(&self, frame: &Frame, rule_version: i32) -> Result<(), Objection> {
        let (current, found) = (self.state.epoch, frame.epoch);
        if frame.seq != 0 {
            Err(VoidReason::AnnouncementSeq { found: frame.seq }.into())
        } else if found <= current {
            Err(VoidReason::AnnouncementTooLate { current, found }.into())
        } else if !P::begins_next_term(current, found) {
            Err(Breach::AnnouncementSkipsEpoch { current, found }.into())
        } else {
            Self::known(rule_version).map_err(Objection::from)
        }
    }

    /// Checks that this rule supports the version.
    fn known(found: i32) -> Result<(), Breach> {
        let known = P::known_rule_version();
        match found <= known {
            true => Ok(()),
            false => Err(Breach::NewerRule { known, found }),
        }
    }

    fn place_commit(&self, frame: &Frame) -> Result<(), Objection> {
        let (current, found) = (self.state.epoch, frame.epoch);
        // Without this check, a commit of epoch 0 and a term of zeros would match the initial state.
        if self.state.log_id.is_none() {
            Err(Breach::BeforeFirstTerm { found }.into())
        } else if found > current {
            Err(Breach::FutureEpoch { current, found }.into())
        } else if found < current {
            Err(VoidReason::OtherTerm { current, found }.into())
        } else if frame.term != self.state.term {
            Err(Breach::TermUnknown {
                epoch: current,
                current: hex::encode(self.state.term),
                found: hex::encode(frame.term),
            }
            .into())
        } else if !follows(self.state.seq, frame.seq) {
            Err(VoidReason::SeqOutOfOrder {
                expected: self.state.seq.saturating_add(1),
                found: frame.seq,
            }
            .into())
        } else if !P::continues_chain(&frame.prev, &self.state.hash) {
            Err(Breach::OtherHistory {
                expected: hex::encode(self.state.hash),
                found: hex::encode(frame.prev),
            }
            .into())
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
        match frame.kind {
            // An owner with a wrong clock announces itself, notices the error from the broker's
            // timestamp on its announcement and never commits; its clock must not expire any ids.
            Kind::Announcement { rule_version, .. } => {
                state.rule_version = rule_version.max(RULE_VERSION_FIRST);
            }
            Kind::NoOp | Kind::Decision => state.log_time = state.log_time.max(frame.recorded_at),
        }
    }

    fn chain_broken(&self, offset: i64, breach: Breach) -> Alarm {
        Alarm::ChainBroken {
            topic: self.state.topic.clone(),
            partition: self.state.partition,
            offset,
            breach,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_without_a_record_are_passed_over_forwards_only() {
        let mut rule = Rule::new("journal.probe", 3);
        rule.pass_over(7);
        assert_eq!(rule.next_offset(), 7);
        rule.pass_over(5);
        assert_eq!(rule.next_offset(), 7);
        rule.judge(6, None, None).unwrap_err();
        rule.judge(7, None, None).unwrap();
    }

    #[test]
    fn alarms_and_reasons_say_where_and_why() {
        let mut rule = Rule::new("journal.probe", 3);
        let reason = match rule.judge(7, None, None) {
            Ok(Verdict::Void(reason)) => reason,
            other => panic!("{other:?} instead of Void"),
        };
        assert_eq!(reason.to_string(), "key is null");
        let alarm = rule.judge(7, None, None).unwrap_err();
        assert_eq!(
            alarm.to_string(),
            "offset went back at journal.probe/3@7: next is 8"
        );
    }
}
