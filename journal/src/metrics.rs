//! The names of this crate's metrics.

/// Counter by topic and reason: records that the rules make nobody's truth.
pub const VOID_RECORDS: &str = "daybook_journal_void_records_total";
/// Counter by topic: partitions that a reader stopped at, for the log can't be read on.
pub const HALTED_PARTITIONS: &str = "daybook_journal_halted_partitions_total";
/// Counter by topic and partition: records handed to the producer.
pub const APPENDS: &str = "daybook_journal_appends_total";
/// Counter by topic and partition: announcements that this process's owners read as valid.
pub const TAKEOVERS: &str = "daybook_journal_takeovers_total";
/// Counter by topic and partition: times that an owner stopped to find out what its appends came to.
pub const BARRIERS: &str = "daybook_journal_barriers_total";
/// Counter by topic: commands answered from the table of earlier answers.
pub const REPLAYS: &str = "daybook_journal_replayed_answers_total";
/// Histogram by topic and partition: seconds from the wish to serve to serving.
pub const TAKEOVER_SECONDS: &str = "daybook_journal_takeover_seconds";
/// Counter by topic and partition: writes of the state store that failed.
pub const STORE_ERRORS: &str = "daybook_journal_store_errors_total";
/// Gauge by topic and partition: commands without an answer.
pub const UNANSWERED: &str = "daybook_journal_unanswered_commands";
/// Gauge by topic and partition: commands that the owner has not looked at yet.
pub const QUEUED: &str = "daybook_journal_queued_commands";
/// Gauge by topic and partition: commits that the state store does not have yet.
pub const UNSAVED: &str = "daybook_journal_unsaved_commits";
/// Gauge by topic and partition: commits appended but not yet proved.
pub const UNPROVED: &str = "daybook_journal_unproved_commits";
