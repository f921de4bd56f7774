//! The outcomes of the void rule: valid, void with a reason, or an alarm with a reason.

use crate::frame::{Frame, FrameError};

/// The rule's verdict on a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A record of the log, possibly an announcement.
    Valid(Frame),
    /// A record that every reader skips.
    Void(VoidReason),
}

/// Why a record is void. If several reasons apply, the first one in this order is reported; the reason
/// is for people and metrics, and nothing may depend on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VoidReason {
    /// Each of our records has a key, which may be empty.
    #[error("key is null")]
    NullKey,
    /// A tombstone; journals are never compacted and have none.
    #[error("value is null")]
    NullValue,
    /// The value does not have the format of our records.
    #[error("malformed: {0}")]
    Malformed(#[from] FrameError),
    /// An announcement or a no-op with a key.
    #[error("announcement or no-op has a key")]
    KeyForbidden,
    /// A decision that names no aggregate.
    #[error("decision has an empty key")]
    KeyMissing,
    /// An announcement that is not the first record of its term.
    #[error("announcement has seq {found}, not 0")]
    AnnouncementSeq {
        /// Its seq.
        found: i64,
    },
    /// An announcement of the current epoch or an earlier one: it lost the race for its epoch, or is a copy.
    #[error("announcement of epoch {found} in epoch {current}")]
    AnnouncementTooLate {
        /// The epoch in force.
        current: i64,
        /// The announcement's.
        found: i64,
    },
    /// A zombie's commit: its term has ended.
    #[error("commit of epoch {found} in epoch {current}")]
    OtherTerm {
        /// The epoch in force.
        current: i64,
        /// The commit's epoch.
        found: i64,
    },
    /// A commit that came twice, or one after a lost commit.
    #[error("commit has seq {found} where {expected} comes next")]
    SeqOutOfOrder {
        /// The only valid seq here.
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
            Self::OtherTerm { .. } => "other_term",
            Self::SeqOutOfOrder { expected, found } if found < expected => "seq_repeated",
            Self::SeqOutOfOrder { .. } => "seq_gap",
        }
    }
}

/// Why a reader has to halt: the record can't belong to the log that was read so far, or follows a version of
/// the rule that this program does not know. No correct run produces one; the documentation of [`crate::rule`]
/// says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Alarm {
    /// A record that can't follow the records that were read.
    #[error("{} {topic}/{partition}@{offset}: {breach}", breach.headline())]
    ChainBroken {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// Why it can't follow.
        breach: Breach,
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
        /// The lowest offset that the next record may have.
        next_offset: i64,
    },
}

/// Why a record can't follow the records that were read. If several reasons apply, the first one in
/// this order is reported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// An announcement whose owner has read an epoch that is missing here. An earlier announcement was altered
    /// or is lost, or the epoch of this one was altered.
    #[error("announcement of epoch {found} in epoch {current} skips the epochs between")]
    AnnouncementSkipsEpoch {
        /// The epoch in force; 0 before the first.
        current: i64,
        /// The announcement's epoch.
        found: i64,
    },
    /// The next announcement, by an owner that follows a later rule. The log is intact, but this rule
    /// can't judge the records after this announcement.
    #[error("announcement follows version {found} of the rule, this program knows version {known}")]
    NewerRule {
        /// The version of the rule that this program follows.
        known: i32,
        /// The version that the announcement names.
        found: i32,
    },
    /// A commit before any valid announcement. The start of the log was altered or is lost.
    #[error("commit of epoch {found} before any announcement")]
    BeforeFirstTerm {
        /// Its epoch.
        found: i64,
    },
    /// A commit whose owner has read an announcement that is missing here: the announcement was altered
    /// or is lost, or the commit's epoch was altered.
    #[error("commit of epoch {found} in epoch {current}, before its announcement")]
    FutureEpoch {
        /// The epoch in force.
        current: i64,
        /// The commit's epoch.
        found: i64,
    },
    /// A commit of the epoch in force whose owner has read another announcement of that epoch: the
    /// announcement or the commit was altered.
    #[error("commit of epoch {epoch} has term {found}, but term {current} announced that epoch")]
    TermUnknown {
        /// The epoch in force.
        epoch: i64,
        /// The term in force, hex.
        current: String,
        /// The commit's term, hex.
        found: String,
    },
    /// A commit with the right epoch, term and seq that follows another history. The altered record is
    /// this one, the last valid one ([`Checkpoint::probe_offset`](crate::Checkpoint::probe_offset)) or,
    /// if that is an announcement, one before it that no commit had confirmed yet; or records are lost.
    #[error("record has prev {found}, the log before it gives {expected}")]
    OtherHistory {
        /// The chain's hash, hex.
        expected: String,
        /// The record's `prev`, hex.
        found: String,
    },
    /// A record that carries the chain's hash as its `prev`, and so was the term's next commit, but
    /// would be void. It was altered.
    #[error("record continues the chain, but was altered: {reason}")]
    Altered {
        /// Why it would be void.
        reason: VoidReason,
    },
}

impl Alarm {
    /// A stable short name, for metrics and vectors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ChainBroken { breach, .. } => breach.name(),
            Self::OffsetWentBack { .. } => "offset_went_back",
        }
    }
}

impl Breach {
    /// A stable short name, for metrics and vectors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AnnouncementSkipsEpoch { .. } => "announcement_skips_epoch",
            Self::NewerRule { .. } => "newer_rule",
            Self::BeforeFirstTerm { .. } => "before_first_term",
            Self::FutureEpoch { .. } => "future_epoch",
            Self::TermUnknown { .. } => "term_unknown",
            Self::OtherHistory { .. } => "chain_broken",
            Self::Altered { .. } => "altered",
        }
    }

    /// The beginning of the text of an alarm. It distinguishes an altered log from outdated software.
    fn headline(&self) -> &'static str {
        match self {
            Self::NewerRule { .. } => "newer software needed at",
            Self::AnnouncementSkipsEpoch { .. }
            | Self::BeforeFirstTerm { .. }
            | Self::FutureEpoch { .. }
            | Self::TermUnknown { .. }
            | Self::OtherHistory { .. }
            | Self::Altered { .. } => "chain broken at",
        }
    }
}
