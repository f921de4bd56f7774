//! The names of this crate's metrics. Labels: `topic` is the journal; `partition` its partition.
//!
//! Owners measure themselves only: summed over all nodes, a partition has one serving owner ([`EPOCH`]
//! above 0), or none during a take-over.

/// Counter of void records, by `topic` and `reason`, each time one of this node's readers reads one. The
/// reasons are those of [`VoidReason::name`](crate::rule::VoidReason::name).
pub const VOID_RECORDS: &str = "daybook_journal_void_records_total";
/// Counter of partitions that a reader halted because the log can't be read further, by `topic`.
pub const HALTED_PARTITIONS: &str = "daybook_journal_halted_partitions_total";
/// Gauge, by `topic`: views and jobs for which this node's shared reader keeps batches.
pub const SHARED_SUBSCRIBERS: &str = "daybook_journal_shared_subscribers";
/// Counter, by `topic` and `reader`: how often a view or job fell back from the shared reader to a reader of
/// its own, because it had not taken a batch in time.
pub const FALL_BACKS: &str = "daybook_journal_fall_backs_total";

/// Counter of records that were handed to the producer, announcements included, by `topic` and `partition`.
pub const APPENDS: &str = "daybook_journal_appends_total";
/// Counter of no-ops among the appended records, by `topic` and `partition`. A no-op proves that answers
/// without a commit came from the partition's owner.
pub const NO_OPS: &str = "daybook_journal_no_ops_total";
/// Counter, by `topic` and `partition`: take-overs that succeeded, including those after a barrier.
pub const TAKEOVERS: &str = "daybook_journal_takeovers_total";
/// Histogram of seconds, by `topic` and `partition`: from the start of a take-over to serving, including
/// take-overs after a barrier.
pub const TAKEOVER_SECONDS: &str = "daybook_journal_takeover_seconds";
/// Counter, by `topic` and `partition`: barriers, at which an owner stops to read the outcome of its appends.
pub const BARRIERS: &str = "daybook_journal_barriers_total";
/// Counter of commands that were decided again after a barrier, by `topic` and `partition`.
pub const DECIDED_AGAIN: &str = "daybook_journal_decided_again_total";
/// Counter, by `topic` and `partition`: how often an owner was fenced because another node had announced
/// itself.
pub const FENCED: &str = "daybook_journal_fenced_total";
/// Counter of commands that were answered from the table of earlier answers, by `topic` and `partition`.
pub const REPLAYS: &str = "daybook_journal_replayed_answers_total";
/// Counter of commands that came while the same command was in flight and got its answer, by `topic` and
/// `partition`.
pub const JOINED: &str = "daybook_journal_joined_commands_total";
/// Counter, by `topic` and `partition`: writes of the state store that failed.
pub const STORE_ERRORS: &str = "daybook_journal_store_errors_total";

/// Gauge, by `topic` and `partition`: the number of the term in which this node's owner serves; 0 while
/// it does not serve.
pub const EPOCH: &str = "daybook_journal_epoch";
/// Gauge of commands that the owner has taken and not answered, by `topic` and `partition`.
pub const UNANSWERED: &str = "daybook_journal_unanswered_commands";
/// Gauge of commands that wait in the owner's queue, by `topic` and `partition`.
pub const QUEUED: &str = "daybook_journal_queued_commands";
/// Gauge of commits that were appended but are not proved yet, by `topic` and `partition`.
pub const UNPROVED: &str = "daybook_journal_unproved_commits";
/// Gauge of commits that the state store does not have yet, by `topic` and `partition`.
pub const UNSAVED: &str = "daybook_journal_unsaved_commits";
