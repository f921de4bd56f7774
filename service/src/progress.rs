//! The progress of each reader of the log, for operators and for clients that wait for a view.

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
    offsets: Arc<Mutex<Offsets>>,
}

/// The offsets of all readers at one moment.
#[derive(Debug, Clone, Default)]
pub struct Offsets {
    /// Everything before this offset is processed.
    pub read: BTreeMap<ReaderPartition, i64>,
    /// The end of a reader's results in a topic that it writes: the results of everything that it has
    /// processed are before this offset. It has only topics to which the reader has written since it started.
    pub written: BTreeMap<ReaderPartition, i64>,
}

impl Progress {
    /// Records that a reader has processed everything before `next_offset`.
    pub fn set(&self, reader: &str, topic: &str, partition: i32, next_offset: i64) {
        let key = ReaderPartition::new(reader, topic, partition);
        self.lock().read.insert(key, next_offset);
    }

    /// Forgets a partition that a reader no longer processes.
    pub fn remove(&self, reader: &str, topic: &str, partition: i32) {
        let key = ReaderPartition::new(reader, topic, partition);
        self.lock().read.remove(&key);
    }

    /// Records, in one step, the offsets that a reader has processed and the ends of its results, by topic
    /// and partition.
    pub fn publish<'a>(
        &self,
        reader: &str,
        read: impl IntoIterator<Item = (&'a str, i32, i64)>,
        written: impl IntoIterator<Item = (&'a str, i32, i64)>,
    ) {
        let mut offsets = self.lock();
        for (topic, partition, next) in read {
            let key = ReaderPartition::new(reader, topic, partition);
            offsets.read.insert(key, next);
        }
        for (topic, partition, end) in written {
            let key = ReaderPartition::new(reader, topic, partition);
            offsets.written.insert(key, end);
        }
    }

    /// The next offset of a reader; `None` if it has not reported yet.
    pub fn get(&self, reader: &str, topic: &str, partition: i32) -> Option<i64> {
        let key = ReaderPartition::new(reader, topic, partition);
        self.lock().read.get(&key).copied()
    }

    /// The offsets of all readers.
    pub fn all(&self) -> Offsets {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Offsets> {
        self.offsets.lock().expect("no holder of this lock panics")
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
