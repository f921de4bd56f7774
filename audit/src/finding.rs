//! The findings of an audit.

use crate::model::AlarmReason;
use serde::{Serialize, Serializer, ser::SerializeStruct};

/// One fault of a log or of a copy of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The partition; `None` if the finding concerns the copy as a whole.
    pub partition: Option<TopicPartition>,
    /// The offset of the first record concerned.
    pub offset: Option<i64>,
    /// The fault.
    pub problem: Problem,
}

/// A partition. The topic is owned, because the lines of a copy may name any topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The journal's topic.
    pub topic: String,
    /// The topic's partition.
    pub partition: i32,
}

/// Kinds of faults.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The rule halts, so the records from here on are not judged.
    #[error("{reason}{}; the partition is not judged from here on", suspect_suffix(*.suspect))]
    Alarm {
        /// The reason of the alarm.
        reason: AlarmReason,
        /// Offset of an earlier record that may have been altered instead.
        suspect: Option<i64>,
    },
    /// An owner uses each seq for one record only.
    #[error("a different record than the one at offset {first} has the same term and seq {seq}")]
    SeqTwice {
        /// The seq.
        seq: i64,
        /// Offset of the valid record.
        first: i64,
    },
    /// An owner announces its term before it commits.
    #[error(
        "a commit has epoch {epoch} and term {term}, which no valid announcement has{}",
        announcement_suffix(*.announcement)
    )]
    TermNotAnnounced {
        /// Its epoch.
        epoch: i64,
        /// Its term, in hexadecimal digits.
        term: String,
        /// Offset of a record that may have been the announcement.
        announcement: Option<i64>,
    },
    /// An announcement or commit that no owner writes.
    #[error("no owner writes such a record: {reason}")]
    NotAnOwners {
        /// The reason why the record is void.
        reason: String,
    },
    /// An aggregate's versions count its events without a gap.
    #[error("{key} has version {expected}, but the decision is based on version {found}")]
    VersionGap {
        /// The aggregate's key.
        key: String,
        /// The number of its events so far.
        expected: i64,
        /// The decision's version.
        found: i64,
    },
    /// A command id is decided once until it expires.
    #[error("command {command_id} was decided before, at offset {first}")]
    CommandTwice {
        /// The command's id, in hexadecimal digits.
        command_id: String,
        /// Offset of the first decision.
        first: i64,
    },
    /// The key of a decision begins with its aggregate's type.
    #[error("a decision about an aggregate of type {aggregate_type:?} has the key {key:?}")]
    KeyOfAnotherType {
        /// The record's key.
        key: String,
        /// The decision's aggregate type.
        aggregate_type: String,
    },
    /// A valid decision can't be decoded.
    #[error("the decision can't be decoded with schema id {schema_id}: {reason}")]
    Undecodable {
        /// The id of the writer's schema.
        schema_id: u32,
        /// The reason.
        reason: String,
    },
    /// The registry lacks the schemas of decisions. The log itself has no fault.
    #[error(
        "{error}; {decisions} decisions were not decoded, so their versions and command ids were not checked"
    )]
    RegistryLostData {
        /// The registry's error, which lists the schemas.
        error: String,
        /// The number of decisions that need these schemas.
        decisions: u64,
    },
    /// Records were deleted from the beginning of the journal.
    #[error(
        "the log begins at offset {low}, the records before it were deleted; the partition is not judged"
    )]
    BeginningGone {
        /// The first offset of the partition.
        low: i64,
    },
    /// The copy has no end line for the partition.
    #[error("the copy is truncated: it has no end line for the partition")]
    Truncated,
    /// The copy's records differ from the exported ones.
    #[error("the copy differs from the exported log ({differences}); {trace}")]
    CopyDiffers {
        /// The differences from the end line.
        differences: String,
        /// The first trace of the alteration.
        trace: String,
    },
    /// A record line differs from the exported one.
    #[error(
        "the record differs from the exported one: its line has check {expected}, its content {found}"
    )]
    RecordAltered {
        /// The check in the line.
        expected: String,
        /// The check computed from the line's other fields.
        found: String,
    },
    /// A line of the copy is unreadable or out of place.
    #[error("line {line} of the copy can't be read: {reason}")]
    UnreadableLine {
        /// Its number, from 1.
        line: u64,
        /// The reason.
        reason: String,
    },
}

fn announcement_suffix(announcement: Option<i64>) -> String {
    announcement.map_or_else(String::new, |offset| {
        format!("; the record at offset {offset} may have been the announcement")
    })
}

fn suspect_suffix(offset: Option<i64>) -> String {
    offset.map_or_else(String::new, |offset| {
        format!("; this record, or the one at offset {offset}, was altered")
    })
}

impl Problem {
    /// A short name that never changes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Alarm { reason, .. } => reason.name(),
            Self::SeqTwice { .. } => "seq_twice",
            Self::TermNotAnnounced { .. } => "term_not_announced",
            Self::NotAnOwners { .. } => "not_an_owners",
            Self::VersionGap { .. } => "version_gap",
            Self::CommandTwice { .. } => "command_twice",
            Self::KeyOfAnotherType { .. } => "key_of_another_type",
            Self::Undecodable { .. } => "undecodable",
            Self::RegistryLostData { .. } => "registry_lost_data",
            Self::BeginningGone { .. } => "beginning_gone",
            Self::Truncated => "truncated_copy",
            Self::CopyDiffers { .. } => "copy_differs",
            Self::RecordAltered { .. } => "record_altered",
            Self::UnreadableLine { .. } => "unreadable_line",
        }
    }

    /// Offset of a record before the finding's own that may have been altered instead.
    pub fn since(&self) -> Option<i64> {
        match self {
            Self::Alarm {
                reason: AlarmReason::ChainBroken { since, .. },
                ..
            } => Some(*since),
            Self::Alarm { suspect, .. } => *suspect,
            Self::SeqTwice { first, .. } => Some(*first),
            Self::TermNotAnnounced { announcement, .. } => *announcement,
            Self::NotAnOwners { .. }
            | Self::VersionGap { .. }
            | Self::CommandTwice { .. }
            | Self::KeyOfAnotherType { .. }
            | Self::Undecodable { .. }
            | Self::RegistryLostData { .. }
            | Self::BeginningGone { .. }
            | Self::Truncated
            | Self::CopyDiffers { .. }
            | Self::RecordAltered { .. }
            | Self::UnreadableLine { .. } => None,
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(partition) = &self.partition {
            write!(f, "{partition}")?;
            if let Some(offset) = self.offset {
                write!(f, " offset {offset}")?;
            }
            write!(f, ": ")?;
        }
        write!(f, "{}", self.problem)
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Finding", 6)?;
        fields.serialize_field("problem", self.problem.name())?;
        let partition = self.partition.as_ref();
        fields.serialize_field("topic", &partition.map(|partition| &partition.topic))?;
        fields.serialize_field("partition", &partition.map(|partition| partition.partition))?;
        fields.serialize_field("offset", &self.offset)?;
        fields.serialize_field("since", &self.problem.since())?;
        fields.serialize_field("detail", &self.problem.to_string())?;
        fields.end()
    }
}
