//! A command in its context's own types, which are erased so that every owner pool has the same interface.

use journal::owner::{Machine, Request};
use schemas::{
    ContextEvent,
    ids::CommandId,
    topics::{PartitionCounts, TopicPartition},
};
use std::{any::Any, fmt};

/// A checked command for the owner of its target. Only the [`super::Pool`] of the machine that it was created
/// for accepts it.
pub struct TypedCommand {
    target: TopicPartition,
    request: Box<dyn ErasedRequest>,
}

/// The properties of a request that do not depend on its command's type.
trait ErasedRequest: Any + Send {
    fn key(&self) -> &str;
    fn id(&self) -> CommandId;
    fn hash(&self) -> [u8; 16];
    fn trace_id(&self) -> Option<&str>;
}

impl<C: Send + 'static> ErasedRequest for Request<C> {
    fn key(&self) -> &str {
        &self.key
    }

    fn id(&self) -> CommandId {
        self.id
    }

    fn hash(&self) -> [u8; 16] {
        self.hash
    }

    fn trace_id(&self) -> Option<&str> {
        self.trace_id.as_deref()
    }
}

impl TypedCommand {
    /// A request to the context of the machine `M`; its key determines the partition.
    pub fn new<M: Machine>(request: Request<M::Command>, partitions: &PartitionCounts) -> Self {
        let topic = M::Event::CONTEXT.topic;
        let partition = kafka::partition::of_key(request.key.as_bytes(), partitions.of(topic));
        Self {
            target: TopicPartition { topic, partition },
            request: Box::new(request),
        }
    }

    /// The partition whose owner decides it.
    pub fn target(&self) -> TopicPartition {
        self.target
    }

    /// The key of the command's record.
    pub fn key(&self) -> &str {
        self.request.key()
    }

    /// The command's id, which a retry shares.
    pub fn id(&self) -> CommandId {
        self.request.id()
    }

    /// Keyed hash of the canonical command.
    pub fn hash(&self) -> [u8; 16] {
        self.request.hash()
    }

    /// The id of the trace that the command belongs to.
    pub fn trace_id(&self) -> Option<&str> {
        self.request.trace_id()
    }

    /// The request, if its command has the type `C`.
    pub fn into_request<C: 'static>(self) -> Option<Request<C>> {
        let request: Box<dyn Any> = self.request;
        request.downcast().ok().map(|request| *request)
    }
}

impl fmt::Debug for TypedCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedCommand")
            .field("target", &self.target)
            .field("key", &self.key())
            .finish_non_exhaustive()
    }
}
