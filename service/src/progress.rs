//! The progress of each reader of the log, for operators and for clients that wait for a view.
//!
//! A wait ends when its reader has processed an offset: each change of a position wakes only the waits that it ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::sync::{Notify, oneshot};

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
    shared: Arc<Shared>,
}

/// The offsets of all readers at one moment.
#[derive(Debug, Clone, Default)]
pub struct Offsets {
    /// The reader has processed everything before this offset.
    pub read: BTreeMap<ReaderPartition, i64>,
    /// The end of a reader's results in a topic that it writes: the results of everything that it has processed are
    /// before this offset. The map contains only topics to which the reader has written since it started.
    pub written: BTreeMap<ReaderPartition, i64>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// A reader has reported a partition for the first time.
    appeared: Notify,
}

#[derive(Debug, Default)]
struct State {
    offsets: Offsets,
    waits: BTreeMap<ReaderPartition, Waits>,
    /// The partitions that a reader has in all processes together.
    declared: BTreeMap<String, BTreeSet<(String, i32)>>,
    /// The number of the next wait.
    next_wait: u64,
}

/// The waits for a partition, by the next offset that ends each, and its number.
type Waits = BTreeMap<(i64, u64), oneshot::Sender<()>>;

/// Removes a wait when it is given up.
struct Wait<'a> {
    shared: &'a Shared,
    partition: ReaderPartition,
    end: (i64, u64),
}

impl Progress {
    /// Records that a reader has processed everything before `next_offset`.
    pub fn set(&self, reader: &str, topic: &str, partition: i32, next_offset: i64) {
        self.publish(reader, [(topic, partition, next_offset)], []);
    }

    /// Forgets a partition that a reader no longer processes.
    pub fn remove(&self, reader: &str, topic: &str, partition: i32) {
        let key = ReaderPartition::new(reader, topic, partition);
        self.shared.lock().offsets.read.remove(&key);
    }

    /// Records, in one step, the offsets that a reader has processed and the ends of its results, by topic
    /// and partition.
    pub fn publish<'a>(
        &self,
        reader: &str,
        read: impl IntoIterator<Item = (&'a str, i32, i64)>,
        written: impl IntoIterator<Item = (&'a str, i32, i64)>,
    ) {
        let mut state = self.shared.lock();
        let mut is_new = false;
        for (topic, partition, next) in read {
            let key = ReaderPartition::new(reader, topic, partition);
            state.wake(&key, next);
            is_new |= state.offsets.read.insert(key, next).is_none();
        }
        for (topic, partition, end) in written {
            let key = ReaderPartition::new(reader, topic, partition);
            state.offsets.written.insert(key, end);
        }
        drop(state);
        if is_new {
            self.shared.appeared.notify_waiters();
        }
    }

    /// The next offset of a reader; `None` if it has not reported yet.
    pub fn get(&self, reader: &str, topic: &str, partition: i32) -> Option<i64> {
        let key = ReaderPartition::new(reader, topic, partition);
        self.shared.lock().offsets.read.get(&key).copied()
    }

    /// The next offset in each partition that a reader reads, by topic and partition; empty before its start.
    pub fn of_reader(&self, reader: &str) -> BTreeMap<(String, i32), i64> {
        let state = self.shared.lock();
        let from = ReaderPartition::new(reader, "", i32::MIN);
        let own = state.offsets.read.range(from..);
        own.take_while(|(key, _)| key.reader == reader)
            .map(|(key, next)| ((key.topic.clone(), key.partition), *next))
            .collect()
    }

    /// Records the partitions of a reader in all processes together. Another process may process some of them.
    pub fn declare<'a>(&self, reader: &str, partitions: impl IntoIterator<Item = (&'a str, i32)>) {
        let owned = partitions.into_iter();
        let owned = owned.map(|(topic, partition)| (topic.to_owned(), partition));
        let mut state = self.shared.lock();
        state.declared.insert(reader.to_owned(), owned.collect());
        drop(state);
        self.shared.appeared.notify_waiters();
    }

    /// The partitions of a reader: those that were declared, and those that it processes here.
    pub fn partitions(&self, reader: &str) -> BTreeSet<(String, i32)> {
        let mut partitions: BTreeSet<_> = self.of_reader(reader).into_keys().collect();
        let state = self.shared.lock();
        partitions.extend(state.declared.get(reader).into_iter().flatten().cloned());
        partitions
    }

    /// The offsets of all readers.
    pub fn all(&self) -> Offsets {
        self.shared.lock().offsets.clone()
    }

    /// Waits until the partitions of a reader are known. Cancel-safe.
    pub async fn started(&self, reader: &str) {
        loop {
            let appeared = self.shared.appeared.notified();
            if !self.partitions(reader).is_empty() {
                return;
            }
            appeared.await;
        }
    }

    /// Waits until a reader has processed everything before `next_offset`, in this process or, by
    /// [`Self::reached_elsewhere`], in another one. Cancel-safe.
    pub async fn reached(&self, reader: &str, topic: &str, partition: i32, next_offset: i64) {
        let key = ReaderPartition::new(reader, topic, partition);
        let (sender, ended) = oneshot::channel();
        let _wait = {
            let mut state = self.shared.lock();
            let reached = state.offsets.read.get(&key);
            if reached.is_some_and(|reached| *reached >= next_offset) {
                return;
            }
            state.next_wait += 1;
            let end = (next_offset, state.next_wait);
            let waits = state.waits.entry(key.clone()).or_default();
            waits.insert(end, sender);
            Wait {
                shared: &self.shared,
                partition: key,
                end,
            }
        };
        // The sender is dropped only with this wait.
        let _ = ended.await;
    }

    /// Ends the waits for an offset that the reader of another process has reached. The offset does not count as
    /// progress of this process.
    pub fn reached_elsewhere(&self, reader: &str, topic: &str, partition: i32, next_offset: i64) {
        let key = ReaderPartition::new(reader, topic, partition);
        self.shared.lock().wake(&key, next_offset);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

impl State {
    /// Ends the waits for `next_offset` and the offsets before it.
    fn wake(&mut self, partition: &ReaderPartition, next_offset: i64) {
        let Some(waits) = self.waits.get_mut(partition) else {
            return;
        };
        while let Some(wait) = waits.first_entry()
            && wait.key().0 <= next_offset
        {
            // A wait that was given up needs no signal.
            let _ = wait.remove().send(());
        }
        if waits.is_empty() {
            self.waits.remove(partition);
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(waits) = state.waits.get_mut(&self.partition) {
            waits.remove(&self.end);
            if waits.is_empty() {
                state.waits.remove(&self.partition);
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::pin::pin;

    #[test]
    fn a_wait_ends_at_its_offset_and_not_before() {
        let progress = Progress::default();
        let mut wait = pin!(progress.reached("view", "journal.a", 1, 7));
        assert_eq!(wait.as_mut().now_or_never(), None);
        progress.set("view", "journal.a", 1, 6);
        progress.set("view", "journal.a", 0, 9);
        progress.set("view", "journal.b", 1, 9);
        progress.set("other", "journal.a", 1, 9);
        assert_eq!(wait.as_mut().now_or_never(), None);
        progress.set("view", "journal.a", 1, 8);
        assert_eq!(wait.as_mut().now_or_never(), Some(()));
        let reached = progress.reached("view", "journal.a", 1, 8);
        assert_eq!(reached.now_or_never(), Some(()));
    }

    #[test]
    fn the_progress_of_another_process_ends_waits_and_is_not_reported_as_our_own() {
        let progress = Progress::default();
        progress.set("view", "journal.a", 1, 2);
        let mut wait = pin!(progress.reached("view", "journal.a", 1, 7));
        assert_eq!(wait.as_mut().now_or_never(), None);
        progress.reached_elsewhere("view", "journal.a", 1, 7);
        assert_eq!(wait.as_mut().now_or_never(), Some(()));
        assert_eq!(progress.get("view", "journal.a", 1), Some(2));
    }

    #[test]
    fn a_wait_that_is_given_up_leaves_nothing_behind() {
        let progress = Progress::default();
        {
            let mut wait = pin!(progress.reached("view", "journal.a", 1, 7));
            assert_eq!(wait.as_mut().now_or_never(), None);
            assert_eq!(progress.shared.lock().waits.len(), 1);
        }
        assert_eq!(progress.shared.lock().waits.len(), 0);
    }

    #[test]
    fn a_reader_of_other_processes_has_the_declared_partitions() {
        let progress = Progress::default();
        let mut started = pin!(progress.started("view"));
        assert_eq!(started.as_mut().now_or_never(), None);
        progress.declare("view", [("journal.a", 0), ("journal.a", 1)]);
        assert_eq!(started.as_mut().now_or_never(), Some(()));
        progress.set("view", "journal.a", 1, 7);
        let partitions = [0, 1].map(|partition| ("journal.a".to_owned(), partition));
        assert_eq!(progress.partitions("view"), BTreeSet::from(partitions));
        assert_eq!(progress.of_reader("view").len(), 1);
    }

    #[test]
    fn a_reader_has_started_once_it_has_reported_its_partitions() {
        let progress = Progress::default();
        let mut started = pin!(progress.started("view"));
        progress.set("another", "journal.a", 0, 0);
        progress.set("viewer", "journal.a", 0, 0);
        assert_eq!(started.as_mut().now_or_never(), None);
        let zeros = [("journal.a", 0, 0), ("journal.b", 0, 3)];
        progress.publish("view", zeros, []);
        assert_eq!(started.as_mut().now_or_never(), Some(()));
        let own: Vec<_> = progress.of_reader("view").into_iter().collect();
        let expected = [("journal.a", 0), ("journal.b", 3)];
        let expected = expected.map(|(topic, next)| ((topic.to_owned(), 0), next));
        assert_eq!(own, expected);
    }
}
