//! `daybook audit log`: prints the log as JSON Lines.

mod command;
mod filter;
mod line;

pub use command::{LogError, Outcome, print_log};
pub use filter::Filter;
