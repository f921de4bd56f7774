//! Applies the batches of one partition of a build: in smaller parts while the database is too slow for whole ones,
//! and without the aggregates that can't be applied.

use crate::{
    builds::Build,
    lag::Lags,
    metrics as names,
    parking::{ParkedKey, ParkedKeys, Poison, isolate, table as parked},
    recorded::{Recorded, recorded_events},
    repeated_failure::RepeatedFailure,
    split::split,
    status::{Cause, Status},
    store::{APPLY_TIMEOUT, Failure, Step, Store, StoreError},
    view::{EventReader, ViewEvent},
};
use journal::{Batch, Checkpoint, Source, reader::BATCH_COMMITS_MAX};
use metrics::{counter, gauge, histogram};
use schemas::Body;
use service::progress::Progress;
use sqlx::PgPool;
use std::{sync::Arc, time::Instant};

/// Number of parts that must succeed in a row before the next ones are twice as long.
const SUCCESSES_BEFORE_GROWTH: u32 = 16;
/// Most waiting commits that are applied at once when an aggregate is released.
const RELEASED_COMMITS_MAX: i64 = 500;

/// Where an applier reports to.
#[derive(Clone)]
pub(crate) struct Reports {
    /// The build's readiness.
    pub status: Arc<Status>,
    /// The applied positions of the process.
    pub progress: Progress,
    /// The build's name among the readers of the process.
    pub reader: Arc<str>,
    /// The positions that lags are measured from.
    pub lags: Lags,
}

/// The events of a batch that are not applied yet. Those that never are count as stale, also if the batch is dropped.
struct ReadEvents {
    labels: [(&'static str, String); 2],
    unapplied: u64,
}

impl ReadEvents {
    fn new(build: Build, events: u64) -> Self {
        let labels = labels(build);
        counter!(names::EVENTS_READ, &labels).increment(events);
        Self {
            labels,
            unapplied: events,
        }
    }
}

impl Drop for ReadEvents {
    fn drop(&mut self) {
        counter!(names::EVENTS_STALE, &self.labels).increment(self.unapplied);
    }
}

/// The labels of a build's metrics.
fn labels(build: Build) -> [(&'static str, String); 2] {
    [
        ("view", build.view.to_owned()),
        ("build", build.number.to_string()),
    ]
}

/// Applies batches of one partition to a store, and reports the applied position.
pub(crate) struct Applier<S> {
    store: Arc<S>,
    reports: Reports,
    checkpoint: Checkpoint,
    parked: ParkedKeys,
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

/// The next step after a failed attempt.
enum Next {
    /// Apply the part again at once: more of its aggregates are parked now.
    Again,
    /// Apply it again after a wait.
    Wait(StoreError),
}

impl<S: Store> Applier<S> {
    /// `checkpoint` and `parked` are the store's.
    pub fn new(
        store: Arc<S>,
        reports: Reports,
        checkpoint: Checkpoint,
        parked: ParkedKeys,
    ) -> Self {
        let applier = Self {
            store,
            reports,
            checkpoint,
            parked,
            length: PartLength::new(),
        };
        // Every counter is exported from the start.
        let labels = labels(applier.store.build());
        for name in [
            names::EVENTS_READ,
            names::EVENTS_APPLIED,
            names::EVENTS_PARKED,
            names::EVENTS_RELEASED,
            names::EVENTS_STALE,
            names::APPLY_RETRIES,
        ] {
            counter!(name, &labels).increment(0);
        }
        applier.report();
        applier
    }

    /// The partition.
    pub fn partition(&self) -> (String, i32) {
        (self.checkpoint.topic.clone(), self.checkpoint.partition)
    }

    /// Applies one batch. Retries without a limit after a failure of the database, and parks the aggregates that
    /// can't be applied.
    ///
    /// # Errors
    /// [`StoreError::StaleCheckpoint`], [`StoreError::Dropped`], or a missing table: open the store again.
    pub async fn apply(&mut self, batch: Batch<S::Event>) -> Result<(), StoreError> {
        let build = self.store.build();
        let Build { view, number } = build;
        let mut read = ReadEvents::new(build, event_count(&batch));
        let (mut waits, mut failure) = (service::Backoff::for_server(), RepeatedFailure::default());
        let cause = Cause::Partition(self.checkpoint.topic.clone(), batch.partition);
        let mut parts = vec![batch];
        while let Some(next) = parts.pop() {
            let (part, rest) = split(&self.checkpoint, next, self.length.commits_max);
            parts.extend(rest);
            let (topic, partition, from) = (&part.checkpoint.topic, part.partition, part.from);
            let error = match self.attempt(&part).await {
                Ok(()) => {
                    read.unapplied -= event_count(&part);
                    waits.reset();
                    self.length.succeeded();
                    self.reports.status.clear(&cause);
                    if let Some(over) = failure.end() {
                        let (attempts, lasted) = (over.attempts, over.lasted.as_secs());
                        tracing::info!(
                            view,
                            build = number,
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
            let error = match self.after_failure(error, &part).await? {
                Next::Again => {
                    parts.push(part);
                    continue;
                }
                Next::Wait(error) => error,
            };
            let commits = part.commits.len();
            if failure.add() {
                tracing::warn!(
                    view, build = number, topic, partition, from, commits, %error,
                    "failed to apply a batch, retrying"
                );
            } else {
                tracing::debug!(
                    view, build = number, topic, partition, from, commits, %error,
                    "failed to apply a batch, retrying"
                );
            }
            counter!(names::APPLY_RETRIES, &labels(build)).increment(1);
            self.reports.status.set(cause.clone(), error.to_string());
            if error.failure() == Some(Failure::Timeout) {
                self.length.timed_out(commits);
            }
            parts.push(part);
            tokio::time::sleep(waits.wait()).await;
        }
        Ok(())
    }

    async fn attempt(&mut self, part: &Batch<S::Event>) -> Result<(), StoreError> {
        let build = self.store.build();
        let events = recorded_events(&part.commits)?;
        let (applied, parked) = self.parked.divide(&events);
        let step = Step {
            from: part.from,
            checkpoint: &part.checkpoint,
            events: &applied,
            parked: &parked,
        };
        let begun = Instant::now();
        within_timeout(build, self.store.apply(&step)).await?;
        let labels = labels(build);
        histogram!(names::APPLY_SECONDS, &labels).record(begun.elapsed());
        histogram!(names::BATCH_EVENTS, &labels).record(events.len() as f64);
        let parked_events: u64 = parked
            .iter()
            .map(|one| u64::from(one.events.unsigned_abs()))
            .sum();
        counter!(names::EVENTS_APPLIED, &labels).increment(applied.len() as u64);
        counter!(names::EVENTS_PARKED, &labels).increment(parked_events);
        self.checkpoint = part.checkpoint.clone();
        for Poison { key, offset, error } in self.parked.stored() {
            let (topic, partition) = (&self.checkpoint.topic, self.checkpoint.partition);
            tracing::error!(
                view = build.view,
                build = build.number,
                topic,
                partition,
                key,
                offset,
                error,
                "parked an aggregate, because its event can't be applied"
            );
        }
        self.report();
        Ok(())
    }

    /// Finds the aggregates that caused a failure.
    ///
    /// # Errors
    /// The store must be opened again.
    async fn after_failure(
        &mut self,
        error: StoreError,
        part: &Batch<S::Event>,
    ) -> Result<Next, StoreError> {
        let found = match &error {
            StoreError::StaleCheckpoint { .. } | StoreError::Dropped { .. } => return Err(error),
            StoreError::Fold(fold) => fold.aggregate().map(|(key, offset)| Poison {
                key: key.to_owned(),
                offset,
                error: error.to_string(),
            }),
            StoreError::Database { .. }
            | StoreError::Builds(_)
            | StoreError::Checkpoint { .. }
            | StoreError::TooManyParked { .. }
            | StoreError::TimedOut { .. } => None,
        };
        let found = match error.failure() {
            Some(Failure::TableMissing) => return Err(error),
            Some(Failure::Value) => {
                let events = recorded_events(&part.commits)?;
                let (applied, _) = self.parked.divide(&events);
                match isolate(&*self.store, &applied).await {
                    Ok(found) => found,
                    Err(other) => return Ok(Next::Wait(other)),
                }
            }
            Some(Failure::Transient | Failure::Timeout) | None => found.into_iter().collect(),
        };
        let mut has_new = false;
        for poison in found {
            has_new |= self.parked.add(poison);
        }
        if self.parked.is_over_limit() {
            self.parked.forget_found();
            return Ok(Next::Wait(StoreError::TooManyParked {
                build: self.store.build(),
                source: Box::new(error),
            }));
        }
        Ok(if has_new {
            Next::Again
        } else {
            Next::Wait(error)
        })
    }

    /// Applies the waiting commits of a parked aggregate, in order, until none wait or one can't be applied.
    ///
    /// # Errors
    /// [`ReleaseError`]: another attempt may succeed.
    pub async fn release(
        &mut self,
        key: &ParkedKey,
        source: &Source,
        postgres: &PgPool,
    ) -> Result<(), ReleaseError> {
        let build = self.store.build();
        let Build { view, number } = build;
        let limit = RELEASED_COMMITS_MAX;
        let mut released = 0_u64;
        loop {
            let waiting = parked::waiting(view, number, key, limit, postgres).await?;
            let offsets: Vec<i64> = waiting.iter().map(|one| one.offset).collect();
            let commits = <S::Event as ViewEvent>::Reader::read_commits(
                source,
                &key.topic,
                key.partition,
                &offsets,
            )
            .await?;
            let events = recorded_events(&commits).map_err(StoreError::from)?;
            if let Err((offset, error)) = self.release_commits(key, &offsets, &events).await? {
                let reason = error.to_string();
                parked::record_failure(build, key, offset, &reason, postgres).await?;
                let (topic, partition, key) = (&key.topic, key.partition, &key.key);
                tracing::error!(
                    view, build = number, topic, partition, key, offset, %error,
                    "a parked aggregate still can't be applied"
                );
                return Ok(());
            }
            released += events.len() as u64;
            if waiting.is_empty() {
                break;
            }
        }
        self.parked.remove(&key.key);
        counter!(names::EVENTS_RELEASED, &labels(build)).increment(released);
        let (topic, partition, key) = (&key.topic, key.partition, &key.key);
        tracing::info!(
            view,
            build = number,
            topic,
            partition,
            key,
            events = released,
            "applied the waiting events of a parked aggregate"
        );
        Ok(())
    }

    /// Applies waiting commits: all at once, or one after the other if they are refused. Returns the offset and the
    /// error of the first refused one.
    async fn release_commits(
        &self,
        key: &ParkedKey,
        offsets: &[i64],
        events: &[Recorded<'_, S::Event>],
    ) -> Result<Result<(), (i64, StoreError)>, StoreError> {
        let build = self.store.build();
        let refused = match within_timeout(build, self.store.release(key, offsets, events)).await {
            Ok(()) => return Ok(Ok(())),
            Err(error) if is_refusal(&error) => error,
            Err(error) => return Err(error),
        };
        if let [offset] = offsets {
            return Ok(Err((*offset, refused)));
        }
        for offset in offsets {
            let of_commit: Vec<_> = events
                .iter()
                .filter(|event| event.offset == *offset)
                .copied()
                .collect();
            let offsets = [*offset];
            let released = self.store.release(key, &offsets, &of_commit);
            match within_timeout(build, released).await {
                Ok(()) => {}
                Err(error) if is_refusal(&error) => return Ok(Err((offsets[0], error))),
                Err(error) => return Err(error),
            }
        }
        Ok(Ok(()))
    }

    fn report(&self) {
        let Checkpoint {
            topic,
            partition,
            next_offset,
            ..
        } = &self.checkpoint;
        let build = self.store.build();
        let reader = &self.reports.reader;
        self.reports.lags.applied(build, &self.checkpoint);
        self.reports
            .progress
            .set(reader, topic, *partition, *next_offset);
        gauge!(names::NEXT_OFFSET, "view" => build.view, "build" => build.number.to_string(),
            "topic" => topic.clone(), "partition" => partition.to_string())
        .set(*next_offset as f64);
    }
}

/// The waiting commits of an aggregate can't be applied now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReleaseError {
    /// The table of parked commits.
    #[error("postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    /// The log.
    #[error(transparent)]
    Commits(#[from] crate::commits::CommitsError),
    /// The build's database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether an event is the cause of an error.
fn is_refusal(error: &StoreError) -> bool {
    matches!(error, StoreError::Fold(_)) || error.failure() == Some(Failure::Value)
}

/// The result of work on the database of a build, or [`StoreError::TimedOut`].
pub(crate) async fn within_timeout<T>(
    build: Build,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(APPLY_TIMEOUT, work)
        .await
        .unwrap_or(Err(StoreError::TimedOut { build }))
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
    use crate::{
        recorded::FoldError,
        store::{Opened, Partition},
    };
    use journal::Valid;
    use schemas::{
        Commit, Decision, NoOp, Origin, Sku, Timestamp,
        catalog::{Event, ProductCreated, ProductEvent},
    };
    use service::health::Health;
    use std::sync::Mutex;

    const TOPIC: &str = "journal.catalog";
    const BUILD: Build = Build::first("slow_v1");

    /// A store that never answers a step of more than `commits_max` offsets, and that refuses some keys.
    #[derive(Default)]
    struct FakeStore {
        commits_max: Option<i64>,
        /// Keys whose values the database refuses.
        refused: Vec<&'static str>,
        /// Key that the view can't apply.
        unfolded: Option<&'static str>,
        is_table_missing: bool,
        /// First and next offset of each applied step.
        applied: Mutex<Vec<(i64, i64)>>,
        /// Keys and offsets of the applied events.
        events: Mutex<Vec<(String, i64)>>,
        /// Keys and offsets of the parked commits, and whether they are a cause.
        parked: Mutex<Vec<(String, i64, bool)>>,
        /// Number of offsets of each step that timed out.
        timed_out: Mutex<Vec<i64>>,
        attempts: Mutex<usize>,
    }

    fn database(failure: Failure) -> StoreError {
        StoreError::Database {
            database: "fake",
            failure,
            source: "refused".into(),
        }
    }

    impl FakeStore {
        fn check(&self, events: &[Recorded<'_, Event>]) -> Result<(), StoreError> {
            *self.attempts.lock().unwrap() += 1;
            if self.is_table_missing {
                return Err(database(Failure::TableMissing));
            }
            for event in events {
                if self.unfolded == Some(event.key) {
                    return Err(event.missing_row().into());
                }
            }
            let is_refused = |event: &Recorded<'_, Event>| self.refused.contains(&event.key);
            match events.iter().any(is_refused) {
                true => Err(database(Failure::Value)),
                false => Ok(()),
            }
        }
    }

    impl Store for FakeStore {
        type Event = Event;

        fn build(&self) -> Build {
            BUILD
        }

        async fn open(&self, _: &[Partition]) -> Result<Opened, StoreError> {
            Ok(Opened::default())
        }

        async fn apply(&self, step: &Step<'_, Event>) -> Result<(), StoreError> {
            let next_offset = step.checkpoint.next_offset;
            let length = next_offset - step.from;
            if self.commits_max.is_some_and(|max| length > max) {
                self.timed_out.lock().unwrap().push(length);
                std::future::pending::<()>().await;
            }
            self.check(step.events)?;
            self.applied.lock().unwrap().push((step.from, next_offset));
            let applied = step.events.iter();
            let applied = applied.map(|event| (event.key.to_owned(), event.offset));
            self.events.lock().unwrap().extend(applied);
            let parked = step.parked.iter();
            let parked = parked.map(|one| (one.key.clone(), one.offset, one.error.is_some()));
            self.parked.lock().unwrap().extend(parked);
            Ok(())
        }

        async fn try_apply(&self, events: &[Recorded<'_, Event>]) -> Result<(), StoreError> {
            self.check(events)
        }

        async fn release(
            &self,
            _: &ParkedKey,
            _: &[i64],
            events: &[Recorded<'_, Event>],
        ) -> Result<(), StoreError> {
            self.check(events)
        }
    }

    fn applier(store: FakeStore) -> (Applier<FakeStore>, Arc<FakeStore>) {
        let store = Arc::new(store);
        let reports = Reports {
            status: Arc::new(Status::new(Health::default().component("view.slow_v1"))),
            progress: Progress::default(),
            reader: "slow_v1".into(),
            lags: Lags::default(),
        };
        let start = Checkpoint::start(TOPIC, 0);
        let applier = Applier::new(store.clone(), reports, start, ParkedKeys::default());
        (applier, store)
    }

    fn commit(offset: i64, body: Body<Event>, key: &str) -> Valid<Event> {
        Valid {
            offset,
            key: key.to_owned().into(),
            commit: Commit {
                prev: [0; 32],
                term: [0; 16],
                epoch: 1,
                seq: offset + 1,
                recorded_at: Timestamp(offset),
                body,
            },
        }
    }

    fn batch_of(from: i64, commits: Vec<Valid<Event>>) -> Batch<Event> {
        let next_offset = from + i64::try_from(commits.len()).unwrap();
        Batch {
            partition: 0,
            from,
            commits: commits.into(),
            bytes: 0,
            void: 0,
            checkpoint: Checkpoint {
                next_offset,
                ..Checkpoint::start(TOPIC, 0)
            },
        }
    }

    fn batch(from: i64, next_offset: i64) -> Batch<Event> {
        let no_op = |offset| commit(offset, Body::NoOp(NoOp {}), "");
        batch_of(from, (from..next_offset).map(no_op).collect())
    }

    /// A batch with a decision of one event for each key.
    fn decisions(from: i64, keys: &[&str]) -> Batch<Event> {
        let decision = |(offset, key): (i64, &&str)| {
            let event = ProductEvent::ProductCreated(ProductCreated {
                sku: Sku::parse(key).unwrap(),
                description: String::new(),
            });
            let decision = Decision {
                aggregate_type: "product".into(),
                version: 0,
                command_id: [0; 16],
                command_hash: [0; 16],
                origin: Origin::Keyed,
                actor: "service:test".into(),
                correlation_id: [0; 16],
                causation_id: None,
                traceparent: None,
                outcome: None,
                events: vec![Event::Product(event)],
            };
            commit(offset, Body::Decision(decision), key)
        };
        batch_of(from, (from..).zip(keys).map(decision).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_takes_too_long_is_applied_in_parts() {
        let (mut applier, store) = applier(FakeStore {
            commits_max: Some(3),
            ..FakeStore::default()
        });
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
    async fn an_event_that_the_view_refuses_parks_its_aggregate_and_no_other() {
        let (mut applier, store) = applier(FakeStore {
            unfolded: Some("B"),
            ..FakeStore::default()
        });
        applier.apply(decisions(0, &["A", "B", "C"])).await.unwrap();
        applier.apply(decisions(3, &["B", "A"])).await.unwrap();
        let applied = [("A", 0), ("C", 2), ("A", 4)].map(|(key, at)| (key.to_owned(), at));
        assert_eq!(*store.events.lock().unwrap(), applied);
        let parked = [("B", 1, true), ("B", 3, false)];
        let parked = parked.map(|(key, at, cause)| (key.to_owned(), at, cause));
        assert_eq!(*store.parked.lock().unwrap(), parked);
        assert_eq!(*store.applied.lock().unwrap(), [(0, 3), (3, 5)]);
    }

    #[tokio::test(start_paused = true)]
    async fn aggregates_whose_values_the_database_refuses_are_parked() {
        let (mut applier, store) = applier(FakeStore {
            refused: vec!["B", "E"],
            ..FakeStore::default()
        });
        let keys = ["A", "B", "C", "D", "E", "F", "G"];
        applier.apply(decisions(0, &keys)).await.unwrap();
        let parked = [("B", 1, true), ("E", 4, true)];
        let parked = parked.map(|(key, at, cause)| (key.to_owned(), at, cause));
        assert_eq!(*store.parked.lock().unwrap(), parked);
        assert_eq!(store.events.lock().unwrap().len(), keys.len() - 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_that_refuses_every_aggregate_parks_none() {
        let keys: Vec<String> = (0..20).map(|number| format!("K{number}")).collect();
        let keys: Vec<&'static str> = keys.iter().map(|key| &*key.clone().leak()).collect();
        let (mut applier, store) = applier(FakeStore {
            refused: keys.clone(),
            ..FakeStore::default()
        });
        let applying = applier.apply(decisions(0, &keys));
        let outcome = tokio::time::timeout(std::time::Duration::from_secs(60), applying).await;
        assert!(outcome.is_err(), "the batch was applied: {outcome:?}");
        assert_eq!(*store.parked.lock().unwrap(), []);
        assert!(
            *store.attempts.lock().unwrap() > 20,
            "there was no second attempt"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_table_is_returned_without_a_retry() {
        let (mut applier, store) = applier(FakeStore {
            is_table_missing: true,
            ..FakeStore::default()
        });
        let error = applier.apply(decisions(0, &["A"])).await.unwrap_err();
        assert_eq!(error.failure(), Some(Failure::TableMissing), "{error}");
        assert_eq!(*store.attempts.lock().unwrap(), 1);
    }

    #[test]
    fn an_error_names_its_aggregate() {
        let error = FoldError::KeyNotText { offset: 7 };
        assert_eq!(error.aggregate(), None);
        let (key, offset, version) = ("A".to_owned(), 7, 2);
        let error = FoldError::MissingRow {
            key,
            offset,
            version,
        };
        assert_eq!(error.aggregate(), Some(("A", 7)));
    }
}
