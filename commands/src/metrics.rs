//! The names of this crate's metrics. The label `command` is a command's name, `topic` a journal's.

/// Counter of commands, by `command` and `status`: commands that were answered, by the HTTP status of the
/// answer.
pub const COMMANDS: &str = "daybook_commands_answered_total";
/// Histogram of seconds, by `command`: from a command's arrival to its answer.
pub const COMMAND_SECONDS: &str = "daybook_commands_answer_seconds";
/// Counter of attempts, by `topic`: attempts that had to be repeated, because no owner was serving
/// where the command arrived, or because the owner stepped down before it answered.
pub const RETRIES: &str = "daybook_commands_retries_total";
/// Counter of commands, by `topic`: commands taken from other nodes.
pub const FORWARDED: &str = "daybook_commands_forwarded_total";
/// Counter of attempts, by `topic`: commands sent on to other nodes.
pub const SENT_ON: &str = "daybook_commands_sent_on_total";
/// Gauge of partitions, by `topic`: partitions with an owner in the directory. Fewer than the topic has
/// mean that some have not been owned since the topic was created.
pub const OWNERS_KNOWN: &str = "daybook_commands_owners_known";
/// Counter of entries, by `topic`: entries of a greater epoch than that of the serving owner, which made
/// readers forget them.
pub const ENTRIES_CONTESTED: &str = "daybook_commands_entries_contested_total";
/// Counter of records of `journal.owners` that are not valid entries.
pub const DIRECTORY_GARBAGE: &str = "daybook_commands_directory_garbage_total";
