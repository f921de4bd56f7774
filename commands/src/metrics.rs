//! The names of this crate's metrics. Labels: `command` is a command's name; `topic` a journal.

/// Counter of commands, by `command` and `status`: those that clients got an answer to. The status is
/// HTTP's.
pub const COMMANDS: &str = "daybook_commands_answered_total";
/// Histogram of seconds, by `command`: from a command's arrival to its answer.
pub const COMMAND_SECONDS: &str = "daybook_commands_answer_seconds";
/// Counter of tries, by `topic`: those that did not find the owner in office, or lost it.
pub const TRIED_AGAIN: &str = "daybook_commands_tried_again_total";
/// Counter of commands, by `topic`: those taken from other processes.
pub const FORWARDED: &str = "daybook_commands_forwarded_total";
/// Counter of tries, by `topic`: commands sent on to other processes.
pub const SENT_ON: &str = "daybook_commands_sent_on_total";
/// Gauge of partitions, by `topic`: those whose owner the directory names. Fewer than the topic has:
/// some have not been owned since it was made.
pub const OWNERS_KNOWN: &str = "daybook_commands_owners_known";
/// Counter of entries, by `topic`: those of a greater epoch than that of the owner in office, which it had
/// readers forget.
pub const ENTRIES_CONTESTED: &str = "daybook_commands_entries_contested_total";
/// Counter of records of `journal.owners` that are no entries.
pub const DIRECTORY_GARBAGE: &str = "daybook_commands_directory_garbage_total";
