//! A record of the simulated log.

use bytes::Bytes;

/// A record of the log, with the times of its transport.
#[derive(Debug, Clone)]
pub(super) struct StoredRecord {
    pub key: Bytes,
    pub value: Bytes,
    pub stamp_ms: i64,
    /// When it was handed over, in simulated time.
    pub handed_ms: u64,
    /// When it landed.
    pub landed_ms: u64,
    /// The error of its writer's clock at that time, in microseconds.
    pub clock_offset_us: i64,
}
