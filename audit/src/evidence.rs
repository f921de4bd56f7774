//! Tells the void records that an honest log has from those that only an alteration explains.
//!
//! Void is not wrong: a log whose owners all follow the rules has void records of these kinds, and
//! no others.
//!
//! - Commits of a term that *was* announced, after another announcement has ended it: a zombie's.
//! - Duplicates: the producer sends a batch twice, bytes and all.
//! - Announcements of an epoch that was taken by another, or that were sent again.
//! - A gap within the current term: a batch was lost, and those behind it landed all the same. Its
//!   owner sees an unknown outcome, stops, and announces a new epoch; if it died, its successor
//!   does. So an announcement ends the gap, unless the log ends first (the export or the reading was
//!   quicker, or nobody took over yet). The lost commit may even land late, and then counts.
//! - Whatever other tools put there by mistake: no commits at all.
//!
//! What the rule itself halts at, no such log has either: a chain that is broken, epochs that are
//! left out, commits of a term that is not in force under an epoch that is, or is to come, and what
//! would be void though its `prev` is the chain's present hash. For those this module only adds which
//! record may have been altered instead of the one that the alarm names.
//!
//! Three things more are in no such log, however unlucky its owners, though the rule goes on behind
//! them; each is a finding, in the topic as in a copy, and names its offset:
//!
//! 1. *A second, different record under the number of the last valid one.* A number is given once.
//!    (Further back, duplicates are taken for what they seem; the hashes of all records of a term
//!    would be needed to tell.)
//! 2. *A commit of an ended epoch under a term that no valid announcement made for it.* An owner
//!    serves only after it has read its own announcement as valid; so this record was altered, or no
//!    owner wrote it. (Under the epoch in force the rule halts at such a commit.)
//! 3. *An announcement or commit such as no owner writes*: with a key where none belongs or without
//!    one, or an announcement with a seq.
//!
//! What an alteration leaves behind besides is not a proof: a record removed from a copy, or one
//! altered in both seq and `prev`, looks like a gap. Gaps are therefore *notes*, not findings: whether
//! a copy was altered, its end line decides (it holds the last hash, the number of records and a
//! digest of all, void ones included), and the earliest note says where to look. A note without an
//! end line to decide it, in the topic itself, is for the reader to compare with an older copy. So is
//! the last valid record: no later one confirms it yet, which is why its hash is always reported.
//!
//! Pure; memory is bounded but for one small entry per term.

use crate::{
    finding::Problem,
    frame::Frame,
    model::{AlarmReason, Entry, Model, Void, VoidReason, next_hash},
};
use std::collections::{HashMap, HashSet};

/// Most notes that are kept of a partition; the first ones matter most.
const NOTES_MAX: usize = 20;
/// Most announcements that are remembered as void, and most unknown terms that are reported.
const TERMS_MAX: usize = 1_000;

/// What was seen of a partition that is not wrong by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Where.
    pub offset: i64,
    /// What.
    pub kind: NoteKind,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoteKind {
    /// Commits behind a gap in the current term.
    Gap {
        /// The seq that is missing.
        expected: i64,
        /// The seq that came.
        found: i64,
        /// Void records behind it.
        records: u64,
        /// The announcement that ended the term.
        ended_at: Option<i64>,
    },
    /// Offsets that no record has.
    OffsetsMissing {
        /// The least one.
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
                    "offset {offset}: seq {found} came where {expected} should; {records} void behind the gap, "
                )?;
                match ended_at {
                    Some(announcement) => write!(f, "ended by the announcement at {announcement}"),
                    None => write!(f, "and no announcement ends it"),
                }
            }
            NoteKind::OffsetsMissing { from } => {
                write!(
                    f,
                    "offset {offset}: the record before it would be {from}, not there"
                )
            }
        }
    }
}

/// Watches a partition's records as the model judges them.
#[derive(Debug, Default)]
pub struct Evidence {
    announced: HashSet<(i64, [u8; 16])>,
    /// Where announcements stand that do not count, by their term.
    void_announcements: HashMap<[u8; 16], i64>,
    reported: HashSet<(i64, [u8; 16])>,
    /// The announcement in force.
    announcement: Option<i64>,
    /// The last void record since the last valid one that may have been an announcement.
    suspect: Option<i64>,
    notes: Vec<Note>,
    /// The note of a gap that no announcement has ended yet.
    open_gap: Option<usize>,
    in_gap: bool,
}

impl Evidence {
    /// To be called before the model judges a record.
    pub fn before(&mut self, model: &Model, offset: i64) {
        let from = model.next_offset();
        if offset > from {
            let kind = NoteKind::OffsetsMissing { from };
            self.note(Note { offset, kind });
        }
    }

    /// To be called for each valid record.
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

    /// To be called for each void record; `model` has judged it.
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
        if is_not_an_owners(void.reason) {
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

    /// To be called for the record at which the rule halts: which record before it may have been
    /// altered instead, where the alarm does not say so itself.
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

    /// The void record that was most likely the announcement of a commit's term.
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

    /// Keeps a note while there is room, and says where.
    fn note(&mut self, note: Note) -> Option<usize> {
        let has_room = self.notes.len() < NOTES_MAX;
        has_room.then(|| {
            self.notes.push(note);
            self.notes.len() - 1
        })
    }

    /// The notes, in the order of their offsets.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }
}

/// Whether a record with a readable frame is void for a reason that no honest log gives.
fn is_not_an_owners(reason: VoidReason) -> bool {
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
