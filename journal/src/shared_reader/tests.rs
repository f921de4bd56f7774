//! Subscriptions over a log in memory. `journal-simulator` runs them with delays, crashes and mutations.

mod partitions;

use super::{
    Limits, SharedReader, Subscription, Update,
    follower::{BACKOFF_RESET_AFTER, Step},
};
use crate::{
    batch::Batch, checkpoint::Checkpoint, memory_log::MemoryLog, probe::Event, reader::ReadError,
};
use schemas::ContextEvent;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};

const PARTITIONS: i32 = 3;
const LIMITS: Limits = Limits {
    commits: 20,
    bytes: 100_000,
    join_distance: 10,
};
/// Far longer than any wait takes, on the paused clock.
const TIMEOUT: Duration = Duration::from_secs(60);

type Shared = SharedReader<Event, MemoryLog>;
type Subscribed = Subscription<Event, MemoryLog>;

fn log() -> MemoryLog {
    let log = MemoryLog::new(PARTITIONS);
    for partition in 0..PARTITIONS {
        log.announce(partition);
    }
    log
}

fn shared(log: &MemoryLog) -> Shared {
    SharedReader::with_limits(log.clone(), LIMITS)
}

fn starts() -> Vec<Checkpoint> {
    (0..PARTITIONS)
        .map(|partition| Checkpoint::start(Event::CONTEXT.topic, partition))
        .collect()
}

/// Two subscribers that the shared reader feeds.
async fn joined_pair(shared: &Shared, log: &MemoryLog) -> [Reader; 2] {
    let mut readers = [Reader::new(shared, starts()), Reader::new(shared, starts())];
    for reader in &mut readers {
        reader.reaches_the_end_of(log).await;
        reader.joins().await;
    }
    readers
}

/// A subscriber that keeps its updates.
struct Reader {
    subscription: Subscribed,
    checkpoints: BTreeMap<i32, Checkpoint>,
    offsets: BTreeMap<i32, Vec<i64>>,
    halted: BTreeMap<i32, String>,
    recovered: usize,
}

impl Reader {
    fn new(shared: &Shared, starts: Vec<Checkpoint>) -> Self {
        let by_partition = |start: &Checkpoint| (start.partition, start.clone());
        Self {
            checkpoints: starts.iter().map(by_partition).collect(),
            subscription: shared.subscribe("test", starts),
            offsets: BTreeMap::new(),
            halted: BTreeMap::new(),
            recovered: 0,
        }
    }

    /// Waits for one update.
    async fn update(&mut self) {
        let update = timeout(TIMEOUT, self.subscription.next()).await;
        self.take(update.expect("an update comes in time").unwrap());
    }

    fn take(&mut self, update: Update<Event>) {
        match update {
            Update::Batch(batch) => self.apply(&batch),
            Update::Halted {
                partition, error, ..
            } => {
                let known = self.halted.insert(partition, error.to_string());
                assert_eq!(known, None, "a halt is reported once");
            }
            Update::Failing(error) => panic!("{error}"),
            Update::Recovered => self.recovered += 1,
        }
    }

    fn apply(&mut self, batch: &Batch<Event>) {
        let checkpoint = self.checkpoints.get_mut(&batch.partition).unwrap();
        assert_eq!(checkpoint.next_offset, batch.from, "batches join");
        *checkpoint = batch.checkpoint.clone();
        let offsets = self.offsets.entry(batch.partition).or_default();
        offsets.extend(batch.commits.iter().map(|valid| valid.offset));
    }

    fn has_all_of(&self, log: &MemoryLog) -> bool {
        self.checkpoints
            .iter()
            .all(|(partition, checkpoint)| checkpoint.next_offset >= log.end_of(*partition))
    }

    async fn reaches_the_end_of(&mut self, log: &MemoryLog) {
        while !self.has_all_of(log) {
            self.update().await;
        }
        for partition in 0..PARTITIONS {
            let offsets = self.offsets.get(&partition).cloned().unwrap_or_default();
            assert_eq!(offsets, log.valid(partition), "partition {partition}");
        }
    }

    /// Takes updates until none comes any more.
    async fn takes_all(&mut self) {
        while let Ok(update) = timeout(TIMEOUT, self.subscription.next()).await {
            self.take(update.unwrap());
        }
    }

    /// Checks that it has everything but partition 1, of which it has only these offsets.
    fn has_all_but_partition_1(&self, log: &MemoryLog, offsets: Option<&Vec<i64>>) {
        for partition in [0, 2] {
            let read = self.offsets.get(&partition);
            assert_eq!(read, Some(&log.valid(partition)), "partition {partition}");
        }
        assert_eq!(self.offsets.get(&1), offsets);
    }

    /// Waits until the shared reader feeds it. No update reports that.
    async fn joins(&mut self) {
        while !self.subscription.is_fed_by_shared_reader() {
            if let Ok(update) = timeout(TIMEOUT, self.subscription.next()).await {
                self.take(update.unwrap());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_stream_feeds_all_subscribers_at_the_end_of_the_log() {
    let log = log();
    log.note(0, "before");
    let shared = shared(&log);
    let mut readers: Vec<Reader> = (0..4).map(|_| Reader::new(&shared, starts())).collect();
    for reader in &mut readers {
        reader.reaches_the_end_of(&log).await;
        reader.joins().await;
    }
    assert_eq!(log.open_streams(), 1);
    for round in 0..10 {
        log.note(round % PARTITIONS, "after");
        log.append_void(1);
        for reader in &mut readers {
            reader.reaches_the_end_of(&log).await;
        }
    }
    let status = shared.status();
    assert_eq!((status.subscribers, status.joined), (4, 4));
    assert_eq!((status.lagged, status.unconnected), (0, 0));
    assert_eq!((status.commits, status.bytes), (0, 0), "all is taken");
    assert_eq!(log.open_streams(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_joins_despite_many_void_records_at_the_end() {
    let log = log();
    for _ in 0..2 * LIMITS.join_distance {
        log.append_void(0);
    }
    let shared = shared(&log);
    let mut reader = Reader::new(&shared, starts());
    reader.reaches_the_end_of(&log).await;
    reader.joins().await;
    log.note(0, "behind the void records");
    reader.reaches_the_end_of(&log).await;
    assert_eq!(shared.status().unconnected, 0);
    assert_eq!(log.open_streams(), 1);
}

#[tokio::test(start_paused = true)]
async fn subscribers_get_the_same_commits_in_memory() {
    let log = log();
    let shared = shared(&log);
    let mut readers = joined_pair(&shared, &log).await;
    log.note(2, "decoded once");
    let mut commits = Vec::new();
    for reader in &mut readers {
        match reader.subscription.next().await.unwrap() {
            Update::Batch(batch) => commits.push(batch.commits),
            other => panic!("{other:?} instead of a batch"),
        }
    }
    assert!(std::ptr::eq(
        &raw const commits[0][0],
        &raw const commits[1][0]
    ));
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_lags_falls_back_and_joins_again_without_a_gap() {
    let log = log();
    let shared = shared(&log);
    let (mut quick, mut slow) = (
        Reader::new(&shared, starts()),
        Reader::new(&shared, starts()),
    );
    for reader in [&mut quick, &mut slow] {
        reader.reaches_the_end_of(&log).await;
        reader.joins().await;
    }
    for number in 0..200 {
        log.note(number % PARTITIONS, "more than the window holds");
        quick.reaches_the_end_of(&log).await;
        let status = shared.status();
        assert!(
            status.commits <= LIMITS.commits,
            "more than {} commits: {status:?}",
            LIMITS.commits
        );
    }
    assert_eq!(shared.status().lagged, 0, "it does not know yet");
    slow.reaches_the_end_of(&log).await;
    slow.joins().await;
    let status = shared.status();
    assert_eq!((status.lagged, status.joined), (1, 3));
    assert_eq!((status.subscribers, log.open_streams()), (2, 1));
    log.note(1, "to both");
    quick.reaches_the_end_of(&log).await;
    slow.reaches_the_end_of(&log).await;
}

#[tokio::test(start_paused = true)]
async fn the_shared_reader_waits_for_an_only_subscriber() {
    let log = log();
    let shared = shared(&log);
    let mut reader = Reader::new(&shared, starts());
    reader.reaches_the_end_of(&log).await;
    reader.joins().await;
    for number in 0..200 {
        log.note(number % PARTITIONS, "more than the window holds");
        // Lets the task run.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let status = shared.status();
        let bound = LIMITS.commits + 1;
        assert!(
            status.commits <= bound,
            "more than {bound} commits: {status:?}"
        );
    }
    reader.reaches_the_end_of(&log).await;
    assert_eq!(shared.status().lagged, 0);
    assert_eq!(log.open_streams(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_of_another_log_is_refused_although_the_shared_reader_runs() {
    let (log, other) = (log(), log());
    log.note(0, "ours");
    other.note(0, "another");
    let mut of_other = Reader::new(&shared(&other), starts());
    of_other.reaches_the_end_of(&other).await;
    let shared = shared(&log);
    let mut reader = Reader::new(&shared, starts());
    reader.reaches_the_end_of(&log).await;
    reader.joins().await;
    let foreign = of_other.checkpoints.into_values().collect();
    let refused = shared.subscribe("foreign", foreign).next().await;
    assert!(
        matches!(refused, Err(ReadError::Probe(_))),
        "{refused:?} instead of Err(ReadError::Probe)"
    );
    log.note(1, "the others go on");
    reader.reaches_the_end_of(&log).await;
}

#[tokio::test(start_paused = true)]
async fn a_halt_reaches_every_subscriber_with_the_same_reason() {
    let log = log();
    let shared = shared(&log);
    let readers = joined_pair(&shared, &log).await;
    log.note(1, "before the alarm");
    log.append_alarm(1);
    // A subscriber that comes later reads with its own reader first.
    let late = Reader::new(&shared, starts());
    let mut readers: Vec<Reader> = readers.into_iter().chain([late]).collect();
    for reader in &mut readers {
        while reader.halted.is_empty() {
            reader.update().await;
        }
        assert_eq!(reader.offsets.get(&1), Some(&log.valid(1)));
    }
    let reasons: Vec<&String> = readers.iter().map(|reader| &reader.halted[&1]).collect();
    assert!(
        reasons.iter().all(|reason| *reason == reasons[0]),
        "the reasons differ: {reasons:?}"
    );
    assert!(
        reasons[0].contains("journal.probe/1"),
        "no \"journal.probe/1\" in: {reasons:?}"
    );
    log.note(1, "behind the alarm");
    log.note(2, "in another partition");
    for reader in &mut readers {
        while reader.offsets.get(&2) != Some(&log.valid(2)) {
            reader.update().await;
        }
        let (read, all) = (reader.offsets[&1].len(), log.valid(1).len());
        assert!(
            read < all,
            "{read} records were read, instead of less than {all}"
        );
        reader.joins().await;
    }
    assert_eq!(log.open_streams(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_paused_from_the_start_is_not_read() {
    let log = log();
    log.note(1, "in the paused partition");
    let mut reader = Reader::new(&shared(&log), starts());
    reader.subscription.pause(1);
    reader.takes_all().await;
    reader.has_all_but_partition_1(&log, None);
}

#[tokio::test(start_paused = true)]
async fn the_other_partitions_continue_after_one_is_paused() {
    let log = log();
    log.note(2, "before the pause");
    let mut reader = Reader::new(&shared(&log), starts());
    while reader.offsets.is_empty() {
        reader.update().await;
    }
    reader.subscription.pause(1);
    let before = reader.offsets.get(&1).cloned();
    log.note(1, "in the paused partition");
    log.note(2, "in another partition");
    reader.takes_all().await;
    reader.has_all_but_partition_1(&log, before.as_ref());
}

#[tokio::test(start_paused = true)]
async fn a_pause_concerns_only_its_subscriber() {
    let log = log();
    let shared = shared(&log);
    let [mut paused, mut other] = joined_pair(&shared, &log).await;
    paused.subscription.pause(1);
    let before = paused.offsets.get(&1).cloned();
    log.note(1, "in the paused partition");
    log.note(2, "in another partition");
    paused.takes_all().await;
    other.reaches_the_end_of(&log).await;
    paused.has_all_but_partition_1(&log, before.as_ref());
    assert_eq!(shared.status().subscribers, 2);
    assert_eq!(log.open_streams(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_with_a_paused_partition_starts_no_shared_reader() {
    let log = log();
    let shared = shared(&log);
    let mut reader = Reader::new(&shared, starts());
    reader.subscription.pause(1);
    reader.takes_all().await;
    let status = shared.status();
    assert!(!status.is_running, "it runs: {status:?}");
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_with_a_paused_partition_joins_the_shared_reader() {
    let log = log();
    let shared = shared(&log);
    let mut other = Reader::new(&shared, starts());
    other.reaches_the_end_of(&log).await;
    other.joins().await;
    let mut reader = Reader::new(&shared, starts());
    reader.subscription.pause(1);
    reader.takes_all().await;
    assert_eq!(shared.status().subscribers, 2);
    assert_eq!(log.open_streams(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_shared_reader_ends_with_its_last_subscription_and_starts_again() {
    let log = log();
    let shared = shared(&log);
    for _ in 0..2 {
        let mut reader = Reader::new(&shared, starts());
        reader.reaches_the_end_of(&log).await;
        reader.joins().await;
        let status = shared.status();
        assert!(status.is_running, "not running: {status:?}");
        drop(reader);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let status = shared.status();
        assert!(!status.is_running, "still running: {status:?}");
        assert_eq!(log.open_streams(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_without_new_records_learns_that_the_log_can_be_read() {
    for has_record_at_the_end in [true, false] {
        let log = log();
        if !has_record_at_the_end {
            log.skip_offset(0);
        }
        let shared = shared(&log);
        let mut first = Reader::new(&shared, starts());
        first.reaches_the_end_of_records(&log).await;
        let checkpoints: Vec<_> = first.checkpoints.values().cloned().collect();
        for _ in 0..2 {
            let begun = Instant::now();
            let mut again = Reader::new(&shared, checkpoints.clone());
            again.update().await;
            assert_eq!((again.recovered, again.offsets.len()), (1, 0));
            // The clock is paused. The broker reports its end with or without a record there.
            let waited = begun.elapsed();
            assert!(
                waited < BACKOFF_RESET_AFTER,
                "{has_record_at_the_end}: {waited:?} instead of less than {BACKOFF_RESET_AFTER:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_outage_is_reported_behind_an_entry_that_the_subscriber_already_has() {
    let log = log();
    let shared = shared(&log);
    let [mut reader, _] = joined_pair(&shared, &log).await;
    let unreadable = Arc::new(ReadError::Unreadable {
        topic: Event::CONTEXT.topic.into(),
        partition: 1,
        offset: 1,
        reason: "an unknown type".into(),
    });
    publish(&shared, Step::Halted(1, unreadable.clone()));
    reader.update().await;
    let halted = &reader.halted;
    assert!(
        halted.contains_key(&1),
        "partition 1 is not halted: {halted:?}"
    );
    publish(&shared, Step::Failing(unreadable.clone()));
    let failing = timeout(TIMEOUT, reader.subscription.next()).await;
    assert!(
        matches!(failing, Ok(Ok(Update::Failing(_)))),
        "{failing:?} instead of Ok(Ok(Update::Failing))"
    );
    let recovered = reader.recovered;
    publish(&shared, Step::Halted(1, unreadable));
    publish(&shared, Step::Recovered);
    reader.update().await;
    assert_eq!(reader.recovered, recovered + 1);
}

/// Passes a step of the task that runs to its subscribers.
fn publish(shared: &Shared, step: Step<Event>) {
    let running = shared
        .inner
        .state()
        .running
        .as_ref()
        .map(|one| one.generation);
    shared.inner.publish(running.expect("it runs"), step);
}

impl Reader {
    /// Like [`Reader::reaches_the_end_of`], where the last offsets have no record.
    async fn reaches_the_end_of_records(&mut self, log: &MemoryLog) {
        let has_all = |reader: &Self| {
            (0..PARTITIONS).all(|partition| {
                let offsets = reader.offsets.get(&partition);
                offsets.map_or(0, Vec::len) == log.valid(partition).len()
            })
        };
        while !has_all(self) {
            self.update().await;
        }
    }
}
