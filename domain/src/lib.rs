//! The rules: one folder per aggregate, each a pure decider.
//!
//! Nothing here is async, does I/O, reads a clock or draws a random number. Everything a decision needs
//! is in its command, so deciding again gives the same events.

#[macro_use]
mod contexts;
pub mod decider;
pub mod sale;
#[cfg(test)]
mod spec;

pub use decider::{Decider, Rejection, RejectionKind, fold};

contexts!(declare_aggregates);
