//! The owner's protocol without I/O: which records to append, and when an answer is proved.
//!
//! **Proved.** Kafka has no conditional append; contiguity replaces it. A commit is proved iff its
//! predecessor in this term is proved (or is the announcement) and its offset is exactly the
//! predecessor's + 1: then no record lies between them, so no other owner's announcement does, and by
//! the void rule the commit is valid. Any other delivery report is an unknown outcome and ends in a
//! [`Barrier`].
//!
//! **Barrier.** Stop, announce the next epoch, read the log up to that announcement. The records before
//! it that are valid by the rule stay valid; every other record of the old term stays void. So
//! each pending command is either answered from the log or decided again.
//!
//! **Speculation.** Commands are decided on an overlay of appended but unproved commits; a barrier
//! drops the whole overlay.

mod decide;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod join_tests;
mod leadership;
mod proof;
#[cfg(test)]
mod room_tests;
mod state;
#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod time_tests;
#[cfg(test)]
mod version_tests;

pub use self::state::{ATTEMPTS_MAX, Core, Outgoing, UNANSWERED_OF_AGGREGATE_MAX};
pub use crate::protocol::Barrier;
