//! Applies the batches of one view, in smaller parts while its database is too slow for whole ones.

use crate::{
    metrics as names,
    repeated_failure::RepeatedFailure,
    split::split,
    store::{APPLY_TIMEOUT, Failure, Store, StoreError},
    view::ViewEvent,
};
use journal::{Batch, Checkpoint, reader::BATCH_COMMITS_MAX};
use metrics::{counter, gauge, histogram};
use schemas::Body;
use service::{health::Component, progress::Progress};
use std::{collections::BTreeMap, time::Instant};

/// Number of parts that must succeed in a row before the next ones are twice as long.
const SUCCESSES_BEFORE_GROWTH: u32 = 16;

/// Applies batches to a store, and reports the applied position.
pub(crate) struct Applier<'a, S> {
    store: &'a S,
    component: &'a Component,
    progress: &'a Progress,
    /// The last checkpoint of each partition, by topic and partition.
    checkpoints: BTreeMap<(String, i32), Checkpoint>,
    length: PartLength,
}

/// Most commits that are applied at once. The number is halved after a time-out, so that a batch that takes too
/// long is not repeated unchanged, and doubled again after successes.
#[derive(Debug)]
struct PartLength {
    commits_max: usize,
    successes: u32,
}

impl PartLength {
    fn new() -> Self {
        Self {
            commits_max: BATCH_COMMITS_MAX,
            successes: 0,
        }
    }

    fn timed_out(&mut self, commits: usize) {
        self.commits_max = (commits.min(self.commits_max) / 2).max(1);
        self.successes = 0;
    }

    fn succeeded(&mut self) {
        self.successes += 1;
        if self.successes == SUCCESSES_BEFORE_GROWTH {
            self.commits_max = (self.commits_max * 2).min(BATCH_COMMITS_MAX);
            self.successes = 0;
        }
    }
}

impl<'a, S: Store> Applier<'a, S> {
    /// `checkpoints` are the store's.
    pub fn new(
        store: &'a S,
        component: &'a Component,
        progress: &'a Progress,
        checkpoints: &[Checkpoint],
    ) -> Self {
        let mut applier = Self {
            store,
            component,
            progress,
            checkpoints: BTreeMap::new(),
            length: PartLength::new(),
        };
        for checkpoint in checkpoints {
            applier.report(checkpoint);
        }
        applier
    }

    /// Applies one batch; retries without a limit after a transient error.
    ///
    /// # Errors
    /// [`StoreError::StaleCheckpoint`], or an error that no retry can remove.
    pub async fn apply(&mut self, batch: Batch<S::Event>) -> Result<(), StoreError> {
        let view = self.store.name();
        counter!(names::EVENTS_READ, "view" => view).increment(event_count(&batch));
        let (mut waits, mut failure) = (service::Backoff::for_server(), RepeatedFailure::default());
        let mut parts = vec![batch];
        while let Some(next) = parts.pop() {
            let (part, rest) = split(self.before(&next), next, self.length.commits_max);
            parts.extend(rest);
            let (topic, partition, from) = (&part.checkpoint.topic, part.partition, part.from);
            let error = match self.attempt(&part).await {
                Ok(()) => {
                    waits.reset();
                    self.length.succeeded();
                    if let Some(over) = failure.end() {
                        let (attempts, lasted) = (over.attempts, over.lasted.as_secs());
                        tracing::info!(
                            view,
                            topic,
                            partition,
                            from,
                            attempts,
                            failed_for_s = lasted,
                            "applied a batch after failed attempts"
                        );
                    }
                    continue;
                }
                Err(error) => error,
            };
            if let StoreError::StaleCheckpoint { .. } = error {
                let unapplied = parts.iter().chain([&part]).map(event_count).sum();
                counter!(names::EVENTS_STALE, "view" => view).increment(unapplied);
                return Err(error);
            }
            let is_timeout = match error.failure() {
                Failure::Transient => false,
                Failure::Timeout => true,
                Failure::TableMissing | Failure::Final => {
                    tracing::error!(view, topic, partition, from, %error, "failed to apply a batch");
                    return Err(error);
                }
            };
            let commits = part.commits.len();
            if failure.add() {
                tracing::warn!(
                    view, topic, partition, from, commits, %error, "failed to apply a batch, retrying"
                );
            } else {
                tracing::debug!(
                    view, topic, partition, from, commits, %error, "failed to apply a batch, retrying"
                );
            }
            counter!(names::APPLY_RETRIES, "view" => view).increment(1);
            self.component.not_ready(error.to_string());
            if is_timeout {
                self.length.timed_out(commits);
            }
            parts.push(part);
            tokio::time::sleep(waits.wait()).await;
        }
        Ok(())
    }

    async fn attempt(&mut self, part: &Batch<S::Event>) -> Result<(), StoreError> {
        let (view, begun) = (self.store.name(), Instant::now());
        within_timeout(view, self.store.apply(part)).await?;
        histogram!(names::APPLY_SECONDS, "view" => view).record(begun.elapsed());
        counter!(names::EVENTS_APPLIED, "view" => view).increment(event_count(part));
        self.report(&part.checkpoint);
        Ok(())
    }

    /// The checkpoint that a batch leads on from.
    fn before(&self, batch: &Batch<S::Event>) -> &Checkpoint {
        let partition = (batch.checkpoint.topic.clone(), batch.partition);
        let known = self.checkpoints.get(&partition);
        known.expect("a reader gives batches of the partitions that it was opened with")
    }

    fn report(&mut self, checkpoint: &Checkpoint) {
        let Checkpoint {
            topic, partition, ..
        } = checkpoint;
        let (view, next_offset) = (self.store.name(), checkpoint.next_offset);
        self.checkpoints
            .insert((topic.clone(), *partition), checkpoint.clone());
        self.progress.set(view, topic, *partition, next_offset);
        gauge!(names::NEXT_OFFSET, "view" => view, "topic" => topic.clone(),
            "partition" => partition.to_string())
        .set(next_offset as f64);
    }
}

/// The result of work on the database of a view, or [`StoreError::TimedOut`].
pub(crate) async fn within_timeout<T>(
    view: &'static str,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(APPLY_TIMEOUT, work)
        .await
        .unwrap_or(Err(StoreError::TimedOut { view }))
}

fn event_count<E: ViewEvent>(batch: &Batch<E>) -> u64 {
    let events = batch.commits.iter().map(|valid| match &valid.commit.body {
        Body::Decision(decision) => decision.events.len() as u64,
        Body::Announcement(_) | Body::NoOp(_) => 0,
    });
    events.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorded::FoldError;
    use journal::Valid;
    use schemas::{Commit, NoOp, Timestamp, catalog::Event, topics::PartitionCounts};
    use service::health::Health;
    use std::sync::Mutex;

    const TOPIC: &str = "journal.catalog";

    /// A store that never answers a batch of more than `commits_max` commits.
    struct SlowStore {
        commits_max: usize,
        /// First and next offset of each applied batch.
        applied: Mutex<Vec<(i64, i64)>>,
        /// Number of commits of each batch that timed out.
        timed_out: Mutex<Vec<usize>>,
    }

    impl Store for SlowStore {
        type Event = Event;

        fn name(&self) -> &'static str {
            "slow_v1"
        }

        async fn open(&self, _: &PartitionCounts) -> Result<Vec<Checkpoint>, StoreError> {
            Ok(Vec::new())
        }

        async fn apply(&self, batch: &Batch<Event>) -> Result<(), StoreError> {
            if batch.commits.len() > self.commits_max {
                self.timed_out.lock().unwrap().push(batch.commits.len());
                std::future::pending::<()>().await;
            }
            if batch.commits.iter().any(|record| record.offset == 1_000) {
                let (key, offset, version) = ("A".into(), 1_000, 1);
                return Err(FoldError::MissingRow {
                    key,
                    offset,
                    version,
                }
                .into());
            }
            let next_offset = batch.checkpoint.next_offset;
            self.applied.lock().unwrap().push((batch.from, next_offset));
            Ok(())
        }
    }

    fn batch(from: i64, next_offset: i64) -> Batch<Event> {
        let commit = |offset| Valid {
            offset,
            key: Vec::new().into(),
            commit: Commit {
                prev: [0; 32],
                term: [0; 16],
                epoch: 1,
                seq: offset + 1,
                recorded_at: Timestamp(offset),
                body: Body::NoOp(NoOp {}),
            },
        };
        Batch {
            partition: 0,
            from,
            commits: (from..next_offset).map(commit).collect::<Vec<_>>().into(),
            bytes: 0,
            void: 0,
            checkpoint: Checkpoint {
                next_offset,
                ..Checkpoint::start(TOPIC, 0)
            },
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_takes_too_long_is_applied_in_parts() {
        let store = SlowStore {
            commits_max: 3,
            applied: Mutex::default(),
            timed_out: Mutex::default(),
        };
        let (health, progress) = (Health::default(), Progress::default());
        let component = health.component("view.slow_v1");
        let starts = [Checkpoint::start(TOPIC, 0)];
        let mut applier = Applier::new(&store, &component, &progress, &starts);
        applier.apply(batch(0, 14)).await.unwrap();
        assert_eq!(*store.timed_out.lock().unwrap(), [14, 7]);
        let expected = [(0, 3), (3, 6), (6, 7), (7, 10), (10, 13), (13, 14)];
        assert_eq!(*store.applied.lock().unwrap(), expected);

        // Later batches start with the length that succeeded; longer parts are attempted after some successes.
        for from in (14..200).step_by(6) {
            applier.apply(batch(from, from + 6)).await.unwrap();
        }
        assert_eq!(*store.timed_out.lock().unwrap(), [14, 7, 6, 6, 6, 6]);
        assert_eq!(store.applied.lock().unwrap().last(), Some(&(197, 200)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_permanent_error_is_returned_without_a_retry() {
        let store = SlowStore {
            commits_max: 3,
            applied: Mutex::default(),
            timed_out: Mutex::default(),
        };
        let (health, progress) = (Health::default(), Progress::default());
        let component = health.component("view.slow_v1");
        let starts = [Checkpoint::start(TOPIC, 0)];
        let mut applier = Applier::new(&store, &component, &progress, &starts);
        let error = applier.apply(batch(1_000, 1_001)).await.unwrap_err();
        assert!(matches!(error, StoreError::Fold(_)), "{error}");
    }
}
