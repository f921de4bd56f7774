//! The names of this crate's metrics.
//!
//! Invariant of every view that is not stopped, between batches: events read = applied + stale.

/// Counter by view: valid events that were read from the journal.
pub const EVENTS_READ: &str = "daybook_projections_events_read_total";
/// Counter by view: events in committed batches, with or without a changed row.
pub const EVENTS_APPLIED: &str = "daybook_projections_events_applied_total";
/// Counter by view: events read that another projector had already applied.
pub const EVENTS_STALE: &str = "daybook_projections_events_stale_total";
/// Histogram by view: seconds from a batch's fold to its commit, without failed attempts.
pub const APPLY_SECONDS: &str = "daybook_projections_apply_seconds";
/// Counter by view: failed attempts to apply a batch that are retried.
pub const APPLY_RETRIES: &str = "daybook_projections_apply_retries_total";
/// Gauge by view, topic and partition: the checkpoint's next offset.
pub const NEXT_OFFSET: &str = "daybook_projections_next_offset";
/// Gauge by view: 1 once the view is stopped at a batch that can't be applied, else 0.
pub const STOPPED: &str = "daybook_projections_stopped";
/// Gauge: live clients that get events as they are recorded.
pub const LIVE_CLIENTS: &str = "daybook_projections_live_clients";
/// Counter: live clients whose streams ended because they read too slowly.
pub const LIVE_SLOW_CLIENTS: &str = "daybook_projections_live_slow_clients_total";
