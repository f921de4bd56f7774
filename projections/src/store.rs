//! The port between the projector and the database that stores a view's rows and checkpoints.

use crate::{recorded::FoldError, view::ViewEvent};
use journal::{Batch, Checkpoint};
use schemas::topics::PartitionCounts;
use std::time::Duration;

/// Longest time for one attempt to apply a batch; the batch is attempted again afterwards.
pub const APPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// A view in its database.
pub trait Store: Send + Sync + 'static {
    /// The events that the view is a fold of.
    type Event: ViewEvent;

    /// The view's name.
    fn name(&self) -> &'static str;

    /// Creates the tables and checkpoints that are missing. Returns the stored checkpoint of every partition. If a
    /// table is missing, the view's checkpoints are deleted, so that the view is projected from the start.
    fn open(
        &self,
        partitions: &PartitionCounts,
    ) -> impl Future<Output = Result<Vec<Checkpoint>, StoreError>> + Send;

    /// Applies a batch, and stores its checkpoint. Applying it again changes nothing.
    fn apply(
        &self,
        batch: &Batch<Self::Event>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// The kind of a database's error, which decides how the projector continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Another attempt may succeed.
    Transient,
    /// The request took too long: another attempt may succeed, or a smaller request.
    Timeout,
    /// A table does not exist, or the server does not know it yet: opening the view creates it.
    TableMissing,
    /// Another attempt would fail as well.
    Final,
}

/// The reason why a batch was not applied.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another projector is ahead, or applied this batch: read the stored checkpoints again and continue
    /// from there.
    #[error("checkpoint of {topic}/{partition} in view {view} is no longer at offset {expected}")]
    StaleCheckpoint {
        /// The view.
        view: &'static str,
        /// The journal.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The next offset of the checkpoint before the batch.
        expected: i64,
    },
    /// An event that the view can't apply.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The database refused the request, or did not answer.
    #[error("{database}: {source}")]
    Database {
        /// The kind of database.
        database: &'static str,
        /// The kind of failure.
        failure: Failure,
        /// The driver's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A stored checkpoint that can't be parsed.
    #[error("a stored checkpoint of view {view} can't be read: {reason}")]
    Checkpoint {
        /// The view.
        view: &'static str,
        /// The parser's message.
        reason: String,
    },
    /// No answer within [`APPLY_TIMEOUT`].
    #[error("the database of view {view} gave no answer within {} s", APPLY_TIMEOUT.as_secs())]
    TimedOut {
        /// The view.
        view: &'static str,
    },
}

impl StoreError {
    /// The kind of failure. After [`StoreError::StaleCheckpoint`] the projector opens the view again.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Database { failure, .. } => *failure,
            Self::TimedOut { .. } => Failure::Timeout,
            Self::StaleCheckpoint { .. } | Self::Fold(_) | Self::Checkpoint { .. } => {
                Failure::Final
            }
        }
    }
}

/// The checkpoint of every partition of a view's journals: the stored one, or the start.
pub(crate) fn complete_checkpoints<E: ViewEvent>(
    stored: &[Checkpoint],
    partitions: &PartitionCounts,
) -> Vec<Checkpoint> {
    let of_topic = |topic: &'static str| {
        (0..partitions.of(topic)).map(move |partition| {
            stored
                .iter()
                .find(|stored| stored.topic == topic && stored.partition == partition)
                .cloned()
                .unwrap_or_else(|| Checkpoint::start(topic, partition))
        })
    };
    E::TOPICS.iter().copied().flat_map(of_topic).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::orders::Event;

    #[test]
    fn every_partition_has_a_checkpoint() {
        let stored = Checkpoint {
            next_offset: 7,
            ..Checkpoint::start("journal.orders", 1)
        };
        let of_another_topic = Checkpoint {
            next_offset: 9,
            ..Checkpoint::start("journal.catalog", 2)
        };
        let stored = [of_another_topic, stored];
        let complete = complete_checkpoints::<Event>(&stored, &PartitionCounts::uniform(3));
        let seen: Vec<_> = complete
            .iter()
            .map(|checkpoint| (checkpoint.partition, checkpoint.next_offset))
            .collect();
        assert_eq!(seen, [(0, 0), (1, 7), (2, 0)]);
    }
}
