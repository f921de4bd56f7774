//! The partitions of a build that wait for an operator. They are kept while the build is opened again, so that they are
//! neither read again nor reported as ready.

use crate::{applier::HeldBatch, status::Cause, view::ViewEvent};
use journal::Checkpoint;
use std::collections::{BTreeMap, BTreeSet};

/// A partition: its topic and number.
pub(super) type PartitionName = (String, i32);

/// A partition that waits for an operator.
pub(super) struct Hold<E: ViewEvent> {
    /// The checkpoint before the batch.
    pub checkpoint: Checkpoint,
    /// The batch, between two attempts to apply it. `None` during an attempt. An attempt that is interrupted loses the
    /// batch, and the partition must be read again.
    pub batch: Option<Box<HeldBatch<E>>>,
}

/// At most one hold for each partition of the build.
pub(super) struct Holds<E: ViewEvent> {
    by_partition: BTreeMap<PartitionName, Hold<E>>,
}

impl<E: ViewEvent> Holds<E> {
    /// The holds of these partitions.
    pub fn new(holds: impl IntoIterator<Item = (PartitionName, Hold<E>)>) -> Self {
        Self {
            by_partition: holds.into_iter().collect(),
        }
    }

    /// Takes the hold of a checkpoint's partition. Returns `None`, and leaves the hold, if the hold has another
    /// checkpoint: another process or an operator has moved the stored one.
    pub fn take(&mut self, stored: &Checkpoint) -> Option<Hold<E>> {
        let partition = (stored.topic.clone(), stored.partition);
        let hold = self.by_partition.get(&partition)?;
        if hold.checkpoint != *stored {
            return None;
        }
        self.by_partition.remove(&partition)
    }

    /// The causes under which readiness reports the failures of these partitions.
    pub fn causes(&self) -> BTreeSet<Cause> {
        let partitions = self.by_partition.keys();
        partitions
            .map(|(topic, partition)| Cause::Partition(topic.clone(), *partition))
            .collect()
    }
}
