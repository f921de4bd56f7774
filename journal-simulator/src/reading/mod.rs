//! Shared reading: a log, a shared reader, and several subscribers with delays, stalls, crashes and restarts
//! from checkpoints.
//!
//! Each subscriber must apply exactly the valid commits of the log, in order in each partition, without a
//! gap and without a repetition, whatever happens to it and to the others; the shared reader must hold a
//! bounded number of them; a stalled subscriber must not delay the others; and in the end one stream must
//! feed them all.

mod log;
mod plan;
mod run;
mod subscriber;
mod writer;

pub(crate) use run::run;
