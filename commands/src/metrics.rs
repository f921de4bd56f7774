//! The names of this crate's metrics. The label `command` is a command's name, `topic` a journal's.

/// Counter of commands, by `command` and `status`: answered commands; `status` is the answer's HTTP status.
pub const COMMANDS: &str = "daybook_commands_answered_total";
/// Histogram of seconds, by `command`: from a command's arrival to its answer.
pub const COMMAND_SECONDS: &str = "daybook_commands_answer_seconds";
/// Counter of attempts, by `topic`: attempts that failed and were repeated, because no owner was serving
/// where the command arrived, or because the owner stepped down before it answered.
pub const RETRIES: &str = "daybook_commands_retries_total";
/// Counter of commands, by `topic`: commands taken from other nodes.
pub const FORWARDED: &str = "daybook_commands_forwarded_total";
/// Counter of attempts, by `topic`: attempts that sent a command on to another node.
pub const SENT_ON: &str = "daybook_commands_sent_on_total";
/// Gauge of partitions, by `topic`: partitions with an entry in the directory. If there are fewer than the
/// topic has, some have had no owner since the topic was created.
pub const OWNERS_KNOWN: &str = "daybook_commands_owners_known";
/// Counter of entries, by `topic`: entries of a greater epoch than the serving owner's, which the owner
/// cancelled with a tombstone.
pub const ENTRIES_CONTESTED: &str = "daybook_commands_entries_contested_total";
/// Counter of records of `journal.owners` that are not valid entries.
pub const DIRECTORY_GARBAGE: &str = "daybook_commands_directory_garbage_total";
