//! System tests over real servers: the building blocks of the tests in `tests/system`.
//!
//! Each test has a [`Deployment`] of its own on the servers that all tests share, and starts one or several
//! [`Node`]s. A [`FaultProxy`] between a node and a server makes an outage that does not affect other tests, and a
//! [`HangingDisk`] blocks calls to the disk of a node's state store. The expected result is computed independently
//! ([`Expectation`]), and each source of totals is read by separate code ([`totals_by_source`]).

pub mod audit_log;
pub mod binary;
pub mod connections;
pub mod create_topics;
pub mod deployment;
pub mod descriptor_limit;
pub mod environment;
pub mod expect;
pub mod expectation;
pub mod fault_proxy;
pub mod free_address;
pub mod generated_tree;
pub mod hanging_disk;
pub mod http;
pub mod mounted_image;
pub mod node;
pub mod poll;
pub mod process_use;
pub mod product;
pub mod python;
pub mod sale;
pub mod servers;
pub mod signal;
pub mod source_tree;
pub mod sse;
pub mod totals_by_source;
pub mod transaction;

pub use create_topics::create_topics;
pub use deployment::Deployment;
pub use expect::expect_eq;
pub use expectation::{Expectation, Totals};
pub use fault_proxy::FaultProxy;
pub use hanging_disk::HangingDisk;
pub use http::{Answer, Client};
pub use node::{Node, Output};
pub use poll::{Poll, until};
pub use servers::Server;
pub use sse::{Events, SseEvent};
pub use transaction::OpenTransaction;
