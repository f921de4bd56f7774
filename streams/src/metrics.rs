//! The names of this crate's metrics.

/// Counter by `job`: events added to their windows since the node started.
pub const EVENTS: &str = "daybook_streams_events_total";
/// Gauge by `job` and `window`: windows in memory.
pub const WINDOWS: &str = "daybook_streams_windows";
/// Counter by `job` and `window`: records that the brokers acknowledged.
pub const PUBLISHED: &str = "daybook_streams_published_records_total";
/// Counter by `job` and `window`: publications that failed; each is attempted again.
pub const PUBLISH_FAILURES: &str = "daybook_streams_publish_failures_total";
/// Histogram by `job`: seconds to publish all changed windows.
pub const PUBLISH_SECONDS: &str = "daybook_streams_publish_seconds";
/// Gauge by `job`, `topic` and `partition`: the results include all records before this offset.
pub const NEXT_OFFSET: &str = "daybook_streams_next_offset";
