//! The journal's record: the frame and its body. `avro/commit.avsc` is its schema.

use crate::{time::Timestamp, union::deserialize_record_union};
use serde::{Deserialize, Serialize};

/// One record of a journal; `E` is the context's event type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commit<E> {
    /// The chain's hash before this record; zero in an announcement.
    #[serde(with = "serde_bytes")]
    pub prev: [u8; 32],
    /// A random id of one owner's leadership of the partition.
    #[serde(with = "serde_bytes")]
    pub term: [u8; 16],
    /// The term's number; the first is 1.
    pub epoch: i64,
    /// 0 in the announcement, then 1, 2, ... without a gap.
    pub seq: i64,
    /// In an announcement, the owner's clock. In a commit, the clock of the term, and never below log time.
    pub recorded_at: Timestamp,
    /// The record's content.
    pub body: Body<E>,
}

/// The content of a commit. Nearly all are decisions, so boxing them would only cost an allocation.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Body<E> {
    /// A new owner takes over the partition.
    Announcement(Announcement),
    /// The owner still leads the partition.
    NoOp(NoOp),
    /// The result of one command.
    Decision(Decision<E>),
}

deserialize_record_union!(Body<E>, Announcement, NoOp, Decision);

/// A new owner takes over the partition. Its record's key is empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Announcement {
    /// The version of the void rule that the owner follows.
    pub rule_version: i32,
    /// The topic's number of partitions.
    pub partitions: i32,
    /// The URL at which the owner takes commands.
    pub owner_url: String,
}

/// Proves that its owner still leads the partition. Its record's key is empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NoOp {}

/// The result of one command. Its record's key is `<aggregate type>_<aggregate id>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision<E> {
    /// The key's first part.
    pub aggregate_type: String,
    /// The aggregate's version before this commit; versions count events.
    pub version: i64,
    /// A retry has the same id.
    #[serde(with = "serde_bytes")]
    pub command_id: [u8; 16],
    /// Keyed BLAKE3 of the canonical command.
    #[serde(with = "serde_bytes")]
    pub command_hash: [u8; 16],
    /// The origin of the command id.
    pub origin: Origin,
    /// Opaque id of the principal.
    pub actor: String,
    /// The same for all commands and events that one request caused.
    #[serde(with = "serde_bytes")]
    pub correlation_id: [u8; 16],
    /// The event that caused this command, if one did.
    pub causation_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// `None`: accepted; the answer is then a function of this decision and its offset.
    pub outcome: Option<Outcome>,
    /// May be empty; then the version stays.
    pub events: Vec<E>,
}

/// A [`Commit`] of borrowed parts, as its owner writes it. It is encoded to the same bytes.
#[derive(Debug, Serialize)]
pub struct CommitRef<'a, E> {
    /// See [`Commit::prev`].
    #[serde(with = "serde_bytes")]
    pub prev: [u8; 32],
    /// See [`Commit::term`].
    #[serde(with = "serde_bytes")]
    pub term: [u8; 16],
    /// See [`Commit::epoch`].
    pub epoch: i64,
    /// See [`Commit::seq`].
    pub seq: i64,
    /// See [`Commit::recorded_at`].
    pub recorded_at: Timestamp,
    /// See [`Commit::body`].
    pub body: BodyRef<'a, E>,
}

/// A [`Body`], borrowed.
#[derive(Debug, Serialize)]
pub enum BodyRef<'a, E> {
    /// A new owner takes over the partition.
    Announcement(&'a Announcement),
    /// The owner still leads the partition.
    NoOp(NoOp),
    /// The result of one command.
    Decision(DecisionRef<'a, E>),
}

/// A [`Decision`], borrowed.
#[derive(Debug, Serialize)]
pub struct DecisionRef<'a, E> {
    /// See [`Decision::aggregate_type`].
    pub aggregate_type: &'a str,
    /// See [`Decision::version`].
    pub version: i64,
    /// See [`Decision::command_id`].
    #[serde(with = "serde_bytes")]
    pub command_id: [u8; 16],
    /// See [`Decision::command_hash`].
    #[serde(with = "serde_bytes")]
    pub command_hash: [u8; 16],
    /// See [`Decision::origin`].
    pub origin: Origin,
    /// See [`Decision::actor`].
    pub actor: &'a str,
    /// See [`Decision::correlation_id`].
    #[serde(with = "serde_bytes")]
    pub correlation_id: [u8; 16],
    /// See [`Decision::causation_id`].
    pub causation_id: Option<&'a str>,
    /// See [`Decision::traceparent`].
    pub traceparent: Option<&'a str>,
    /// See [`Decision::outcome`].
    pub outcome: Option<&'a Outcome>,
    /// See [`Decision::events`].
    pub events: &'a [E],
}

/// The origin of a command id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Origin {
    /// From the client's `Idempotency-Key`.
    Keyed,
    /// Made by the server for one request.
    Server,
    /// From the event that a policy reacted to.
    Policy,
    /// From the timer that fired.
    Timer,
    /// Written by software newer than this.
    #[serde(other)]
    Unknown,
}

/// The kind of a stored answer. The log has kinds, not HTTP statuses, so that it does not depend on HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutcomeKind {
    /// Accepted, but nothing changed: the aggregate is already as the command asks.
    AlreadySo,
    /// Rejected: the aggregate, or something that the command names, does not exist.
    NotFound,
    /// Rejected: the aggregate's state does not allow it.
    Conflict,
    /// Rejected: a value breaks a business rule.
    Invalid,
    /// Rejected: the principal may not do it.
    Forbidden,
    /// Written by software newer than this.
    #[serde(other)]
    Unknown,
}

/// The stored answer of a command that recorded no events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The kind of answer. The edge maps it to an HTTP status.
    pub kind: OutcomeKind,
    /// Stable, upper-case name of the answer, such as `PRODUCT_NOT_FOUND`.
    pub code: String,
    /// Canonical JSON, without any personal value.
    #[serde(with = "serde_bytes")]
    pub detail: Vec<u8>,
}
