//! The owner: the one process that may append to a partition at present.
//!
//! [`Core`] is the protocol without any I/O: commands, delivery reports and what was read of the log
//! go in; records to append and answers come out. [`Owner`] drives it over Kafka, one task a
//! partition.

mod core;
mod driver;
mod request;
mod tables;

pub use self::{
    core::{Barrier, Core, Outgoing},
    driver::{Owner, OwnerHandle, OwnerSettings, Status, UNANSWERED_MAX},
    request::{Answer, Machine, Refusal, Request},
};
