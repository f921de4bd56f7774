//! Reasons why a journal can't be read, and whether the reader can continue.

use crate::{checkpoint::ProbeError, rule::Alarm};
use kafka::{CodecError, ConsumerError, admin::AdminError};

/// Why a journal can't be read further.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The checkpoint was taken from another log.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The log ends before the checkpoint, by two measurements: it was truncated or replaced.
    #[error("{topic}/{partition} ends at {end}, before the checkpoint's offset {next_offset}")]
    LogTooShort {
        /// The journal.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The offset that the next record will get.
        end: i64,
        /// The checkpoint's offset.
        next_offset: i64,
    },
    /// The log was altered. This partition is not read further.
    #[error(transparent)]
    Alarm(#[from] Alarm),
    /// A valid record can't be decoded, for example because newer software wrote it. This partition is
    /// not read further.
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
        /// The decoder's error.
        reason: String,
    },
    /// The brokers did not return records.
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
    /// The brokers did not return an offset at start.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The registry did not return a schema.
    #[error("{topic}/{partition}@{offset}: {source}")]
    Codec {
        /// The journal.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// The registry's error.
        source: CodecError,
    },
}

impl ReadError {
    /// Whether the same reader can continue at its position.
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

    /// The partition that is halted, if the others are still read.
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
