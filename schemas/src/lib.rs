//! The contract: Avro schemas, wire types, topics, ids and money. No I/O.
//!
//! All data that crosses a process boundary is defined here once. A change of stored or sent data is a change
//! of this crate, and its golden files show it.

pub mod aggregates;
pub mod commit;
pub mod content_hash;
pub mod context;
pub mod ids;
pub mod money;
pub mod owners;
pub mod product;
pub mod text;
pub mod time;
pub mod topics;
pub mod totals;
mod union;

pub use commit::{
    Announcement, Body, BodyRef, Commit, CommitRef, Decision, DecisionRef, NoOp, Origin, Outcome,
    OutcomeKind,
};
pub use content_hash::ContentHash;
pub use context::*;
pub use money::{Currency, Money, UnitPrice};
pub use product::{Quantity, Sku};
pub use time::Timestamp;
pub use totals::{Position, Totals, TotalsAt, TotalsByCurrency};
