//! The owners of this node, one pool per context, behind one interface.
//!
//! Above the journal an owner's types are erased: routing, health and metrics know topics and partitions
//! only, so a context is one more value in a list. A [`TypedCommand`] carries its request of its
//! context's own type to the [`Pool`] that has owners for it.

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
