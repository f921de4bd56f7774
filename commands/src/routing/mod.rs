//! Routing among several nodes: each accepts any command and sends it to the owner of its partition.
//!
//! [`assignment`] turns the group's hints into assignments of this node's owners, with three exceptions: this node
//! can't serve ([`self_eviction`]), another node declined its partition ([`adoption`]), or an owner of this node was
//! fenced by a node that has ended ([`fencing`]). [`ownership_publisher`] publishes the partitions that this node
//! owns, [`directory`] reads the owner of each partition, [`node_statuses`] polls those nodes for the partitions that
//! they serve, and [`owners_view`] combines all of this. [`router`] sends an [`in_flight`] command to its owner, in
//! one [`attempt`] or several; [`pipeline`] does so for many commands of one partition, in order. [`node_client`]
//! carries commands to other nodes by the [`node_protocol`]; [`meters`] counts.
//!
//! Safety does not depend on any of this. A node that does not own a command's partition can't commit the
//! command, and every attempt has the same command id. A forwarded command is not forwarded again: its
//! receiver decides it, or names the owner that it knows.

mod adoption;
pub mod assignment;
pub mod attempt;
pub mod directory;
mod fencing;
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
