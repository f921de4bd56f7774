//! The rules: one folder per aggregate, each a pure decider.
//!
//! Nothing here is async, does I/O, reads a clock or draws a random number: whatever a decision
//! needs travels in its command, so that a decision can be made again and come out the same.

pub mod credit_note;
pub mod decider;
pub mod order;
pub mod product;
pub mod sale;
#[cfg(test)]
mod spec;

pub use decider::{Decider, fold};
pub use {credit_note::CreditNote, order::Order, product::Product};
