//! The owner: the one node that may append to a partition now.
//!
//! [`Core`] is the protocol without any I/O: commands, delivery reports and batches read from the log go
//! in; records to append and answers come out. [`Owner`] drives it over a log, one task per partition.

mod bloom_filter;
mod broker_clocks;
mod clock;
mod core;
mod driver;
mod entries;
mod failure;
#[cfg(test)]
mod golden_tests;
mod handle;
mod headers;
mod index_tables;
mod meters;
mod partition_owner;
mod process_limits;
mod published;
mod request;
mod serve;
mod store_layout;
mod take_over;
mod two_generation_cache;

pub use self::{
    broker_clocks::BrokerClocks,
    core::{ATTEMPTS_MAX, Barrier, Core, Outgoing, UNANSWERED_OF_AGGREGATE_MAX},
    handle::{OwnerHandle, OwnerSettings, Proved, Reason, Reply, Status, machine_clock},
    partition_owner::{Owner, OwnerParts, UNANSWERED_MAX},
    process_limits::{ProcessLimits, TakeOverSlot},
    request::{Answer, DECIDED_WITHIN_US, Machine, RECEIVED_AHEAD_US_MAX, Refusal, Request},
};
