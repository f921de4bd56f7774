//! The names of this crate's metrics.
//!
//! Always true of every view that is not stopped, between batches: events read = applied + left.

/// Counter by view: valid events that came out of the journal.
pub const EVENTS_READ: &str = "daybook_projections_events_read_total";
/// Counter by view: events whose changes, if they make any in this view, were committed.
pub const EVENTS_APPLIED: &str = "daybook_projections_events_applied_total";
/// Counter by view: events read, but posted by another projector that was ahead.
pub const EVENTS_LEFT: &str = "daybook_projections_events_left_total";
/// Histogram by view: seconds from a batch's fold to its commit, without the tries that failed.
pub const POST_SECONDS: &str = "daybook_projections_post_seconds";
/// Counter by view: tries to post a batch that failed and are made again.
pub const POST_RETRIES: &str = "daybook_projections_post_retries_total";
/// Gauge by view and partition: the checkpoint's next offset.
pub const NEXT_OFFSET: &str = "daybook_projections_next_offset";
/// Gauge by view: 1 once the view is stopped at a batch that can't be posted, else 0.
pub const STOPPED: &str = "daybook_projections_stopped";
