//! The owners of this node, one pool per context, behind one interface.
//!
//! Above the journal an owner's types are erased: routing, health and metrics know only topics and
//! partitions, so a new context is one more value in a list. A [`TypedCommand`] carries a request in its
//! context's own type to the [`Pool`] of that context's owners.

mod pool;
mod start;
mod statuses;
mod typed_command;

pub use self::{
    pool::{AnswerReceiver, OwnerPool, Pool},
    start::{ContextStart, OwnersLaunch},
    statuses::OwnerStatuses,
    typed_command::TypedCommand,
};
