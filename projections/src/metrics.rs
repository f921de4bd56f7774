//! The names of this crate's metrics. Each has the labels `view` and `build`, and those that its description names.
//!
//! Invariant of every build in every process, between batches: events read = applied + parked + stale. The third term
//! exists because two processes may read the same event, and because a process that begins again at its stored
//! checkpoints reads some events again: each reading counts as read, but at most one process commits the event. Without
//! such faults, no event is stale: events read = applied + parked.

/// Counter: valid events that were read from the journal.
pub const EVENTS_READ: &str = "daybook_projections_events_read_total";
/// Counter: events in committed batches, with or without a changed row.
pub const EVENTS_APPLIED: &str = "daybook_projections_events_applied_total";
/// Counter: events that were parked with their aggregates.
pub const EVENTS_PARKED: &str = "daybook_projections_events_parked_total";
/// Counter: parked events that were applied after an operator's request.
pub const EVENTS_RELEASED: &str = "daybook_projections_events_released_total";
/// Counter: events that this projector read but did not commit, because another projector had committed them or because
/// this projector restarted. None of them is lost: their checkpoint covers them, or they are read again.
pub const EVENTS_STALE: &str = "daybook_projections_events_stale_total";
/// Gauge: parked aggregates, without the discarded ones. Any value above 0 needs an operator.
pub const PARKED_KEYS: &str = "daybook_projections_parked_keys";
/// Gauge: events that wait with parked or discarded aggregates. The build's rows lack these events, although its
/// checkpoints are past them.
pub const PARKED_EVENTS: &str = "daybook_projections_parked_events";
/// Histogram: seconds to fold and commit a batch, without failed attempts. It is the sum of [`DATABASE_SECONDS`] and
/// the time of the process's own work, such as the fold.
pub const APPLY_SECONDS: &str = "daybook_projections_apply_seconds";
/// Histogram: the database's part of [`APPLY_SECONDS`], in seconds. A batch waits for a connection, for locks and for
/// answers; in a busy process also for a thread.
pub const DATABASE_SECONDS: &str = "daybook_projections_database_seconds";
/// Histogram: events in a committed batch.
pub const BATCH_EVENTS: &str = "daybook_projections_batch_events";
/// Counter: failed attempts to apply a batch; each is retried.
pub const APPLY_RETRIES: &str = "daybook_projections_apply_retries_total";
/// Counter: attempts to read a journal that failed because the log does not have the last record of a stored
/// checkpoint: it is another log, or a truncated one. The build applies nothing until an operator acts.
pub const CHECKPOINTS_REFUSED: &str = "daybook_projections_checkpoints_refused_total";
/// Gauge by `topic` and `partition`: the checkpoint's next offset.
pub const NEXT_OFFSET: &str = "daybook_projections_next_offset";
/// Gauge by `topic` and `partition`: records between the checkpoint and the journal's end. It counts records, not
/// events, because only a read shows how many events a record has: those of one commit, often one, sometimes several. A
/// refused command, a no-op and an announcement have none.
pub const LAG_RECORDS: &str = "daybook_projections_lag_records";
/// Gauge by `topic` and `partition`: the time for which the build has been behind the journal's end, in seconds.
pub const LAG_SECONDS: &str = "daybook_projections_lag_seconds";
/// Gauge without labels: live clients that get events as they are recorded.
pub const LIVE_CLIENTS: &str = "daybook_projections_live_clients";
/// Counter without labels: live clients whose streams ended because they read too slowly.
pub const LIVE_SLOW_CLIENTS: &str = "daybook_projections_live_slow_clients_total";
