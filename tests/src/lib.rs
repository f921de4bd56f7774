//! System tests over real servers: what the scenarios in `tests/system` are made of.
//!
//! A scenario has a [`World`]: the four servers of the test stack, emptied of everything of ours, and
//! the binary under test. What it must come to is computed apart ([`Expectation`]), and each place
//! that holds the result is read by code of its own ([`ledgers`]).

pub mod audit_log;
pub mod daybook;
pub mod environment;
pub mod expectation;
pub mod http;
pub mod ledgers;
pub mod python;
pub mod servers;
pub mod wait;
pub mod world;

pub use daybook::{Daybook, Output};
pub use expectation::{Expectation, Totals};
pub use http::{Answer, Client};
pub use servers::Server;
pub use wait::{Look, until};
pub use world::World;
