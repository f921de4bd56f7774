//! Positions in a journal, and the check that those of a subscription and of the shared reader connect.

use super::running::Running;
use crate::{chain::Hash, checkpoint::Checkpoint, protocol::SharingProtocol};
use std::collections::{BTreeMap, BTreeSet};

/// A subscription's position in a partition.
pub(super) struct Position {
    /// The checkpoint of the last batch that the subscriber got; at first, the one to start from.
    pub checkpoint: Checkpoint,
    /// All records before this offset were judged. After a start, void records after it are judged again.
    pub judged: i64,
    /// The chain's hash at that offset.
    pub hash: Hash,
    /// Whether it is not read further: its reader halted, or the subscriber paused it.
    pub is_halted: bool,
}

impl Position {
    /// The position after a checkpoint.
    pub fn at(start: Checkpoint) -> Self {
        Self {
            judged: start.resume_offset(),
            hash: start.hash,
            checkpoint: start,
            is_halted: false,
        }
    }
}

/// A subscription's cursor in the window of the shared reader.
#[derive(Clone)]
pub(super) struct Registration {
    pub generation: u64,
    /// The number of the next entry.
    pub next: u64,
    /// The shared reader's positions before that entry.
    pub floor: BTreeMap<i32, i64>,
    /// Partitions that the shared reader had halted before that entry.
    pub halted: BTreeSet<i32>,
    pub health_version: u64,
}

impl Registration {
    /// Whether a reader at these positions misses nothing if it continues with this cursor. It must have halted
    /// every partition that the shared reader had halted before.
    pub fn connects<P: SharingProtocol>(
        &self,
        partitions: &BTreeMap<i32, Position>,
        position: &BTreeMap<i32, Checkpoint>,
    ) -> bool {
        partitions.iter().all(|(partition, own)| {
            own.is_halted
                || (!self.halted.contains(partition)
                    && position
                        .get(partition)
                        .is_some_and(|state| P::reaches(state.next_offset, self.floor[partition])))
        })
    }
}

impl<E> Running<E> {
    pub fn next_offsets(&self) -> BTreeMap<i32, i64> {
        let heads = self.heads.iter();
        heads
            .map(|(partition, head)| (*partition, head.next))
            .collect()
    }
}

pub(super) fn next_offsets(position: &BTreeMap<i32, Checkpoint>) -> BTreeMap<i32, i64> {
    let position = position.iter();
    position
        .map(|(partition, state)| (*partition, state.next_offset))
        .collect()
}

/// The number of offsets by which `behind` lags `ahead`, over the partitions that both have.
pub(super) fn distance(ahead: &BTreeMap<i32, i64>, behind: &BTreeMap<i32, i64>) -> i64 {
    let both = behind
        .iter()
        .filter_map(|(partition, behind)| Some((ahead.get(partition)?, behind)));
    both.map(|(ahead, behind)| (ahead - behind).max(0)).sum()
}
