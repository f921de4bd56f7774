//! The owners of one context.

use super::TypedCommand;
use futures_util::future::BoxFuture;
use journal::owner::{Answer, Machine, OwnerHandle, Proved, Refusal, Status};
use schemas::{Context, ContextEvent, owners::ProvedRecord, topics::TopicPartition};
use tokio::sync::{oneshot, watch};

/// Receives a command's answer. It closes without an answer if the owner has ended.
pub type AnswerReceiver = oneshot::Receiver<Result<Answer, Refusal>>;

/// An owner for each partition of one context's journal, whether it serves or is on stand-by.
pub trait OwnerPool: Send + Sync {
    /// The context.
    fn context(&self) -> &'static Context;

    /// The number of the journal's partitions.
    fn partitions(&self) -> i32;

    /// Submits a command to the owner of its target, and waits while that owner's queue is full.
    ///
    /// # Errors
    /// The owner refused it. [`Refusal::Unencodable`]: the command is for another context or for a partition
    /// that the journal does not have, which is a bug.
    fn submit(&self, command: TypedCommand) -> BoxFuture<'_, Result<AnswerReceiver, Refusal>>;

    /// Watches the status of a partition's owner; `None` if the journal does not have the partition.
    fn status(&self, partition: i32) -> Option<watch::Receiver<Status>>;

    /// Watches the log of a partition as far as its owner has proved it; `None` if the journal does not have the
    /// partition.
    fn proved(&self, partition: i32) -> Option<watch::Receiver<Option<Proved>>>;

    /// The last valid record that a partition's owner knows; `None` before the owner has read one, or if the
    /// journal does not have the partition.
    fn proved_record(&self, partition: i32) -> Option<ProvedRecord>;
}

/// The owners that run one context's machine.
pub struct Pool<M: Machine> {
    owners: Vec<OwnerHandle<M::Command>>,
}

impl<M: Machine> Pool<M> {
    /// A pool of started owners, in the order of their partitions from 0 on.
    pub fn new(owners: Vec<OwnerHandle<M::Command>>) -> Self {
        Self { owners }
    }

    fn owner(&self, partition: i32) -> Option<&OwnerHandle<M::Command>> {
        self.owners.get(usize::try_from(partition).ok()?)
    }
}

impl<M: Machine> OwnerPool for Pool<M> {
    fn context(&self) -> &'static Context {
        M::Event::CONTEXT
    }

    fn partitions(&self) -> i32 {
        i32::try_from(self.owners.len()).expect("a topic has at most i32::MAX partitions")
    }

    fn submit(&self, command: TypedCommand) -> BoxFuture<'_, Result<AnswerReceiver, Refusal>> {
        let target = command.target();
        let is_ours = target.topic == self.context().topic;
        let owner = self.owner(target.partition).filter(|_| is_ours);
        let request = command.into_request::<M::Command>();
        Box::pin(async move {
            match (owner, request) {
                (Some(owner), Some(request)) => owner.submit(request).await,
                (owner, request) => Err(misdirected(target, owner.is_some(), request.is_some())),
            }
        })
    }

    fn status(&self, partition: i32) -> Option<watch::Receiver<Status>> {
        self.owner(partition).map(OwnerHandle::status)
    }

    fn proved(&self, partition: i32) -> Option<watch::Receiver<Option<Proved>>> {
        self.owner(partition).map(OwnerHandle::proved)
    }

    fn proved_record(&self, partition: i32) -> Option<ProvedRecord> {
        self.owner(partition)?.proved_record()
    }
}

/// Reports a command that a bug sent to the wrong pool.
fn misdirected(target: TopicPartition, has_owner: bool, has_type: bool) -> Refusal {
    let TopicPartition { topic, partition } = target;
    tracing::error!(
        topic,
        partition,
        has_owner,
        has_type,
        "command reached an owner pool that can't take it"
    );
    let reason = match has_owner {
        true => format!("the command does not have the type of the commands of {topic}"),
        false => format!("the pool has no owner of {target}"),
    };
    Refusal::Unencodable(reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        contexts::{
            self,
            machines::{catalog, orders},
        },
        envelope::CommandEnvelope,
        identity::{Hasher, Principal},
    };
    use schemas::topics::PartitionCounts;

    /// A command about a product.
    fn create_product(partitions: i32) -> TypedCommand {
        let command = contexts::command("CreateProduct").unwrap();
        let body = command
            .read(br#"{"sku": "A", "description": "a product"}"#)
            .unwrap();
        let command = CommandEnvelope::new(&Principal::import(), None, body);
        let partitions = PartitionCounts::uniform(partitions);
        let typed = command.prepare(&Hasher::new([7; 32]), &partitions);
        typed.unwrap()
    }

    #[test]
    fn a_request_can_be_taken_out_only_in_its_own_type() {
        let command = create_product(1);
        assert_eq!(command.key(), "product_A");
        assert!(
            command
                .into_request::<<orders::Context as Machine>::Command>()
                .is_none()
        );
        let request = create_product(1).into_request::<<catalog::Context as Machine>::Command>();
        assert_eq!(request.unwrap().key, "product_A");
    }

    #[test]
    fn a_key_stays_within_its_topics_partitions() {
        for partitions in 1..20 {
            let target = create_product(partitions).target();
            assert_eq!(target.topic, "journal.catalog");
            assert!(
                (0..partitions).contains(&target.partition),
                "{target} instead of a partition of {partitions}"
            );
        }
    }

    #[tokio::test]
    async fn a_command_sent_to_the_wrong_pool_is_an_error() {
        let orders_pool = Pool::<orders::Context>::new(Vec::new());
        let catalog_pool = Pool::<catalog::Context>::new(Vec::new());
        for pool in [&orders_pool as &dyn OwnerPool, &catalog_pool] {
            let refusal = pool.submit(create_product(1)).await.unwrap_err();
            assert!(
                matches!(refusal, Refusal::Unencodable(_)),
                "{refusal:?} instead of Refusal::Unencodable"
            );
        }
    }
}
