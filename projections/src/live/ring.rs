//! The newest batches of the journal, in memory.

use journal::Batch;
use std::collections::{BTreeMap, VecDeque};

/// Maximum number of commits in the ring; a batch without commits counts as one.
pub const RING_COMMITS_MAX: usize = 8_192;
/// Maximum size of the commits in the ring, in bytes of the log.
pub const RING_BYTES_MAX: usize = 4 << 20;

/// The newest batches, without a gap up to the hub's position.
pub struct Ring<E> {
    batches: VecDeque<Batch<E>>,
    /// The first offset, by partition: the ring has every valid record from there on.
    starts: BTreeMap<i32, i64>,
    commits: usize,
    bytes: usize,
}

impl<E> Ring<E> {
    /// An empty ring at these offsets.
    pub fn new(starts: BTreeMap<i32, i64>) -> Self {
        Self {
            batches: VecDeque::new(),
            starts,
            commits: 0,
            bytes: 0,
        }
    }

    /// Adds a batch, and drops the oldest batches until the ring is within its limits.
    pub fn push(&mut self, batch: Batch<E>) {
        self.commits += batch.commits.len().max(1);
        self.bytes += batch.bytes;
        self.batches.push_back(batch);
        while self.commits > RING_COMMITS_MAX || self.bytes > RING_BYTES_MAX {
            let Some(oldest) = self.batches.pop_front() else {
                return;
            };
            self.commits -= oldest.commits.len().max(1);
            self.bytes -= oldest.bytes;
            // The ring starts after the last valid record, because a reader gets no batch for trailing void records.
            let start = oldest.checkpoint.resume_offset();
            self.starts.insert(oldest.partition, start);
        }
    }

    /// The first offset of a partition in the ring; `None` for an unknown partition.
    pub fn start(&self, partition: i32) -> Option<i64> {
        self.starts.get(&partition).copied()
    }

    /// The batches with records at or after an offset, in the order in which they were read. `from` returns the offset
    /// for each partition, or `None` to leave the partition out.
    pub fn batches(&self, from: impl Fn(i32) -> Option<i64>) -> impl Iterator<Item = &Batch<E>> {
        self.batches.iter().filter(move |batch| {
            let from = from(batch.partition);
            from.is_some_and(|from| from < batch.checkpoint.next_offset)
        })
    }
}
