//! Subscribers that read different partitions of one journal.

use super::{PARTITIONS, Reader, Shared, log, shared, starts};
use crate::{checkpoint::Checkpoint, memory_log::MemoryLog};

/// Checkpoints at the start of these partitions.
fn starts_of(partitions: &[i32]) -> Vec<Checkpoint> {
    let is_read = |start: &Checkpoint| partitions.contains(&start.partition);
    starts().into_iter().filter(is_read).collect()
}

impl Reader {
    /// A subscriber that has these partitions and is fed by the shared reader.
    async fn joined(shared: &Shared, log: &MemoryLog, partitions: &[i32]) -> Self {
        let mut reader = Self::new(shared, starts_of(partitions));
        reader.reads_and_joins(log).await;
        reader
    }

    /// Waits until it has the whole log in its partitions, and is fed by the shared reader.
    async fn reads_and_joins(&mut self, log: &MemoryLog) {
        while !self.has_all_of(log) {
            self.update().await;
        }
        for partition in self.checkpoints.keys() {
            let offsets = self.offsets.get(partition).cloned().unwrap_or_default();
            assert_eq!(offsets, log.valid(*partition), "partition {partition}");
        }
        self.joins().await;
    }
}

/// Appends a commit to each partition; each subscriber gets those of its own partitions from one stream.
async fn one_stream_feeds(log: &MemoryLog, readers: &mut [Reader]) {
    for partition in 0..PARTITIONS {
        log.note(partition, "to all of its readers");
    }
    for reader in readers {
        reader.reads_and_joins(log).await;
        for (partition, offsets) in &reader.offsets {
            let is_own = reader.checkpoints.contains_key(partition);
            assert!(is_own, "{offsets:?} of partition {partition} were read");
        }
    }
    assert_eq!(log.open_streams(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_joins_a_shared_reader_of_more_partitions() {
    let log = log();
    let shared = shared(&log);
    let mut readers = [
        Reader::joined(&shared, &log, &[0, 1, 2]).await,
        Reader::joined(&shared, &log, &[1]).await,
    ];
    one_stream_feeds(&log, &mut readers).await;
    let status = shared.status();
    assert_eq!((status.subscribers, status.joined), (2, 2));
    assert_eq!((status.replaced, status.unconnected), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_of_more_partitions_replaces_the_shared_reader() {
    let log = log();
    let shared = shared(&log);
    let mut readers = [
        Reader::joined(&shared, &log, &[1]).await,
        Reader::joined(&shared, &log, &[1]).await,
        Reader::joined(&shared, &log, &[0, 1, 2]).await,
    ];
    one_stream_feeds(&log, &mut readers).await;
    let status = shared.status();
    assert_eq!((status.subscribers, status.replaced), (3, 1));
    assert_eq!(status.unconnected, 0);
}

/// After a change of the assignment, no stream may read partitions that other processes have now.
#[tokio::test(start_paused = true)]
async fn a_partition_that_no_subscriber_reads_any_more_is_not_read() {
    let log = log();
    let shared = shared(&log);
    let before = [
        Reader::joined(&shared, &log, &[0, 1, 2]).await,
        Reader::joined(&shared, &log, &[0, 1, 2]).await,
    ];
    let mut after = Vec::new();
    for reader in before {
        drop(reader);
        after.push(Reader::joined(&shared, &log, &[0, 1]).await);
    }
    one_stream_feeds(&log, &mut after).await;
    let state = shared.inner.state();
    let read: Vec<i32> = state
        .running
        .iter()
        .flat_map(|one| one.heads.keys().copied())
        .collect();
    assert_eq!(read, [0, 1]);
}

/// Neither can be replaced by the other.
#[tokio::test(start_paused = true)]
async fn subscribers_of_different_partitions_read_all_of_them() {
    let log = log();
    let shared = shared(&log);
    let mut first = Reader::joined(&shared, &log, &[0, 1]).await;
    let mut second = Reader::new(&shared, starts_of(&[1, 2]));
    for round in 0..3 {
        log.note(round % PARTITIONS, "after the first has joined");
        for reader in [&mut first, &mut second] {
            while !reader.has_all_of(&log) {
                reader.update().await;
            }
        }
    }
    assert!(
        first.subscription.is_fed_by_shared_reader(),
        "it was replaced"
    );
    assert!(
        !second.subscription.is_fed_by_shared_reader(),
        "it lacks partition 2"
    );
    assert_eq!(log.open_streams(), 2);
}
