//! Starts the owners of a context.

use super::{OwnerPool, Pool};
use futures_util::future::BoxFuture;
use journal::{
    Kafka,
    owner::{Machine, Owner, OwnerParts, OwnerSettings},
    store::StateStore,
};
use kafka::Encoder;
use schemas::{
    Context, ContextEvent,
    topics::{PartitionCounts, TopicPartition},
};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The parts of a node that its owners use. They are the same for every context.
pub struct OwnersLaunch<'a> {
    /// The cluster with the journals.
    pub log: Kafka,
    /// The number of partitions of each journal.
    pub partitions: &'a PartitionCounts,
    /// Returns the settings of a partition's owner.
    pub settings: &'a dyn Fn(TopicPartition) -> OwnerSettings,
    /// Returns the encoder of a context's journal.
    pub encoder: &'a dyn Fn(&'static Context) -> Encoder,
    /// Returns the state store of a partition.
    pub store: &'a dyn Fn(TopicPartition) -> Arc<dyn StateStore>,
    /// Returns a watch of whether this node must own a partition.
    pub assigned: &'a dyn Fn(TopicPartition) -> watch::Receiver<bool>,
    /// Runs an owner's task.
    pub spawn: &'a dyn Fn(BoxFuture<'static, ()>),
    /// Cancelled to end the owners.
    pub closing: CancellationToken,
    /// Cancelled to abandon owners that have not ended yet.
    pub given_up: CancellationToken,
}

/// A context whose owners can be started, implemented for every machine.
pub trait ContextStart: Send + Sync {
    /// The context.
    fn context(&self) -> &'static Context;

    /// Starts an owner for every partition of the context's journal, each on stand-by until its partition
    /// is assigned to this node.
    fn start(&self, launch: &OwnersLaunch<'_>) -> Arc<dyn OwnerPool>;
}

impl<M: Machine + Copy + Sync> ContextStart for M {
    fn context(&self) -> &'static Context {
        M::Event::CONTEXT
    }

    fn start(&self, launch: &OwnersLaunch<'_>) -> Arc<dyn OwnerPool> {
        let context = M::Event::CONTEXT;
        let encoder = (launch.encoder)(context);
        let topic = context.topic;
        let partitions =
            (0..launch.partitions.of(topic)).map(|partition| TopicPartition { topic, partition });
        let handles = partitions.map(|target| {
            let (owner, handle) = Owner::new(OwnerParts {
                machine: *self,
                partition: target.partition,
                encoder: encoder.clone(),
                log: launch.log.clone(),
                store: (launch.store)(target),
                settings: (launch.settings)(target),
            });
            let assigned = (launch.assigned)(target);
            let given_up = launch.given_up.clone();
            let run = run(owner, target, assigned, launch.closing.clone(), given_up);
            (launch.spawn)(Box::pin(run));
            handle
        });
        Arc::new(Pool::<M>::new(handles.collect()))
    }
}

/// Runs an owner until `closing`, and abandons it at `given_up`.
async fn run<M: Machine>(
    owner: Owner<M, Kafka>,
    TopicPartition { topic, partition }: TopicPartition,
    assigned: watch::Receiver<bool>,
    closing: CancellationToken,
    given_up: CancellationToken,
) {
    let run = owner.run(closing, assigned);
    if given_up.run_until_cancelled(run).await.is_none() {
        tracing::warn!(
            topic,
            partition,
            "owner did not end in time; its next start reads more of the log"
        );
    }
}
