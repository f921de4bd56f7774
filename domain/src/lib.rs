//! The rules: one folder per aggregate, each a pure decider.
//!
//! Nothing here is async, does I/O, reads a clock or draws a random number. Everything that a decision needs is
//! in its command and its state, so deciding again returns the same events.

#[macro_use]
mod contexts;
pub mod decider;
pub mod sale;
#[cfg(test)]
mod spec;

pub use decider::{Decider, Rejection, RejectionKind, fold};

contexts!(declare_aggregates);
