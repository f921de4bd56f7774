//! The records and errors that readers receive.

use bytes::Bytes;

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The topic's partition.
    pub partition: i32,
    /// The record's offset in the partition.
    pub offset: i64,
    /// When the broker received the record, in milliseconds since 1970; -1 if the broker does not report it.
    pub timestamp_ms: i64,
    /// `None` if the record has no key, which differs from an empty key.
    pub key: Option<Bytes>,
    /// `None` if the record is a tombstone, which differs from an empty value.
    pub value: Option<Bytes>,
}

/// A batch of records and ends; not empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// The records, sorted by offset within each partition.
    pub records: Vec<Record>,
    /// Partitions that were read to their ends after these records.
    pub ends: Vec<EndReached>,
}

/// A partition that the client has read to its current end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndReached {
    /// The topic's partition.
    pub partition: i32,
    /// The next offset after everything that was read, including control records; `None` if nothing was read.
    pub position: Option<i64>,
}

/// The kinds of partition ends that are reported to a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// All ends, for bounded reads.
    All,
    /// Only ends after offsets without a record, for readers that follow the log. Such a reader can tell any other end
    /// from the last record.
    BehindRecords,
}

/// Why the consumer returned no batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerError {
    /// The client retries by itself; the next call may succeed.
    #[error("topic {topic}: the brokers can't be reached or don't answer: {reason}")]
    Unreachable {
        /// The topic read.
        topic: String,
        /// The client library's message.
        reason: String,
    },
    /// The consumer was not started, because the operating system lacks threads, memory or descriptors. A retry may
    /// succeed.
    #[error("topic {topic}: the consumer can't be started now: {reason}")]
    NotStarted {
        /// The topic to read.
        topic: String,
        /// The message of the operating system or the library.
        reason: String,
    },
    /// The log has lost its beginning, or ends before the consumer's position.
    #[error("topic {topic}: a requested offset is no longer in the log: {reason}")]
    OffsetOutOfRange {
        /// The topic read.
        topic: String,
        /// The client library's message.
        reason: String,
    },
    /// The error is permanent.
    #[error("topic {topic}: {reason}")]
    Fatal {
        /// The topic read.
        topic: String,
        /// The client library's message.
        reason: String,
    },
}

impl ConsumerError {
    /// Whether a retry may succeed: another call of this consumer, or another start if it was not started.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::NotStarted { .. })
    }
}
