//! The names of this crate's metrics. Labels: `topic` is the journal; `partition` its partition.
//!
//! What owners measure is of this process's owners alone: over all processes, a partition has one that
//! is in office ([`EPOCH`] above 0), or none while it is taken over.

/// Counter of records, by `topic` and `reason`: void ones, each time that one of this process's readers
/// meets them. The reasons are those of [`VoidReason::name`](crate::rule::VoidReason::name).
pub const VOID_RECORDS: &str = "daybook_journal_void_records_total";
/// Counter of partitions, by `topic`: those that a reader stopped at, for the log can't be read on.
pub const HALTED_PARTITIONS: &str = "daybook_journal_halted_partitions_total";

/// Counter of records, by `topic` and `partition`: those handed to the producer, announcements too.
pub const APPENDS: &str = "daybook_journal_appends_total";
/// Counter of records, by `topic` and `partition`: no-ops among the appends, whose only use is to prove
/// that answers without a commit are given in office.
pub const NO_OPS: &str = "daybook_journal_no_ops_total";
/// Counter of times, by `topic` and `partition`: an owner came into office, after a barrier too.
pub const TAKEOVERS: &str = "daybook_journal_takeovers_total";
/// Histogram of seconds, by `topic` and `partition`: from the wish to serve to serving, after a barrier
/// too.
pub const TAKEOVER_SECONDS: &str = "daybook_journal_takeover_seconds";
/// Counter of times, by `topic` and `partition`: an owner stopped to find out what its appends came to.
pub const BARRIERS: &str = "daybook_journal_barriers_total";
/// Counter of commands, by `topic` and `partition`: those decided again behind a barrier.
pub const DECIDED_AGAIN: &str = "daybook_journal_decided_again_total";
/// Counter of times, by `topic` and `partition`: an owner found that another process had announced
/// itself.
pub const DEPOSITIONS: &str = "daybook_journal_depositions_total";
/// Counter of commands, by `topic` and `partition`: those answered from the table of earlier answers.
pub const REPLAYS: &str = "daybook_journal_replayed_answers_total";
/// Counter of commands, by `topic` and `partition`: those that came while the same command was under
/// way, and got its answer.
pub const JOINED: &str = "daybook_journal_joined_commands_total";
/// Counter of times, by `topic` and `partition`: a write of the state store failed.
pub const STORE_ERRORS: &str = "daybook_journal_store_errors_total";

/// Gauge, by `topic` and `partition`: the number of the term that this process's owner holds; 0 while it
/// is out of office.
pub const EPOCH: &str = "daybook_journal_epoch";
/// Gauge of commands, by `topic` and `partition`: those that the owner has taken and not answered.
pub const UNANSWERED: &str = "daybook_journal_unanswered_commands";
/// Gauge of commands, by `topic` and `partition`: those that wait in the owner's queue.
pub const QUEUED: &str = "daybook_journal_queued_commands";
/// Gauge of commits, by `topic` and `partition`: those appended but not yet proved.
pub const UNPROVED: &str = "daybook_journal_unproved_commits";
/// Gauge of commits, by `topic` and `partition`: those that the state store does not have yet.
pub const UNSAVED: &str = "daybook_journal_unsaved_commits";
