//! The simulator: the same owners and readers as in production, over a log in memory, with everything
//! that can go wrong made to go wrong, all from one seed.
//!
//! A run has one partition, two or three processes with a clock and a state store of their own, some
//! clients, and readers. Simulated time passes only when nobody has anything to do, nothing else runs
//! beside it, and all chance comes from the seed: so a run can be repeated to the last bit.
//!
//! | part | what it is |
//! |---|---|
//! | `world`, `dice`, `plan`, `tally` | time, chance, what the run is like, what happened how often |
//! | `broker`, `log` | the log: appends that are lost, late, doubled; reports that are wrong or missing |
//! | `node`, `pausable`, `store` | a process that is killed, stopped, paused; its store |
//! | `chaos` | who does all that to them |
//! | `machine`, `client`, `book` | the business, who asks, and what was heard |
//! | `truth`, `judgement`, `inspection`, `reading`, `tampering` | what the log says, and whether all agree |
//! | `broken` | owners and readers that make one mistake each, to show that it would be found |
//!
//! Limits. Records don't change in the log, and what was once read stays (but see `tampering`); one
//! partition is all, for partitions share nothing but the producer; reports name true offsets or the
//! ones that librdkafka gives for duplicates, and no other.

mod book;
mod broken;
mod broker;
mod chaos;
mod client;
mod dice;
mod inspection;
mod judgement;
mod log;
mod machine;
mod node;
mod pausable;
mod plan;
mod reading;
#[cfg(test)]
mod recovery_tests;
mod run;
mod show;
mod store;
mod tally;
mod tampering;
mod truth;
mod world;

pub use self::{
    broken::{MISTAKES, Mistake, SOUND},
    run::{Run, run},
    tally::{Happening, Tally},
};
