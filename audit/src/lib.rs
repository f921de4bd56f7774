//! Event replay tools: an independent reader of the journal that verifies, prints and copies it.
//!
//! The crate shares only `schemas` and `kafka` with the service. The void rule and the hash chain are
//! implemented here a second time ([`frame`], [`model`]), so that each implementation checks the other.
//! [`evidence`] distinguishes void records of a correct run from altered ones, [`check`] adds the invariants of
//! decisions, [`verify`] and [`log`] are the commands, [`copy`] is the log as a file. The crate writes to no topic.

pub mod body;
pub mod check;
pub mod cli;
pub mod command_ids;
pub mod copy;
pub mod evidence;
pub mod export;
pub mod finding;
pub mod frame;
pub mod log;
pub mod model;
pub mod report;
pub mod schemas_seen;
pub mod source;
pub mod totals;
pub mod verify;

pub use cli::{Args, run};
pub use totals::{Selection, TotalsError, journal_totals};
