//! How far each reader of the log has read, for operators and for clients that wait for a view.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

/// A reader of a partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReaderPartition {
    /// The view or job.
    pub reader: String,
    /// The journal.
    pub topic: String,
    /// The journal's partition.
    pub partition: i32,
}

/// The next offset of every reader in this process.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    next_offsets: Arc<Mutex<BTreeMap<ReaderPartition, i64>>>,
}

impl Progress {
    /// Records that a reader has processed everything before `next_offset`.
    pub fn set(&self, reader: &str, topic: &str, partition: i32, next_offset: i64) {
        let key = ReaderPartition::new(reader, topic, partition);
        self.lock().insert(key, next_offset);
    }

    /// The next offset of a reader; `None` if it has not reported yet.
    pub fn get(&self, reader: &str, topic: &str, partition: i32) -> Option<i64> {
        let key = ReaderPartition::new(reader, topic, partition);
        self.lock().get(&key).copied()
    }

    /// The next offsets of all readers, in order.
    pub fn all(&self) -> Vec<(ReaderPartition, i64)> {
        let next_offsets = self.lock();
        let all = next_offsets.iter();
        all.map(|(key, next)| (key.clone(), *next)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ReaderPartition, i64>> {
        self.next_offsets
            .lock()
            .expect("no holder of this lock panics")
    }
}

impl ReaderPartition {
    fn new(reader: &str, topic: &str, partition: i32) -> Self {
        Self {
            reader: reader.to_owned(),
            topic: topic.to_owned(),
            partition,
        }
    }
}
