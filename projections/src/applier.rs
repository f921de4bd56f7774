//! Applies the batches of one partition of a build. Divides them while the database is too slow for whole batches, and
//! parks the aggregates that can't be applied.

mod database_time;
mod events;
mod isolate;
mod release;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use self::release::ReleaseError;

use self::{
    database_time::with_waiting_time,
    events::{ReadEvents, event_count, labels},
    isolate::isolate,
};
use crate::{
    builds::Build,
    lag::{Lags, Stop},
    metrics as names,
    parking::{Marks, ParkedKeys, Poison, table::ParkedAggregate},
    recorded::recorded_events,
    repeated_failure::RepeatedFailure,
    split::split,
    status::{Cause, Status},
    store::{APPLY_TIMEOUT, Failure, Step, Store, StoreError},
    view::ViewEvent,
};
use journal::{Batch, Checkpoint, reader::BATCH_COMMITS_MAX};
use metrics::{counter, gauge, histogram};
use service::progress::Progress;
use std::sync::Arc;
use tokio::time::Instant;

/// Number of successful parts after which the next parts are twice as long.
const SUCCESSES_BEFORE_GROWTH: u32 = 16;

/// The receivers of an applier's reports.
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
    /// The parked aggregates, for the answers of queries.
    pub marks: Marks,
}

/// Applies batches of one partition to a store, and reports the applied position.
pub(crate) struct Applier<S> {
    store: Arc<S>,
    reports: Reports,
    checkpoint: Checkpoint,
    parked: ParkedKeys,
    length: PartLimit,
}

/// Maximum number of commits that are applied at once. It is halved after a timeout, so that a batch that took too long
/// is retried in smaller parts, and doubled again after successes.
#[derive(Debug)]
struct PartLimit {
    commits_max: usize,
    successes: u32,
}

impl PartLimit {
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

/// The part of a batch that was applied.
pub(crate) enum Applied<E: ViewEvent> {
    /// To its end.
    All,
    /// Up to a part that waits for an operator.
    Held(Box<HeldBatch<E>>),
}

/// The rest of a batch, between two attempts to apply it.
pub(crate) struct HeldBatch<E: ViewEvent> {
    /// The parts that are not applied, the last one first.
    parts: Vec<Batch<E>>,
    read: ReadEvents,
    waits: service::Backoff,
    failure: RepeatedFailure,
    /// The time of the next attempt.
    pub retry_at: Instant,
}

/// The next step after a failed attempt.
enum Next {
    /// Apply the part again at once: more of its aggregates are parked now.
    Again,
    /// Apply the part again after a wait.
    Wait(StoreError),
}

impl<S: Store> Applier<S> {
    /// `checkpoint` and `parked` must be the stored ones. Marks the parked aggregates before it reports the position,
    /// because another process may have parked them and moved the checkpoint.
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
            length: PartLimit::new(),
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
            names::CHECKPOINTS_REFUSED,
        ] {
            counter!(name, &labels).increment(0);
        }
        applier.mark(applier.parked.stored_keys().map(str::to_owned));
        // The journal is read again from here. This reading shows whether the partition is still halted or held.
        let (topic, partition) = applier.partition();
        let lags = &applier.reports.lags;
        for stop in [Stop::Held, Stop::Halted] {
            lags.continues(applier.store.build(), &topic, partition, stop);
        }
        applier.report();
        applier
    }

    /// Marks aggregates as parked. Called before the position is reported, which ends the waits of queries.
    fn mark(&self, keys: impl Iterator<Item = String>) {
        let build = self.store.build();
        self.reports.marks.add(keys.map(|key| ParkedAggregate {
            view_name: build.view.to_owned(),
            build: build.number,
            key,
        }));
    }

    /// The partition.
    pub fn partition(&self) -> (String, i32) {
        (self.checkpoint.topic.clone(), self.checkpoint.partition)
    }

    /// The checkpoint of the last step.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Applies one batch. Retries without a limit after a failure of the database, and parks the aggregates that can't
    /// be applied. A batch that waits for an operator is returned, so that the partition can do other work before the
    /// next attempt.
    ///
    /// # Errors
    /// [`StoreError::StaleCheckpoint`] or a missing table: open the store again. [`StoreError::Dropped`]: stop
    /// projecting the build.
    pub async fn apply(&mut self, batch: Batch<S::Event>) -> Result<Applied<S::Event>, StoreError> {
        let read = ReadEvents::new(self.store.build(), event_count(&batch));
        let batch = Box::new(HeldBatch {
            parts: vec![batch],
            read,
            waits: service::Backoff::for_server(),
            failure: RepeatedFailure::default(),
            retry_at: Instant::now(),
        });
        self.resume(batch).await
    }

    /// Applies the rest of a batch, like [`Applier::apply`]. No other batch of the partition may come between.
    ///
    /// # Errors
    /// Those of [`Applier::apply`].
    pub async fn resume(
        &mut self,
        mut batch: Box<HeldBatch<S::Event>>,
    ) -> Result<Applied<S::Event>, StoreError> {
        let cause = Cause::Partition(self.checkpoint.topic.clone(), self.checkpoint.partition);
        while let Some(next) = batch.parts.pop() {
            let (part, rest) = split(&self.checkpoint, next, self.length.commits_max);
            batch.parts.extend(rest);
            let error = match self.attempt(&part).await {
                Ok(()) => {
                    batch.read.unapplied -= event_count(&part);
                    batch.waits.reset();
                    self.length.succeeded();
                    self.reports.status.clear(&cause);
                    let (topic, partition) = self.partition();
                    let lags = &self.reports.lags;
                    lags.continues(self.store.build(), &topic, partition, Stop::Held);
                    self.log_end(&part, &mut batch.failure);
                    continue;
                }
                Err(error) => error,
            };
            let error = match self.after_failure(error, &part).await? {
                Next::Again => {
                    batch.parts.push(part);
                    continue;
                }
                Next::Wait(error) => error,
            };
            self.log_failure(&part, &error, &mut batch.failure);
            counter!(names::APPLY_RETRIES, &labels(self.store.build())).increment(1);
            self.reports.status.set(cause.clone(), error.to_string());
            if error.failure() == Some(Failure::Timeout) {
                self.length.timed_out(part.commits.len());
            }
            batch.parts.push(part);
            let wait = batch.waits.wait();
            if error.waits_for_operator() {
                let (topic, partition) = self.partition();
                let lags = &self.reports.lags;
                lags.stops(self.store.build(), &topic, partition, Stop::Held);
                batch.retry_at = Instant::now() + wait;
                return Ok(Applied::Held(batch));
            }
            tokio::time::sleep(wait).await;
        }
        Ok(Applied::All)
    }

    /// Logs that a part was applied, if earlier attempts failed.
    fn log_end(&self, part: &Batch<S::Event>, failure: &mut RepeatedFailure) {
        let Build { view, number } = self.store.build();
        let (topic, partition, from) = (&part.checkpoint.topic, part.partition, part.from);
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
    }

    /// Logs a failed attempt.
    fn log_failure(
        &self,
        part: &Batch<S::Event>,
        error: &StoreError,
        failure: &mut RepeatedFailure,
    ) {
        let Build { view, number } = self.store.build();
        let (topic, partition, from) = (&part.checkpoint.topic, part.partition, part.from);
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
        let work = within_timeout(build, self.store.apply(&step));
        let (applied_step, waited) = with_waiting_time(work).await;
        applied_step?;
        let labels = labels(build);
        histogram!(names::APPLY_SECONDS, &labels).record(begun.elapsed());
        histogram!(names::DATABASE_SECONDS, &labels).record(waited);
        histogram!(names::BATCH_EVENTS, &labels).record(events.len() as f64);
        let parked_events: u64 = parked
            .iter()
            .map(|one| u64::from(one.events.unsigned_abs()))
            .sum();
        counter!(names::EVENTS_APPLIED, &labels).increment(applied.len() as u64);
        counter!(names::EVENTS_PARKED, &labels).increment(parked_events);
        self.checkpoint = part.checkpoint.clone();
        let found = self.parked.stored();
        for Poison { key, offset, error } in &found {
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
        self.mark(found.into_iter().map(|poison| poison.key));
        self.report();
        Ok(())
    }

    /// Parks the aggregates that caused a failure. Returns the next step.
    ///
    /// # Errors
    /// Those of [`Applier::apply`].
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
                    Err(other) if other.failure() == Some(Failure::TableMissing) => {
                        return Err(other);
                    }
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
            self.parked.discard_found();
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

/// Runs work on the database of a build. Returns [`StoreError::TimedOut`] after [`APPLY_TIMEOUT`].
pub(crate) async fn within_timeout<T>(
    build: Build,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(APPLY_TIMEOUT, work)
        .await
        .unwrap_or(Err(StoreError::TimedOut { build }))
}
