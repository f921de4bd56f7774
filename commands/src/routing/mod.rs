//! Routing among several nodes: each takes any command and brings it to the owner of its partition.
//!
//! [`assignment`] turns the group's hints into assignments of this node's owners, unless this node can't
//! serve ([`self_eviction`]) or another one declined its partition ([`adoption`]). [`ownership_publisher`]
//! publishes the partitions that this node owns, [`directory`] reads who owns which, and [`node_statuses`]
//! asks those nodes whether they do ([`owners_view`]: all three). [`router`] brings an [`in_flight`] command
//! to its owner, in one [`attempt`] or several ([`pipeline`]: many commands of one partition, in order).
//! [`node_client`] carries commands to other nodes by the [`node_protocol`]; [`meters`] counts.
//!
//! Safety does not depend on any of this. A command that reaches a node that does not own its partition is
//! refused by the log there, and its id makes it the same command in every attempt. A forwarded command is
//! not forwarded again: its receiver decides it, or names the owner that it knows of.

mod adoption;
pub mod assignment;
pub mod attempt;
pub mod directory;
pub mod in_flight;
pub mod meters;
pub mod node_client;
pub mod node_protocol;
pub mod node_statuses;
pub mod owners_view;
pub mod ownership_publisher;
pub mod pipeline;
pub mod router;
pub mod self_eviction;

pub use directory::Directory;
pub use router::Router;
