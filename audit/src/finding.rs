//! What an audit may find wrong.

use crate::model::AlarmReason;
use serde::{Serialize, Serializer, ser::SerializeStruct};

/// One thing that is wrong with a log or with a copy of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The partition; `None` if it concerns a copy as a whole.
    pub place: Option<Place>,
    /// The first record that it concerns.
    pub offset: Option<i64>,
    /// What is wrong.
    pub problem: Problem,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The journal's topic.
    pub topic: String,
    /// The topic's partition.
    pub partition: i32,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The rule halts; the partition was not judged further.
    #[error("{reason}{}; the partition was not judged any further", or_the_one_before(*.suspect))]
    Alarm {
        /// Why it halts.
        reason: AlarmReason,
        /// A record before it that may have been altered instead.
        suspect: Option<i64>,
    },
    /// An owner writes one record only under a number.
    #[error("another record than the one at offset {first} bears its term and seq {seq}")]
    SeqTwice {
        /// The number.
        seq: i64,
        /// The offset of the record that counts.
        first: i64,
    },
    /// Whoever commits has announced itself before.
    #[error(
        "a commit bears epoch {epoch} and term {term}, which no valid announcement made{}",
        hint(*.announcement)
    )]
    TermNotAnnounced {
        /// Its epoch.
        epoch: i64,
        /// Its term, in hexadecimal digits.
        term: String,
        /// A record that may have been the announcement.
        announcement: Option<i64>,
    },
    /// An announcement or commit such as no owner writes.
    #[error("no owner writes such a record ({reason})")]
    NotAnOwners {
        /// Why it is void.
        reason: String,
    },
    /// Versions count events without a gap.
    #[error("{key} is at version {expected}, but the decision was taken at version {found}")]
    VersionGap {
        /// The aggregate's key.
        key: String,
        /// The number of its events so far.
        expected: i64,
        /// What the decision says.
        found: i64,
    },
    /// A command is decided once while its id is kept.
    #[error("command {command_id} was decided before, at offset {first}")]
    CommandTwice {
        /// The command's id, in hexadecimal digits.
        command_id: String,
        /// Where it was decided first.
        first: i64,
    },
    /// A valid decision can't be read.
    #[error("the decision can't be read with schema id {schema_id}: {reason}")]
    Undecodable {
        /// The writer's schema.
        schema_id: u32,
        /// Why not.
        reason: String,
    },
    /// A journal is kept whole.
    #[error("the log begins at offset {low}, its beginning is gone; the partition was not judged")]
    BeginningGone {
        /// The first offset there is.
        low: i64,
    },
    /// The copy ends before it says where the partition ends.
    #[error("the copy is truncated: it has no end line for the partition")]
    Truncated,
    /// The copy's records are not those that were exported.
    #[error("the copy differs from what was exported ({differences}); {trace}")]
    CopyDiffers {
        /// What the end line says otherwise.
        differences: String,
        /// Where the first trace of it is.
        trace: String,
    },
    /// The line of a record is not as it was exported.
    #[error("the record is not the one that was exported: its check is {expected}, not {found}")]
    RecordAltered {
        /// The check that its line has.
        expected: String,
        /// The check of what the line says.
        found: String,
    },
    /// A line of the copy is none.
    #[error("line {line} of the copy can't be read: {reason}")]
    UnreadableLine {
        /// Its number, from 1.
        line: u64,
        /// Why not.
        reason: String,
    },
}

fn hint(announcement: Option<i64>) -> String {
    announcement.map_or_else(String::new, |offset| {
        format!("; the record at offset {offset} may have been it")
    })
}

fn or_the_one_before(offset: Option<i64>) -> String {
    offset.map_or_else(String::new, |offset| {
        format!("; it, or the record at offset {offset}, was altered")
    })
}

impl Problem {
    /// Short and stable.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Alarm { reason, .. } => reason.name(),
            Self::SeqTwice { .. } => "seq_twice",
            Self::TermNotAnnounced { .. } => "term_not_announced",
            Self::NotAnOwners { .. } => "not_an_owners",
            Self::VersionGap { .. } => "version_gap",
            Self::CommandTwice { .. } => "command_twice",
            Self::Undecodable { .. } => "undecodable",
            Self::BeginningGone { .. } => "beginning_gone",
            Self::Truncated => "truncated_copy",
            Self::CopyDiffers { .. } => "copy_differs",
            Self::RecordAltered { .. } => "record_altered",
            Self::UnreadableLine { .. } => "unreadable_line",
        }
    }

    /// A record before the finding's own that may have been altered instead.
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
            | Self::Undecodable { .. }
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
        if let Some(place) = &self.place {
            write!(f, "{place}")?;
            if let Some(offset) = self.offset {
                write!(f, " offset {offset}")?;
            }
            write!(f, ": ")?;
        }
        write!(f, "{}", self.problem)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Finding", 6)?;
        fields.serialize_field("problem", self.problem.name())?;
        fields.serialize_field("topic", &self.place.as_ref().map(|place| &place.topic))?;
        fields.serialize_field(
            "partition",
            &self.place.as_ref().map(|place| place.partition),
        )?;
        fields.serialize_field("offset", &self.offset)?;
        fields.serialize_field("since", &self.problem.since())?;
        fields.serialize_field("detail", &self.problem.to_string())?;
        fields.end()
    }
}
