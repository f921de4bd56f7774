//! The contract: Avro schemas, wire types, topics, ids and money. No I/O.
//!
//! Everything that crosses a process boundary is defined here once: a change of what is stored or
//! sent is a change of this crate, and its golden files show it.

pub mod aggregates;
pub mod catalog;
pub mod commit;
pub mod context;
pub mod ids;
pub mod money;
pub mod orders;
pub mod owners;
pub mod product;
pub mod time;
pub mod topics;
mod union;

pub use commit::{
    Announcement, Body, BodyRef, Commit, CommitRef, Decision, DecisionRef, NoOp, Origin, Outcome,
};
pub use context::{CONTEXTS, Context, ContextEvent};
pub use money::{Currency, Money, UnitPrice};
pub use product::{Quantity, Sku};
pub use time::Timestamp;
