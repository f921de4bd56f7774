//! The window: the entries that the shared reader has read and some subscriber has not taken yet.

use crate::{batch::Batch, chain::Hash, reader::ReadError};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// The bounds of a shared reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// With this many commits the window is full; a batch without a valid commit counts as one. It may
    /// exceed this by one batch.
    pub commits: usize,
    /// With commits of this many bytes in the log the window is full. It may exceed this by one batch.
    pub bytes: usize,
    /// Maximum distance in offsets, summed over all partitions, between a subscriber and the shared reader that it
    /// joins, and between the log's end and a subscriber that starts the shared reader.
    pub join_distance: i64,
}

impl Default for Limits {
    /// Some ten contexts in a process hold some hundred megabytes if every window is full.
    fn default() -> Self {
        Self {
            commits: 8_192,
            bytes: 4 << 20,
            join_distance: 4_096,
        }
    }
}

/// One step of the shared reader.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are batches")]
pub(super) enum Entry<E> {
    Batch {
        batch: Batch<E>,
        /// The shared reader's position in the partition before this batch.
        from: i64,
        /// The chain's hash at that offset.
        before: Hash,
    },
    /// A partition is not read further.
    Halted {
        partition: i32,
        error: Arc<ReadError>,
    },
}

/// Entries with consecutive numbers, and for each subscriber the number of the next one that it takes.
#[derive(Debug)]
pub(super) struct Window<E> {
    limits: Limits,
    entries: VecDeque<Entry<E>>,
    /// The number of the oldest entry.
    first: u64,
    /// By the subscriber's id.
    cursors: BTreeMap<u64, u64>,
    commits: usize,
    bytes: usize,
}

/// Entries that left the window, to be freed when its lock is free.
pub(super) type Dropped<E> = Vec<Entry<E>>;

impl<E> Entry<E> {
    fn commits(&self) -> usize {
        match self {
            Self::Batch { batch, .. } => batch.commits.len().max(1),
            Self::Halted { .. } => 1,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Batch { batch, .. } => batch.bytes,
            Self::Halted { .. } => 0,
        }
    }
}

impl<E> Window<E> {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: VecDeque::new(),
            first: 0,
            cursors: BTreeMap::new(),
            commits: 0,
            bytes: 0,
        }
    }

    /// The number of the oldest entry.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The number that the next entry will get.
    pub fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub fn commits(&self) -> usize {
        self.commits
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn subscribers(&self) -> usize {
        self.cursors.len()
    }

    pub fn is_full(&self) -> bool {
        self.commits >= self.limits.commits || self.bytes >= self.limits.bytes
    }

    /// Whether some subscriber has taken all entries.
    pub fn is_awaited(&self) -> bool {
        self.cursors.values().any(|next| *next == self.end())
    }

    /// Whether no entry from this number on was dropped.
    pub fn holds(&self, number: u64) -> bool {
        number >= self.first
    }

    /// The entry of this number; `None` if it was dropped or is not read yet.
    pub fn get(&self, number: u64) -> Option<&Entry<E>> {
        let index = number.checked_sub(self.first)?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// Adds an entry. With `drops_oldest`, drops the oldest entries until there is room for it.
    pub fn push(&mut self, entry: Entry<E>, drops_oldest: bool) -> Dropped<E> {
        let mut dropped = Vec::new();
        while drops_oldest && self.is_full() {
            dropped.extend(self.pop());
        }
        let first = self.first;
        self.cursors.retain(|_, next| *next >= first);
        self.commits += entry.commits();
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        dropped
    }

    /// Sets the number of the entry that a subscriber takes next.
    pub fn move_cursor(&mut self, subscriber: u64, next: u64) -> Dropped<E> {
        self.cursors.insert(subscriber, next);
        self.drop_taken()
    }

    /// Removes a subscriber.
    pub fn remove_cursor(&mut self, subscriber: u64) -> Dropped<E> {
        self.cursors.remove(&subscriber);
        self.drop_taken()
    }

    /// Drops the entries that every subscriber has taken.
    fn drop_taken(&mut self) -> Dropped<E> {
        let needed = self.cursors.values().min().copied().unwrap_or(self.end());
        let mut dropped = Vec::new();
        while self.first < needed {
            match self.pop() {
                Some(entry) => dropped.push(entry),
                None => break,
            }
        }
        dropped
    }

    fn pop(&mut self) -> Option<Entry<E>> {
        let entry = self.entries.pop_front()?;
        self.first += 1;
        self.commits -= entry.commits();
        self.bytes -= entry.bytes();
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;

    fn entry(bytes: usize) -> Entry<()> {
        Entry::Batch {
            batch: Batch {
                partition: 0,
                from: 0,
                commits: Vec::new().into(),
                bytes,
                void: 0,
                checkpoint: Checkpoint::start("journal.probe", 0),
            },
            from: 0,
            before: [0; 32],
        }
    }

    fn window(commits: usize, bytes: usize) -> Window<()> {
        Window::new(Limits {
            commits,
            bytes,
            join_distance: 0,
        })
    }

    #[test]
    fn entries_that_every_subscriber_has_taken_are_dropped() {
        let mut window = window(100, 1_000);
        window.move_cursor(1, 0);
        window.move_cursor(2, 0);
        for _ in 0..3 {
            window.push(entry(10), true);
        }
        assert_eq!(window.move_cursor(1, 3).len(), 0);
        assert!(window.is_awaited());
        assert_eq!(window.move_cursor(2, 2).len(), 2);
        assert_eq!((window.first(), window.end()), (2, 3));
        assert_eq!((window.commits(), window.bytes()), (1, 10));
        // The last subscriber that needs it leaves.
        assert_eq!(window.remove_cursor(2).len(), 1);
        assert_eq!((window.commits(), window.bytes()), (0, 0));
    }

    #[test]
    fn a_full_window_drops_the_oldest_entry_and_the_subscriber_that_needs_it() {
        for mut window in [window(3, 1_000), window(100, 30)] {
            window.move_cursor(1, 0);
            window.move_cursor(2, 0);
            for _ in 0..3 {
                assert!(!window.is_full());
                window.push(entry(10), true);
            }
            assert!(window.is_full());
            window.move_cursor(2, 3);
            assert_eq!(window.push(entry(10), true).len(), 1);
            assert!(!window.holds(0));
            assert_eq!(window.subscribers(), 1);
            assert_eq!((window.commits(), window.bytes()), (3, 30));
        }
    }

    #[test]
    fn an_entry_above_the_bound_is_held_alone() {
        let mut window = window(100, 30);
        window.move_cursor(1, 0);
        window.push(entry(10), true);
        window.push(entry(50), true);
        assert_eq!(window.push(entry(70), true).len(), 2);
        assert_eq!((window.commits(), window.bytes()), (1, 70));
        let held = [1, 2].map(|number| window.get(number).is_some());
        assert_eq!(held, [false, true]);
    }
}
