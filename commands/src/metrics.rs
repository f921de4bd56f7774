//! The names of this crate's metrics.

/// Counter by command and status: commands answered.
pub const COMMANDS: &str = "daybook_commands_answered_total";
/// Histogram by command: seconds from a command's arrival to its answer.
pub const COMMAND_SECONDS: &str = "daybook_commands_answer_seconds";
/// Counter by topic: tries of commands that did not find the owner in office, or lost it.
pub const TRIED_AGAIN: &str = "daybook_commands_tried_again_total";
/// Counter by topic: commands taken from other nodes.
pub const FORWARDED: &str = "daybook_commands_forwarded_total";
/// Counter by topic: entries of a greater epoch than that of the owner in office, which it had readers
/// forget.
pub const ENTRIES_CONTESTED: &str = "daybook_commands_entries_contested_total";
/// Counter: records of `journal.owners` that are no entries.
pub const DIRECTORY_GARBAGE: &str = "daybook_commands_directory_garbage_total";
