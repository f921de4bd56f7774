//! Shared reading: a log, a shared reader, and several subscribers with delays, stalls, crashes and restarts
//! from checkpoints.
//!
//! Despite all faults, each subscriber must apply exactly the valid commits of the log, in order in each
//! partition, without a gap or a repetition. The shared reader must hold a bounded number of commits, a stalled
//! subscriber must not delay the others, and in the end one stream must feed all subscribers.

mod plan;
mod run;
mod subscriber;
mod writer;

pub(crate) use run::run;
