//! The simulator: the owners, readers and view writes of production over a simulated log, with every known fault, all
//! from one seed.
//!
//! A run has one partition, two or three nodes with a clock and a state store of their own, some clients, and
//! readers; or several partitions, and subscribers of a shared reader; or projectors of a view, and the replicas of its
//! rows. They use a context without business rules ([`journal::probe`]). Simulated time passes only when all tasks
//! wait, a run uses a single thread, and all randomness comes from the seed, so a run can be repeated exactly.
//!
//! | part | content |
//! |---|---|
//! | `paused_runtime` | runs a simulation on a single thread, in simulated time |
//! | `sim`, `rng`, `plan`, `coverage` | time, randomness, the faults of a run, how often each situation occurred |
//! | `environment`, `broker`, `network`, `log` | the log: appends that are lost, late, doubled; reports that are wrong or missing |
//! | `node`, `process`, `store` | a node that is killed, stopped, paused; its store |
//! | `faults` | injects the faults of nodes |
//! | `machine`, `client`, `history` | counters, clients, and the history of invocations and completions |
//! | `reference_model`, `checker`, `invariants`, `reader_task`, `corruption` | the right state of the log, and whether all parts agree with it |
//! | `reading` | a shared reader, its subscribers, and their faults: runs of their own, without owners |
//! | `view_writes` | projectors of a view in the CQL store, its replicas, and their faults: runs of their own, without owners |
//! | `faulty_log` | the log of runs without owners |
//! | `mutations` | protocols with one wrong step each, to show that the checker notices |
//!
//! Limits. Records don't change in the log, and a record that was read stays (but see `corruption`); one
//! partition is enough, because partitions share only the producer; reports have true offsets or those that
//! librdkafka reports for duplicates, and no others.

mod broker;
mod checker;
mod client;
#[cfg(test)]
mod conformance_tests;
mod corruption;
mod coverage;
mod environment;
mod faults;
mod faulty_log;
#[cfg(test)]
mod harness;
mod history;
mod invariants;
#[cfg(test)]
mod limit_tests;
mod log;
mod machine;
mod mutations;
mod node;
mod paused_runtime;
mod plan;
mod process;
mod reader_task;
mod reading;
mod record;
#[cfg(test)]
mod recovery_tests;
mod reference_model;
mod rng;
mod run;
mod sim;
mod store;
mod trace_format;
mod view_writes;

pub use self::{
    coverage::{Coverage, CoveragePoint},
    mutations::{CORRECT, CORRECT_READING, CORRECT_VIEW_WRITES, MUTATIONS, Mutation},
    run::{Run, run},
};
