//! The owner: the one process that may append to a partition at present.
//!
//! [`Core`] is the protocol without any I/O: commands, delivery reports and what was read of the log
//! go in; records to append and answers come out. [`Owner`] drives it over a log, one task a
//! partition.

mod core;
mod driver;
mod handle;
mod headers;
mod meters;
mod recent;
mod request;
mod saved;
mod seen;
mod serve;
mod tables;
mod take_over;

pub use self::{
    core::{Barrier, Core, Outgoing, TRIES_MAX, UNANSWERED_OF_AGGREGATE_MAX},
    driver::{Owner, UNANSWERED_MAX},
    handle::{OwnerHandle, OwnerSettings, Proved, Reason, Reply, Status, machine_clock},
    request::{
        Answer, DECIDED_WITHIN_US, Machine, RECEIVED_AHEAD_US_MAX, Refusal, Request, trace_id,
    },
};
