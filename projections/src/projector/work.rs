//! The waiting work of a build's partitions: batches, and operators' requests for parked aggregates.
//!
//! A partition that waits for an operator keeps one batch, which it attempts to apply from time to time. Its later
//! batches are dropped, so that they do not use up the build's places for waiting batches, and are read again once the
//! partition continues. Between the attempts, operators' requests for its parked aggregates are done.

use crate::{
    applier::{Applied, Applier, HeldBatch},
    parking::ParkedKey,
    store::Store,
    view::ViewEvent,
};
use journal::Batch;
use std::collections::{BTreeMap, VecDeque};
use tokio::time::Instant;

/// Maximum number of operators' requests that wait for a build.
pub const REQUESTS_MAX: usize = 100;

/// A partition: its topic and number.
type PartitionName = (String, i32);

/// The work of all partitions.
pub(super) struct Work<S: Store> {
    queues: BTreeMap<PartitionName, Queue<S>>,
}

/// The work of one partition.
struct Queue<S: Store> {
    /// `None` while a worker uses it.
    applier: Option<Applier<S>>,
    batches: VecDeque<Batch<S::Event>>,
    requests: VecDeque<ParkedKey>,
    /// The batch that waits for an operator, between two attempts.
    held: Option<Box<HeldBatch<S::Event>>>,
    /// Whether the last attempt to apply a batch has shown that the partition waits for an operator.
    is_held: bool,
    /// Whether batches were dropped, so that they must be read again.
    has_gap: bool,
}

/// Work for one worker.
pub(super) enum Job<S: Store> {
    /// Apply a batch.
    Apply(Applier<S>, Box<Batch<S::Event>>),
    /// Make another attempt to apply a batch.
    Resume(Applier<S>, Box<HeldBatch<S::Event>>),
    /// Apply the waiting commits of a parked aggregate.
    Release(Applier<S>, ParkedKey),
}

/// The result of a worker.
pub(super) enum Finished<E: ViewEvent> {
    /// It has applied a batch, or a part of it.
    Batch(Applied<E>),
    /// It has attempted an operator's request.
    Request,
}

impl<S: Store> Work<S> {
    /// No work yet for these partitions.
    pub fn new(appliers: impl IntoIterator<Item = (PartitionName, Applier<S>)>) -> Self {
        let queue = |applier| Queue {
            applier: Some(applier),
            batches: VecDeque::new(),
            requests: VecDeque::new(),
            held: None,
            is_held: false,
            has_gap: false,
        };
        let appliers = appliers.into_iter();
        Self {
            queues: appliers
                .map(|(partition, applier)| (partition, queue(applier)))
                .collect(),
        }
    }

    /// Adds the next batch of a partition. Drops it if the partition waits for an operator.
    pub fn add(&mut self, batch: Batch<S::Event>) {
        let partition = (batch.checkpoint.topic.clone(), batch.partition);
        let queue = self.queues.get_mut(&partition);
        let queue =
            queue.expect("a reader returns batches of the partitions that it was opened with");
        if queue.is_held {
            queue.has_gap = true;
        } else {
            queue.batches.push_back(batch);
        }
    }

    /// Adds an operator's request, unless too many wait.
    pub fn request(&mut self, key: ParkedKey) {
        let partition = (key.topic.clone(), key.partition);
        if let Some(queue) = self.queues.get_mut(&partition)
            && !queue.requests.contains(&key)
            && queue.requests.len() < REQUESTS_MAX
        {
            queue.requests.push_back(key);
        }
    }

    /// Takes the work that can be done now: at most one job for each partition without a worker.
    pub fn due(&mut self) -> Vec<Job<S>> {
        let now = Instant::now();
        let queues = self.queues.values_mut();
        queues.filter_map(|queue| queue.due(now)).collect()
    }

    /// The time of the next attempt of a partition that waits for an operator and has no worker.
    pub fn next_retry(&self) -> Option<Instant> {
        let idle = self.queues.values().filter(|queue| queue.applier.is_some());
        let retries = idle.filter_map(|queue| queue.held.as_ref().map(|held| held.retry_at));
        retries.min()
    }

    /// Takes back the applier of a worker that has finished. Returns whether the build must be read again, because
    /// batches of its partition were dropped and the partition continues.
    #[must_use]
    pub fn finished(&mut self, applier: Applier<S>, finished: Finished<S::Event>) -> bool {
        let Some(queue) = self.queues.get_mut(&applier.partition()) else {
            return false;
        };
        queue.applier = Some(applier);
        match finished {
            Finished::Request => {}
            Finished::Batch(Applied::All) => queue.is_held = false,
            Finished::Batch(Applied::Held(batch)) => {
                queue.is_held = true;
                queue.held = Some(batch);
                queue.has_gap |= !queue.batches.is_empty();
                queue.batches.clear();
            }
        }
        queue.has_gap && !queue.is_held
    }

    /// Number of waiting batches, without those that wait for an operator.
    pub fn waiting(&self) -> usize {
        self.queues.values().map(|queue| queue.batches.len()).sum()
    }
}

impl<S: Store> Queue<S> {
    fn due(&mut self, now: Instant) -> Option<Job<S>> {
        let applier = self.applier.take()?;
        if let Some(key) = self.requests.pop_front() {
            return Some(Job::Release(applier, key));
        }
        if let Some(held) = self.held.take_if(|held| held.retry_at <= now) {
            return Some(Job::Resume(applier, held));
        }
        // While a batch is held, no batch waits behind it.
        match self.batches.pop_front() {
            Some(batch) => Some(Job::Apply(applier, Box::new(batch))),
            None => {
                self.applier = Some(applier);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        applier::tests::{FakeStore, TOPIC, applier_of, decisions},
        parking::{PARKED_KEYS_MAX, ParkedKeys},
    };
    use journal::Checkpoint;
    use schemas::catalog::Event;
    use std::{sync::Arc, time::Duration};

    /// Longer than any wait between two attempts.
    const LATER: Duration = Duration::from_secs(600);

    /// A batch of a partition with one event for each key.
    fn batch(partition: i32, from: i64, keys: &[&str]) -> Batch<Event> {
        let batch = decisions(from, keys);
        let checkpoint = Checkpoint {
            partition,
            ..batch.checkpoint.clone()
        };
        Batch {
            partition,
            checkpoint,
            ..batch
        }
    }

    /// Two partitions. Partition 0 has as many parked aggregates as it may have, and the view refuses the events of
    /// `B`.
    fn work() -> (Work<FakeStore>, Arc<FakeStore>) {
        let store = FakeStore::without_fold("B");
        let parked = ParkedKeys::new((0..PARKED_KEYS_MAX).map(|number| number.to_string()));
        let appliers = [
            applier_of(&store, 0, parked),
            applier_of(&store, 1, ParkedKeys::default()),
        ];
        let work = Work::new(appliers.map(|applier| (applier.partition(), applier)));
        (work, store)
    }

    /// Does the work that is due. Returns whether the build must be read again.
    async fn run(work: &mut Work<FakeStore>) -> bool {
        let mut must_read_again = false;
        for job in work.due() {
            let (applier, applied) = match job {
                Job::Apply(mut applier, batch) => {
                    let applied = applier.apply(*batch).await;
                    (applier, applied)
                }
                Job::Resume(mut applier, batch) => {
                    let applied = applier.resume(batch).await;
                    (applier, applied)
                }
                Job::Release(_, key) => panic!("no request is expected: {key:?}"),
            };
            must_read_again |= work.finished(applier, Finished::Batch(applied.unwrap()));
        }
        must_read_again
    }

    fn applied(store: &FakeStore) -> Vec<(String, i64)> {
        store.events.lock().unwrap().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_that_waits_for_an_operator_does_not_stop_the_others() {
        let (mut work, store) = work();
        work.add(batch(0, 0, &["B"]));
        work.add(batch(0, 1, &["A"]));
        assert!(!run(&mut work).await);
        for from in 2..20 {
            work.add(batch(0, from, &["A"]));
        }
        assert_eq!(work.waiting(), 0);
        work.add(batch(1, 0, &["C"]));
        assert_eq!(work.waiting(), 1);
        assert!(!run(&mut work).await);
        assert_eq!(applied(&store), [("C".to_owned(), 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_batches_are_read_again_once_the_partition_continues() {
        let (mut work, store) = work();
        work.add(batch(0, 0, &["B"]));
        assert!(!run(&mut work).await);
        work.add(batch(0, 1, &["A"]));
        tokio::time::advance(LATER).await;
        assert!(!run(&mut work).await, "it still waits for an operator");
        *store.unfolded.lock().unwrap() = None;
        tokio::time::advance(LATER).await;
        assert!(run(&mut work).await);
        assert_eq!(applied(&store), [("B".to_owned(), 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_that_dropped_no_batch_continues_without_a_second_read() {
        let (mut work, store) = work();
        work.add(batch(0, 0, &["B"]));
        assert!(!run(&mut work).await);
        *store.unfolded.lock().unwrap() = None;
        tokio::time::advance(LATER).await;
        assert!(!run(&mut work).await);
        work.add(batch(0, 1, &["A"]));
        assert!(!run(&mut work).await);
        let expected = [("B".to_owned(), 0), ("A".to_owned(), 1)];
        assert_eq!(applied(&store), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_partition_is_attempted_again_at_its_time_only() {
        let (mut work, _) = work();
        assert_eq!(work.next_retry(), None);
        work.add(batch(0, 0, &["B"]));
        assert!(!run(&mut work).await);
        let retry_at = work.next_retry().expect("an attempt is due later");
        assert!(work.due().is_empty());
        tokio::time::advance(retry_at - Instant::now()).await;
        let due = work.due();
        assert!(matches!(&due[..], [Job::Resume(..)]), "{} jobs", due.len());
        // Its worker has it now.
        assert_eq!(work.next_retry(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_operators_request_is_done_between_two_attempts() {
        let (mut work, _) = work();
        work.add(batch(0, 0, &["B"]));
        assert!(!run(&mut work).await);
        let key = ParkedKey {
            topic: TOPIC.to_owned(),
            partition: 0,
            key: "7".to_owned(),
        };
        work.request(key.clone());
        let due = work.due();
        assert!(
            matches!(&due[..], [Job::Release(_, found)] if *found == key),
            "{} jobs",
            due.len()
        );
    }
}
