//! The names of this crate's metrics.

/// Counter by job: events added to their windows since the process started.
pub const EVENTS: &str = "daybook_streams_events_total";
/// Gauge by job and window: windows in memory.
pub const WINDOWS: &str = "daybook_streams_windows";
/// Counter by job and window: records that the brokers acknowledged.
pub const PUBLISHED: &str = "daybook_streams_published_records_total";
/// Counter by job and window: publications that failed and are tried again.
pub const PUBLISH_FAILURES: &str = "daybook_streams_publish_failures_total";
/// Histogram by job: seconds that it took to publish everything that had changed.
pub const PUBLISH_SECONDS: &str = "daybook_streams_publish_seconds";
/// Gauge by job, topic and partition: everything of the journal before this offset is published.
pub const NEXT_OFFSET: &str = "daybook_streams_next_offset";
