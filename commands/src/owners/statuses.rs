//! The statuses of all owners of this node.

use super::OwnerPool;
use journal::owner::Status;
use schemas::topics::TopicPartition;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

/// Watches the status of each owner of this node.
#[derive(Clone)]
pub struct OwnerStatuses {
    by_partition: BTreeMap<TopicPartition, watch::Receiver<Status>>,
}

impl OwnerStatuses {
    /// The statuses of the given owners.
    pub fn new(
        statuses: impl IntoIterator<Item = (TopicPartition, watch::Receiver<Status>)>,
    ) -> Self {
        Self {
            by_partition: statuses.into_iter().collect(),
        }
    }

    /// The statuses of all owners of the pools.
    pub fn of_pools(pools: &[Arc<dyn OwnerPool>]) -> Self {
        Self::new(pools.iter().flat_map(|pool| {
            let topic = pool.context().topic;
            (0..pool.partitions()).filter_map(move |partition| {
                let status = pool.status(partition)?;
                Some((TopicPartition { topic, partition }, status))
            })
        }))
    }

    /// The status of one owner. Do not hold it across an await.
    ///
    /// # Panics
    /// If this node has no owner of the partition.
    pub fn of(&self, partition: TopicPartition) -> watch::Ref<'_, Status> {
        self.receiver(partition).borrow()
    }

    /// The watch behind [`OwnerStatuses::of`].
    ///
    /// # Panics
    /// If this node has no owner of the partition.
    pub fn receiver(&self, partition: TopicPartition) -> &watch::Receiver<Status> {
        self.by_partition
            .get(&partition)
            .unwrap_or_else(|| panic!("this node has no owner of {partition}"))
    }

    /// Every partition and the status of its owner.
    pub fn all(&self) -> impl Iterator<Item = (TopicPartition, Status)> {
        let statuses = self.by_partition.iter();
        statuses.map(|(partition, status)| (*partition, status.borrow().clone()))
    }

    /// Returns once a status has changed since the last call. If no status can change any more, it never
    /// returns. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.by_partition.is_empty() {
            return std::future::pending().await;
        }
        let changes = self.by_partition.values_mut().map(|status| {
            Box::pin(async {
                if status.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            })
        });
        futures_util::future::select_all(changes).await;
    }
}
