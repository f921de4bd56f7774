//! Parking: an event that a build can't apply parks its aggregate.
//!
//! The aggregate's later commits wait behind it, in order, in a table; all other aggregates continue. An operator
//! decides whether the commits are applied (`daybook views retry`) or never will be (`discard`). So every valid event
//! that was read is either applied or parked.

pub mod decisions;
mod keys;
mod marks;
pub mod table;

pub use keys::{PARKED_KEYS_MAX, ParkedCommit, ParkedKey, ParkedKeys, Poison};
pub use marks::{KNOWN_MAX, Marks, document_marks, mark_parked};
