//! A command whose body's type is erased.

use crate::{
    identity::{HashError, Hasher},
    owners::TypedCommand,
};
use schemas::{Timestamp, ids::CommandId, topics::PartitionCounts};
use serde_json::value::RawValue;
use std::fmt::Debug;

/// The aggregate that a command is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// The aggregate with this id, which the client gave.
    Named(&'a str),
    /// A new aggregate. Its id is derived from the command's id, so a retry finds the same aggregate.
    CreatedByThisCommand,
}

/// The properties of a command other than its body. They are the same on every node.
#[derive(Clone, Copy)]
pub struct CommandContext<'a> {
    /// The command's id, which a retry shares.
    pub id: CommandId,
    /// Whether the client named the command by an idempotency key.
    pub keyed: bool,
    /// The time at which the first node received the command, by that node's clock.
    pub received_at: Timestamp,
    /// Opaque id of the principal.
    pub actor: &'a str,
    /// The version that the aggregate must have (`If-Match`).
    pub expected_version: Option<i64>,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// Hashes commands for the deployment.
    pub hasher: &'a Hasher,
    /// The number of partitions of each journal.
    pub partitions: &'a PartitionCounts,
}

/// A command's body, implemented for every [`crate::api_command::ApiCommand`].
pub trait ErasedCommand: Debug + Send + Sync {
    /// The command's name, unique among all contexts.
    fn name(&self) -> &'static str;

    /// The scope of an idempotency key: the command's name plus the aggregate's id, if the client gave one.
    /// Each partition knows the ids of its own commands only, so the same key for two aggregates names two
    /// commands.
    fn scope(&self) -> String;

    /// The aggregate that the command is for.
    fn target(&self) -> Target<'_>;

    /// The body as JSON.
    ///
    /// # Errors
    /// The body can't be serialised as JSON, which is a bug.
    fn to_json(&self) -> Result<Box<RawValue>, serde_json::Error>;

    /// Converts the command for an owner of its context.
    ///
    /// # Errors
    /// The body has no canonical JSON form.
    fn prepare(&self, context: &CommandContext<'_>) -> Result<TypedCommand, HashError>;
}
