//! The port between the projector and the database that stores a build's rows.

use crate::{
    builds::{Build, RegistryError},
    parking::{PARKED_KEYS_MAX, ParkedCommit, ParkedKey},
    recorded::{FoldError, Recorded},
    view::{Partition, ViewEvent},
};
use journal::Checkpoint;
use std::time::Duration;

/// Longest time for one attempt to apply a batch; the batch is attempted again afterwards.
pub const APPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// A build in its database.
pub trait Store: Send + Sync + 'static {
    /// The events that the view is a fold of.
    type Event: ViewEvent;

    /// The build.
    fn build(&self) -> Build;

    /// Creates the tables and checkpoints of a new build. Returns the stored checkpoint of each of the partitions, and
    /// their parked keys. If a build has lost a table, it is replaced with a new build, which is projected from the
    /// start: the checkpoints of the old build would skip the rows of the missing table.
    ///
    /// # Errors
    /// [`StoreError::Dropped`], also for a replaced build, or another failure.
    fn open(
        &self,
        partitions: &[Partition],
    ) -> impl Future<Output = Result<Opened, StoreError>> + Send;

    /// Applies events, records parked commits, and moves the checkpoint. A second call with the same step changes
    /// nothing.
    fn apply(
        &self,
        step: &Step<'_, Self::Event>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Applies events without a checkpoint, to find out whether they can be applied. A database with transactions rolls
    /// the changes back; any other database gets only values that a later [`Store::apply`] of the same events also
    /// writes.
    fn try_apply(
        &self,
        events: &[Recorded<'_, Self::Event>],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Applies the first waiting commits of a parked key, and removes them from the waiting commits. If no commit waits
    /// any more, the key is no longer parked.
    fn release(
        &self,
        key: &ParkedKey,
        commits: &[i64],
        events: &[Recorded<'_, Self::Event>],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// The stored state of a build.
#[derive(Debug, Clone, Default)]
pub struct Opened {
    /// The checkpoint of each partition.
    pub checkpoints: Vec<Checkpoint>,
    /// The parked keys of these partitions.
    pub parked: Vec<ParkedKey>,
}

/// The change from one checkpoint of a partition to a later one.
#[derive(Debug)]
pub struct Step<'a, E> {
    /// The `next_offset` of the checkpoint before the step.
    pub from: i64,
    /// The checkpoint after the step.
    pub checkpoint: &'a Checkpoint,
    /// The events to apply, in order.
    pub events: &'a [Recorded<'a, E>],
    /// The commits between the checkpoints that are not applied, because their aggregate is parked.
    pub parked: &'a [ParkedCommit],
}

/// The kind of a database's error, which decides how the projector continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Another attempt may succeed, at once or after an operator's repair.
    Transient,
    /// The request took too long: another attempt or a smaller request may succeed.
    Timeout,
    /// A table does not exist, or the server does not know it yet, or a column was dropped: opening the build creates
    /// the tables, or replaces the build if it had them.
    TableMissing,
    /// The database refuses a value: the event that it comes from can't be applied.
    Value,
}

/// The reason why a step was not applied.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another projector is ahead, or applied this step: read the stored checkpoints again and continue
    /// from there.
    #[error("checkpoint of {topic}/{partition} in {build} is no longer at offset {expected}")]
    StaleCheckpoint {
        /// The build.
        build: Build,
        /// The journal.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The next offset of the checkpoint before the step.
        expected: i64,
    },
    /// The build was dropped.
    #[error("{build} is dropped")]
    Dropped {
        /// The build.
        build: Build,
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
    /// The list of builds can't be changed.
    #[error(transparent)]
    Builds(#[from] RegistryError),
    /// A stored checkpoint that can't be parsed.
    #[error("a stored checkpoint of {build} can't be read: {reason}")]
    Checkpoint {
        /// The build.
        build: Build,
        /// The parser's message.
        reason: String,
    },
    /// So many aggregates of a partition can't be applied that the view or its tables must be at fault.
    #[error(
        "more than {PARKED_KEYS_MAX} aggregates of a partition can't be applied to {build}: {source}"
    )]
    TooManyParked {
        /// The build.
        build: Build,
        /// The last aggregate's error.
        source: Box<StoreError>,
    },
    /// No answer within [`APPLY_TIMEOUT`].
    #[error("the database of {build} gave no answer within {} s", APPLY_TIMEOUT.as_secs())]
    TimedOut {
        /// The build.
        build: Build,
    },
}

impl StoreError {
    /// The kind of failure, which decides how the projector continues. `None` for an error that is not a failure: a
    /// stale checkpoint, a dropped build, or an event that can't be applied.
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Database { failure, .. } => Some(*failure),
            Self::TimedOut { .. } => Some(Failure::Timeout),
            // An operator can restore a checkpoint, or reset the view.
            Self::Builds(_) | Self::Checkpoint { .. } | Self::TooManyParked { .. } => {
                Some(Failure::Transient)
            }
            Self::StaleCheckpoint { .. } | Self::Dropped { .. } | Self::Fold(_) => None,
        }
    }

    /// Whether the events or the view's code are the cause, but parking an aggregate is no remedy. The same attempt fails
    /// until an operator changes something.
    pub(crate) fn waits_for_operator(&self) -> bool {
        match self {
            Self::TooManyParked { .. } | Self::Fold(_) => true,
            Self::Database { failure, .. } => *failure == Failure::Value,
            Self::StaleCheckpoint { .. }
            | Self::Dropped { .. }
            | Self::Builds(_)
            | Self::Checkpoint { .. }
            | Self::TimedOut { .. } => false,
        }
    }

    /// The same error of a database, as another kind of failure. Other errors stay as they are.
    pub(crate) fn with_failure(self, failure: Failure) -> Self {
        match self {
            Self::Database {
                database, source, ..
            } => Self::Database {
                database,
                failure,
                source,
            },
            other => other,
        }
    }
}

/// The checkpoint of each partition: the stored checkpoint, or else the start of the log.
pub(crate) fn complete_checkpoints(
    stored: &[Checkpoint],
    partitions: &[Partition],
) -> Vec<Checkpoint> {
    let complete = |&(topic, partition): &Partition| {
        stored
            .iter()
            .find(|stored| stored.topic == topic && stored.partition == partition)
            .cloned()
            .unwrap_or_else(|| Checkpoint::start(topic, partition))
    };
    partitions.iter().map(complete).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let partitions = [0, 1, 2].map(|partition| ("journal.orders", partition));
        let complete = complete_checkpoints(&stored, &partitions);
        let seen: Vec<_> = complete
            .iter()
            .map(|checkpoint| (checkpoint.partition, checkpoint.next_offset))
            .collect();
        assert_eq!(seen, [(0, 0), (1, 7), (2, 0)]);
    }
}
