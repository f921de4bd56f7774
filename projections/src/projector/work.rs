//! The waiting work of a build's partitions: batches, and operators' requests for parked aggregates.
//!
//! A partition that waits for an operator keeps one batch, which it attempts to apply from time to time. Its reader is
//! paused, and its later batches are dropped, so that they do not use up the build's places for waiting batches. They
//! are read again once the partition continues. Between the attempts, operators' requests for its parked aggregates are
//! done.

use super::holds::{Hold, Holds, PartitionName};
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
    /// `Some` if the last attempt to apply a batch has shown that the partition waits for an operator.
    hold: Option<Hold<S::Event>>,
    /// Whether the partition is not read, because its next batch is already in memory.
    is_paused: bool,
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

/// The next step of the build's reader after a worker has finished.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Read on.
    Continues,
    /// Read this partition no further: it waits for an operator.
    Pauses(PartitionName),
    /// Begin again at the stored checkpoints, because a paused partition continues.
    Restarts,
}

impl<S: Store> Work<S> {
    /// Starts with no work for these partitions, except the batches of `holds`. A hold stays in `holds` if its
    /// checkpoint differs from its applier's.
    pub fn new(
        appliers: impl IntoIterator<Item = Applier<S>>,
        holds: &mut Holds<S::Event>,
    ) -> Self {
        let queue = |applier: Applier<S>| {
            let (partition, hold) = (applier.partition(), holds.take(applier.checkpoint()));
            let queue = Queue {
                is_paused: hold.as_ref().is_some_and(|hold| hold.batch.is_some()),
                hold,
                batches: VecDeque::new(),
                requests: VecDeque::new(),
                applier: Some(applier),
            };
            (partition, queue)
        };
        Self {
            queues: appliers.into_iter().map(queue).collect(),
        }
    }

    /// The partitions that must not be read.
    pub fn paused(&self) -> impl Iterator<Item = &PartitionName> {
        let queues = self.queues.iter();
        queues.filter_map(|(partition, queue)| queue.is_paused.then_some(partition))
    }

    /// The partitions that wait for an operator, after the workers have ended.
    pub fn into_holds(self) -> Holds<S::Event> {
        let queues = self.queues.into_iter();
        Holds::new(queues.filter_map(|(partition, queue)| Some((partition, queue.hold?))))
    }

    /// Adds the next batch of a partition. Drops it if the partition is paused.
    pub fn add(&mut self, batch: Batch<S::Event>) {
        let partition = (batch.checkpoint.topic.clone(), batch.partition);
        let queue = self.queues.get_mut(&partition);
        let queue =
            queue.expect("a reader returns batches of the partitions that it was opened with");
        if !queue.is_paused {
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
        let batches = idle.filter_map(|queue| queue.hold.as_ref()?.batch.as_ref());
        batches.map(|batch| batch.retry_at).min()
    }

    /// Takes back the applier of a worker that has finished. Returns the reader's next step.
    #[must_use]
    pub fn finished(&mut self, applier: Applier<S>, finished: Finished<S::Event>) -> Reading {
        let Some(queue) = self.queues.get_mut(&applier.partition()) else {
            return Reading::Continues;
        };
        let reading = match finished {
            Finished::Request => Reading::Continues,
            Finished::Batch(Applied::All) => {
                queue.hold = None;
                match queue.is_paused {
                    true => Reading::Restarts,
                    false => Reading::Continues,
                }
            }
            Finished::Batch(Applied::Held(batch)) => {
                queue.hold = Some(Hold {
                    checkpoint: applier.checkpoint().clone(),
                    batch: Some(batch),
                });
                queue.batches.clear();
                match std::mem::replace(&mut queue.is_paused, true) {
                    true => Reading::Continues,
                    false => Reading::Pauses(applier.partition()),
                }
            }
        };
        queue.applier = Some(applier);
        reading
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
        let held = self.hold.as_mut().map(|hold| &mut hold.batch);
        if let Some(batch) = held.and_then(|held| held.take_if(|batch| batch.retry_at <= now)) {
            return Some(Job::Resume(applier, batch));
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
        status::{Cause, Status},
    };
    use journal::Checkpoint;
    use schemas::catalog::Event;
    use service::health::Health;
    use std::{collections::BTreeSet, sync::Arc, time::Duration};

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

    /// The appliers of two partitions. Partition 0 has as many parked aggregates as it may have.
    fn appliers(store: &Arc<FakeStore>) -> [Applier<FakeStore>; 2] {
        let parked = ParkedKeys::new((0..PARKED_KEYS_MAX).map(|number| number.to_string()));
        [
            applier_of(store, 0, parked),
            applier_of(store, 1, ParkedKeys::default()),
        ]
    }

    fn nothing_held() -> Holds<Event> {
        Holds::new([])
    }

    /// The work of these partitions. The view refuses the events of `B`.
    fn work() -> (Work<FakeStore>, Arc<FakeStore>) {
        let store = FakeStore::without_fold("B");
        let work = Work::new(appliers(&store), &mut nothing_held());
        (work, store)
    }

    /// The work after partition 0 has begun to wait for an operator.
    async fn held() -> (Work<FakeStore>, Arc<FakeStore>) {
        let (mut work, store) = work();
        work.add(batch(0, 0, &["B"]));
        assert_eq!(run(&mut work).await, [paused()]);
        (work, store)
    }

    fn partition() -> PartitionName {
        (TOPIC.to_owned(), 0)
    }

    fn paused() -> Reading {
        Reading::Pauses(partition())
    }

    /// Does the work that is due. Returns the reader's next step after each job.
    async fn run(work: &mut Work<FakeStore>) -> Vec<Reading> {
        let mut readings = Vec::new();
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
            readings.push(work.finished(applier, Finished::Batch(applied.unwrap())));
        }
        readings
    }

    fn applied(store: &FakeStore) -> Vec<(String, i64)> {
        store.events.lock().unwrap().clone()
    }

    fn paused_partitions(work: &Work<FakeStore>) -> Vec<PartitionName> {
        work.paused().cloned().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_that_waits_for_an_operator_does_not_stop_the_others() {
        let (mut work, store) = work();
        work.add(batch(0, 0, &["B"]));
        work.add(batch(0, 1, &["A"]));
        assert_eq!(run(&mut work).await, [paused()]);
        // A batch that was read before the pause is dropped as well.
        work.add(batch(0, 2, &["A"]));
        assert_eq!(work.waiting(), 0);
        work.add(batch(1, 0, &["C"]));
        assert_eq!(work.waiting(), 1);
        assert_eq!(run(&mut work).await, [Reading::Continues]);
        assert_eq!(applied(&store), [("C".to_owned(), 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_is_paused_once_and_read_again_when_it_continues() {
        let (mut work, store) = held().await;
        tokio::time::advance(LATER).await;
        assert_eq!(
            run(&mut work).await,
            [Reading::Continues],
            "it still waits for an operator"
        );
        *store.unfolded.lock().unwrap() = None;
        tokio::time::advance(LATER).await;
        assert_eq!(run(&mut work).await, [Reading::Restarts]);
        assert_eq!(applied(&store), [("B".to_owned(), 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_partition_is_attempted_again_at_its_time_only() {
        let (mut work, _) = held().await;
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
        let (mut work, _) = held().await;
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

    #[tokio::test(start_paused = true)]
    async fn a_waiting_partition_is_not_read_after_the_build_is_opened_again() {
        let (work, store) = held().await;
        let retry_at = work.next_retry();
        let again = Work::new(appliers(&store), &mut work.into_holds());
        assert_eq!(paused_partitions(&again), [partition()]);
        assert_eq!(again.next_retry(), retry_at);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_partition_continues_after_the_build_is_opened_again() {
        let (work, store) = held().await;
        let mut again = Work::new(appliers(&store), &mut work.into_holds());
        *store.unfolded.lock().unwrap() = None;
        tokio::time::advance(LATER).await;
        assert_eq!(run(&mut again).await, [Reading::Restarts]);
        assert_eq!(applied(&store), [("B".to_owned(), 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_is_read_again_after_its_attempt_was_interrupted() {
        let (mut work, store) = held().await;
        tokio::time::advance(LATER).await;
        drop(work.due());
        let mut holds = work.into_holds();
        let mut again = Work::new(appliers(&store), &mut holds);
        assert_eq!(paused_partitions(&again), []);
        again.add(batch(0, 0, &["B"]));
        assert_eq!(run(&mut again).await, [paused()]);
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_names_a_waiting_partition_while_the_build_is_opened_again() {
        let (mut work, store) = held().await;
        tokio::time::advance(LATER).await;
        // An interrupted attempt changes nothing.
        drop(work.due());
        let again = Work::new(appliers(&store), &mut work.into_holds());
        let health = Health::default();
        let status = Status::new(Some(health.component("view.a")));
        let cause = Cause::Partition(TOPIC.to_owned(), 0);
        status.set(cause, "too many parked");
        status.restart(&again.into_holds().causes());
        status.clear(&Cause::Store);
        let expected = BTreeMap::from([("view.a".to_owned(), "too many parked".to_owned())]);
        assert_eq!(health.readiness().components, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_whose_checkpoint_was_moved_waits_no_longer() {
        let (work, store) = held().await;
        let mut holds = work.into_holds();
        *store.unfolded.lock().unwrap() = None;
        let [mut moved, other] = appliers(&store);
        moved.apply(batch(0, 0, &["B"])).await.unwrap();
        assert_eq!(applied(&store), [("B".to_owned(), 0)]);
        let again = Work::new([moved, other], &mut holds);
        assert_eq!(paused_partitions(&again), []);
        assert_eq!(again.into_holds().causes(), BTreeSet::new());
        // The caller clears this cause.
        let expected = BTreeSet::from([Cause::Partition(TOPIC.to_owned(), 0)]);
        assert_eq!(holds.causes(), expected);
    }
}
