//! The projector: applies the events of one view to its database until shutdown.
//!
//! It retries transient errors, and readiness names the current one. A batch that can't be applied
//! stops the view, because skipping it would lose events. There is no order between partitions: each has its own
//! checkpoint. Near the end of the log, a journal's views and jobs share one reader.

use crate::{
    applier::{Applier, within_timeout},
    metrics as names,
    repeated_failure::RepeatedFailure,
    store::{Failure, Store, StoreError},
    view::{EventReader, ViewEvent},
};
use journal::{Checkpoint, ReadError, Readers, Update};
use metrics::gauge;
use schemas::topics::PartitionCounts;
use service::{
    health::{Component, Health},
    progress::Progress,
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Time after which a running projector's next failure counts as a first one.
const SETTLED_TIME: Duration = Duration::from_secs(10);

/// The resources that all projectors of a node share.
#[derive(Clone)]
pub struct Runtime {
    /// The journals.
    pub readers: Readers,
    /// The partitions of each journal.
    pub partitions: PartitionCounts,
    /// Each view reports its readiness here.
    pub health: Health,
    /// Each view reports its applied position here.
    pub progress: Progress,
    /// Ends every projector, between or within batches.
    pub shutdown: CancellationToken,
    /// Owns the projectors' tasks.
    pub tasks: TaskTracker,
}

impl Runtime {
    /// Starts the projector of a view, as a task of its own.
    pub fn project<S: Store>(&self, store: S) {
        let component = self.health.component(format!("view.{}", store.name()));
        // Until its checkpoints are read, a view counts as not caught up.
        let of_topic = |topic| (0..self.partitions.of(topic)).map(move |number| (topic, number, 0));
        let nothing = S::Event::TOPICS.iter().copied().flat_map(of_topic);
        self.progress.publish(store.name(), nothing, []);
        gauge!(names::STOPPED, "view" => store.name()).set(0);
        let shutdown = self.shutdown.clone();
        let projector = Projector {
            store,
            runtime: self.clone(),
            component,
        };
        let (name, supervised) = (projector.store.name(), shutdown.clone());
        let task = async move {
            // Safe to drop at any point: uncommitted batches are read and applied again.
            shutdown.run_until_cancelled(projector.run()).await;
        };
        self.tasks
            .spawn(service::shutdown::supervise(name, supervised, task));
    }
}

struct Projector<S> {
    store: S,
    runtime: Runtime,
    component: Component,
}

/// The reason why the projector must resume from the stored checkpoints, or end.
enum Ended {
    /// Another projector is ahead.
    StaleCheckpoint(StoreError),
    /// A table of the view does not exist any more.
    TableMissing(StoreError),
    /// This reader can't read the log any further.
    Reader(ReadError),
    /// No retry can apply the batch.
    Stopped(StoreError),
}

/// The reader's part in the readiness of a running projector.
struct ReaderHealth<'a> {
    component: &'a Component,
    /// Partitions that are no longer read, with the reason.
    halted: BTreeMap<i32, String>,
    view: &'static str,
    failure: RepeatedFailure,
}

impl<S: Store> Projector<S> {
    async fn run(&self) {
        let view = self.store.name();
        let mut waits = service::Backoff::for_server();
        loop {
            let begun = Instant::now();
            let checkpoints = self.open_store().await;
            match self.apply_after(checkpoints).await {
                Ended::StaleCheckpoint(error) => {
                    tracing::warn!(view, %error, "another projector is ahead, resuming after it");
                }
                Ended::TableMissing(error) => {
                    tracing::warn!(view, %error, "a table is missing, opening the view again");
                    self.component.not_ready(error.to_string());
                }
                Ended::Reader(error) => {
                    self.component.not_ready(error.to_string());
                    tracing::error!(view, %error, "failed to read the journal, retrying");
                }
                Ended::Stopped(error) => {
                    tracing::error!(view, %error, "view stopped until the next restart");
                    gauge!(names::STOPPED, "view" => view).set(1);
                    self.component.not_ready(format!("stopped: {error}"));
                    return;
                }
            }
            if begun.elapsed() > SETTLED_TIME {
                waits = service::Backoff::for_server();
            }
            tokio::time::sleep(waits.wait()).await;
        }
    }

    /// Opens the store. It retries without a limit, because an operator may repair the cause.
    async fn open_store(&self) -> Vec<Checkpoint> {
        let view = self.store.name();
        let (mut waits, mut failure) = (service::Backoff::for_server(), RepeatedFailure::default());
        loop {
            let opening = self.store.open(&self.runtime.partitions);
            let error = match within_timeout(view, opening).await {
                Ok(checkpoints) => {
                    if let Some(over) = failure.end() {
                        let (attempts, lasted) = (over.attempts, over.lasted.as_secs());
                        tracing::info!(
                            view,
                            attempts,
                            failed_for_s = lasted,
                            "opened the view after failed attempts"
                        );
                    }
                    return checkpoints;
                }
                Err(error) => error,
            };
            self.component.not_ready(error.to_string());
            if failure.add() {
                tracing::warn!(view, %error, "failed to open the view, retrying");
            } else {
                tracing::debug!(view, %error, "failed to open the view, retrying");
            }
            tokio::time::sleep(waits.wait()).await;
        }
    }

    /// Applies the events after the checkpoints until that is no longer possible.
    async fn apply_after(&self, checkpoints: Vec<Checkpoint>) -> Ended {
        let view = self.store.name();
        let progress = &self.runtime.progress;
        let mut applier = Applier::new(&self.store, &self.component, progress, &checkpoints);
        let mut reader = <S::Event as ViewEvent>::Reader::subscribe(
            &self.runtime.readers,
            &format!("view-{view}"),
            checkpoints,
        );
        let mut health = ReaderHealth {
            component: &self.component,
            halted: BTreeMap::new(),
            view,
            failure: RepeatedFailure::default(),
        };
        loop {
            match reader.next_update().await {
                Ok(Update::Batch(batch)) => {
                    health.recovered();
                    match applier.apply(batch).await {
                        Ok(()) => health.publish(),
                        Err(error @ StoreError::StaleCheckpoint { .. }) => {
                            return Ended::StaleCheckpoint(error);
                        }
                        Err(error) if error.failure() == Failure::TableMissing => {
                            return Ended::TableMissing(error);
                        }
                        Err(error) => return Ended::Stopped(error),
                    }
                }
                Ok(Update::Halted { partition, error }) => {
                    tracing::error!(view, partition, %error, "stopped reading a partition");
                    health.halted.insert(partition, error.to_string());
                    health.publish();
                }
                Ok(Update::Failing(error)) => health.failing(&error),
                Ok(Update::Recovered) => {
                    health.recovered();
                    health.publish();
                }
                Err(error) => return Ended::Reader(error),
            }
        }
    }
}

impl ReaderHealth<'_> {
    /// Reports an error that the reader retries.
    fn failing(&mut self, error: &ReadError) {
        self.component.not_ready(error.to_string());
        if self.failure.add() {
            let view = self.view;
            tracing::warn!(view, %error, "failed to read the journal, retrying");
        }
    }

    /// Ends the reader's failure.
    fn recovered(&mut self) {
        if let Some(over) = self.failure.end() {
            let (view, attempts, lasted) = (self.view, over.attempts, over.lasted.as_secs());
            tracing::info!(
                view,
                attempts,
                failed_for_s = lasted,
                "reading the journal again"
            );
        }
    }

    /// Reports the view as ready, or as not ready if a partition is halted.
    fn publish(&self) {
        match self.halted.values().next() {
            Some(reason) => self.component.not_ready(reason.clone()),
            None => self.component.ready(),
        }
    }
}
