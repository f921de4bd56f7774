//! Distinguishes void records of a correct run from records that only an alteration explains.
//!
//! A void record is not a fault. A log whose owners all follow the rule has void records of these kinds,
//! and no others:
//!
//! - Commits of an announced term after a later announcement has ended it: a zombie's writes.
//! - Duplicates: the producer sends a batch twice, byte for byte.
//! - Announcements of an epoch that another owner took first, or that were sent twice.
//! - A gap within the current term: a batch was lost, and the batches after it landed. The owner sees an
//!   unknown outcome, stops, and announces a new epoch; if it died, its successor announces one. So an
//!   announcement ends the gap, unless the log ends first (the export or the reader was faster, or no
//!   node has taken over yet). The lost commit may still arrive late, and is valid then.
//! - Records of other tools, which are not commits.
//!
//! The rule itself halts at records that no such log has: a broken chain, a skipped epoch, a commit of a
//! term that is not in force under the current or a later epoch, and a record that would be void although
//! its `prev` is the chain's current hash. For those records, this module only names an earlier record that may
//! have been altered instead of the alarm's.
//!
//! The rule continues after three more kinds of records that such a log never has, whatever failures its owners had.
//! Each is a finding, in a topic and in a copy, and names its offset:
//!
//! 1. *A second, different record with the seq of the last valid one.* A seq is used once per term. (Records with an
//!    earlier seq are assumed to be duplicates; distinguishing them needs the hashes of all records of a term.)
//! 2. *A commit of an ended epoch with a term that no valid announcement announced for it.* An owner
//!    serves only after it has read its own announcement as valid, so this record was altered, or no owner
//!    wrote it. (With the current epoch the rule halts at such a commit.)
//! 3. *An announcement or commit that no owner writes*: with a key where none is allowed, without a key
//!    where one is required, or an announcement with a seq other than 0.
//!
//! Other traces of an alteration prove nothing: a record removed from a copy, or one altered in both seq
//! and `prev`, looks like a gap. Gaps are therefore *notes*, not findings. The end line of a copy decides
//! whether the copy was altered (it has the last hash, the number of records and a digest of all records, void
//! ones included), and the earliest note shows the place. A topic has no end line; for a note about it, compare
//! the topic with an older copy. No later record confirms the last valid record yet, so the report always
//! contains its hash.
//!
//! Pure. Memory is bounded except for one small entry per term.

use crate::{
    finding::Problem,
    frame::Frame,
    model::{AlarmReason, Entry, Model, Void, VoidReason, next_hash},
};
use std::collections::{HashMap, HashSet};

/// Maximum number of notes that are kept per partition. The first notes matter most.
const NOTES_MAX: usize = 20;
/// Maximum number of void announcements that are remembered, and of unknown terms that are reported.
const TERMS_MAX: usize = 1_000;

/// An observation about a partition that is not a fault by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The record's offset.
    pub offset: i64,
    /// The observation.
    pub kind: NoteKind,
}

/// Kinds of observations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoteKind {
    /// Commits after a gap in the current term.
    Gap {
        /// The missing seq.
        expected: i64,
        /// The seq found instead.
        found: i64,
        /// Number of void records after the gap.
        records: u64,
        /// Offset of the announcement that ended the term.
        ended_at: Option<i64>,
    },
    /// Offsets without a record.
    OffsetsMissing {
        /// The first offset without a record.
        from: i64,
    },
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let offset = self.offset;
        match self.kind {
            NoteKind::Gap {
                expected,
                found,
                records,
                ended_at,
            } => {
                write!(
                    f,
                    "offset {offset}: seq {found} instead of {expected}; {records} void records after the gap, "
                )?;
                match ended_at {
                    Some(announcement) => {
                        write!(f, "which the announcement at offset {announcement} ends")
                    }
                    None => write!(f, "which no announcement ends"),
                }
            }
            NoteKind::OffsetsMissing { from } => {
                write!(
                    f,
                    "offset {offset}: offsets {from} to {} have no record",
                    offset - 1
                )
            }
        }
    }
}

/// Watches a partition's records as the model judges them.
#[derive(Debug, Default)]
pub struct Evidence {
    announced: HashSet<(i64, [u8; 16])>,
    /// Offsets of void announcements, by their term.
    void_announcements: HashMap<[u8; 16], i64>,
    reported: HashSet<(i64, [u8; 16])>,
    /// Offset of the current term's announcement.
    announcement: Option<i64>,
    /// Offset of the last void record after the last valid one that may have been an announcement.
    suspect: Option<i64>,
    notes: Vec<Note>,
    /// Index of the note about a gap that no announcement has ended yet.
    open_gap: Option<usize>,
    in_gap: bool,
}

impl Evidence {
    /// Call this before the model judges a record.
    pub fn before(&mut self, model: &Model, offset: i64) {
        let from = model.next_offset();
        if offset > from {
            let kind = NoteKind::OffsetsMissing { from };
            self.note(Note { offset, kind });
        }
    }

    /// Call this for each valid record.
    pub fn valid(&mut self, offset: i64, frame: &Frame) {
        self.suspect = None;
        if !frame.is_announcement() {
            return;
        }
        self.announced.insert((frame.epoch, frame.term));
        self.announcement = Some(offset);
        self.in_gap = false;
        if let Some(index) = self.open_gap.take()
            && let NoteKind::Gap { ended_at, .. } = &mut self.notes[index].kind
        {
            *ended_at = Some(offset);
        }
    }

    /// Call this for each void record, after `model` has judged it.
    pub fn void(&mut self, model: &Model, entry: Entry<'_>, void: &Void) -> Option<Problem> {
        let Some(frame) = &void.frame else {
            self.suspect = Some(entry.offset);
            return None;
        };
        if frame.is_announcement() {
            self.suspect = Some(entry.offset);
            if self.void_announcements.len() < TERMS_MAX {
                self.void_announcements.insert(frame.term, entry.offset);
            }
        }
        if is_never_written_by_an_owner(void.reason) {
            let reason = void.reason.to_string();
            return Some(Problem::NotAnOwners { reason });
        }
        if frame.is_announcement() {
            return None;
        }
        if !self.announced.contains(&(frame.epoch, frame.term)) {
            return self.not_announced(frame);
        }
        if let VoidReason::SeqGap { expected, found } = void.reason {
            self.gap(entry.offset, expected, found);
        }
        seq_twice(model, entry, frame)
    }

    /// Call this for the record at which the rule halts. Returns the offset of an earlier record that may
    /// have been altered instead, if the alarm does not name one itself.
    pub fn alarm(&self, entry: Entry<'_>, reason: AlarmReason) -> Option<i64> {
        match reason {
            AlarmReason::AnnouncementSkipsEpoch { .. } => self.suspect,
            AlarmReason::BeforeFirstTerm | AlarmReason::FutureEpoch { .. } => {
                self.lost_announcement(&frame(entry)?)
            }
            AlarmReason::TermUnknown { .. } => {
                let lost = self.void_announcements.get(&frame(entry)?.term);
                lost.copied().or(self.announcement)
            }
            AlarmReason::ChainBroken { .. }
            | AlarmReason::OffsetWentBack { .. }
            | AlarmReason::Altered { .. }
            | AlarmReason::NewerRule { .. } => None,
        }
    }

    /// Offset of the void record that was probably the announcement of a commit's term.
    fn lost_announcement(&self, frame: &Frame) -> Option<i64> {
        let announcement = self.void_announcements.get(&frame.term);
        announcement.copied().or(self.suspect)
    }

    fn not_announced(&mut self, frame: &Frame) -> Option<Problem> {
        let term = (frame.epoch, frame.term);
        if self.reported.len() >= TERMS_MAX || !self.reported.insert(term) {
            return None;
        }
        Some(Problem::TermNotAnnounced {
            epoch: frame.epoch,
            term: hex::encode(frame.term),
            announcement: self.lost_announcement(frame),
        })
    }

    fn gap(&mut self, offset: i64, expected: i64, found: i64) {
        if !self.in_gap {
            self.in_gap = true;
            self.open_gap = self.note(Note {
                offset,
                kind: NoteKind::Gap {
                    expected,
                    found,
                    records: 0,
                    ended_at: None,
                },
            });
        }
        if let Some(index) = self.open_gap
            && let NoteKind::Gap { records, .. } = &mut self.notes[index].kind
        {
            *records += 1;
        }
    }

    /// Stores a note while there is room; returns its index.
    fn note(&mut self, note: Note) -> Option<usize> {
        let has_room = self.notes.len() < NOTES_MAX;
        has_room.then(|| {
            self.notes.push(note);
            self.notes.len() - 1
        })
    }

    /// The notes, ordered by offset.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }
}

/// Whether a record with a readable frame is void for a reason that no log of a correct run has.
fn is_never_written_by_an_owner(reason: VoidReason) -> bool {
    match reason {
        VoidReason::KeyForbidden | VoidReason::KeyMissing | VoidReason::AnnouncementSeq { .. } => {
            true
        }
        VoidReason::NullKey
        | VoidReason::NullValue
        | VoidReason::Malformed(_)
        | VoidReason::AnnouncementTooLate { .. }
        | VoidReason::OtherTerm { .. }
        | VoidReason::SeqRepeated { .. }
        | VoidReason::SeqGap { .. } => false,
    }
}

fn frame(entry: Entry<'_>) -> Option<Frame> {
    Frame::read(entry.value?).ok()
}

fn seq_twice(model: &Model, entry: Entry<'_>, frame: &Frame) -> Option<Problem> {
    let (term, first) = (model.term()?, model.last_valid()?);
    if (frame.epoch, frame.term, frame.seq) != (term.epoch, term.id, term.seq) {
        return None;
    }
    let hash = next_hash(&model.previous_hash(), entry.key?, entry.value?);
    (hash != model.hash()).then_some(Problem::SeqTwice {
        seq: frame.seq,
        first,
    })
}
