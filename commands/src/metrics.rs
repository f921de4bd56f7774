//! The names of this crate's metrics.

/// Counter by command and status: commands answered.
pub const COMMANDS: &str = "daybook_commands_answered_total";
/// Histogram by command: seconds from a command's arrival to its answer.
pub const COMMAND_SECONDS: &str = "daybook_commands_answer_seconds";
