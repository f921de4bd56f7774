//! The projector: applies the journals of one view to it until shutdown.
//!
//! It retries transient errors, and readiness names the current one. A batch that can't be applied
//! stops the view, because skipping it would lose events. There is no order between partitions: each has its own
//! checkpoint.

use crate::{
    applier::{Applier, within_timeout},
    metrics as names,
    repeated_failure::RepeatedFailure,
    store::{Failure, Store, StoreError},
    view::{EventReader, ViewEvent},
};
use journal::{Batch, Checkpoint, ReadError, Source};
use metrics::gauge;
use schemas::topics::PartitionCounts;
use service::{
    health::{Component, Health},
    progress::Progress,
};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Time without an error that must follow an error of the log before the view counts as ready. A
/// log that the checkpoint was not taken from shows within this time.
const CALM_TIME: Duration = Duration::from_secs(5);

/// The parts that all projectors of a node share.
#[derive(Clone)]
pub struct Runtime {
    /// The journals.
    pub source: Source,
    /// The partitions of each journal.
    pub partitions: PartitionCounts,
    /// Where each view reports whether it is applied.
    pub health: Health,
    /// Where each view reports how far it is applied.
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
        // A view whose checkpoints are not read yet counts as not caught up.
        for topic in S::Event::TOPICS {
            for partition in 0..self.partitions.of(topic) {
                self.progress.set(store.name(), topic, partition, 0);
            }
        }
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

/// Why the projector must begin again from the stored checkpoints, or end.
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
    /// The log gave an error, and has not been seen without one since.
    is_failing: AtomicBool,
    view: &'static str,
    failure: Mutex<RepeatedFailure>,
}

impl<S: Store> Projector<S> {
    async fn run(&self) {
        let view = self.store.name();
        let mut waits = service::Backoff::for_server();
        let mut is_failing = false;
        loop {
            let begun = Instant::now();
            let checkpoints = self.open_store().await;
            match self.apply_after(checkpoints, is_failing).await {
                Ended::StaleCheckpoint(error) => {
                    tracing::warn!(view, %error, "another projector is ahead, resuming after it");
                    is_failing = false;
                }
                Ended::TableMissing(error) => {
                    tracing::warn!(view, %error, "a table is missing, opening the view again");
                    self.component.not_ready(error.to_string());
                    is_failing = false;
                }
                Ended::Reader(error) => {
                    self.component.not_ready(error.to_string());
                    is_failing = !error.is_transient();
                    if is_failing {
                        tracing::error!(view, %error, "failed to read the journal, retrying");
                    }
                }
                Ended::Stopped(error) => {
                    tracing::error!(view, %error, "view stopped until the next restart");
                    gauge!(names::STOPPED, "view" => view).set(1);
                    self.component.not_ready(format!("stopped: {error}"));
                    return;
                }
            }
            if begun.elapsed() > 2 * CALM_TIME {
                waits = service::Backoff::for_server();
            }
            tokio::time::sleep(waits.wait()).await;
        }
    }

    /// Waits for the database without a limit; an operator may repair the cause.
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

    /// Applies what follows on the checkpoints, until that is no longer possible.
    async fn apply_after(&self, checkpoints: Vec<Checkpoint>, is_failing: bool) -> Ended {
        let progress = &self.runtime.progress;
        let mut applier = Applier::new(&self.store, &self.component, progress, &checkpoints);
        let role = format!("view-{}", self.store.name());
        let opening =
            <S::Event as ViewEvent>::Reader::open(&self.runtime.source, &role, checkpoints);
        let mut reader = match opening.await {
            Ok(reader) => reader,
            Err(error) => return Ended::Reader(error),
        };
        let mut health = ReaderHealth {
            component: &self.component,
            halted: BTreeMap::new(),
            is_failing: AtomicBool::new(is_failing),
            view: self.store.name(),
            failure: Mutex::default(),
        };
        health.publish();
        loop {
            let batch = match self.read(&mut reader, &mut health).await {
                Ok(Some(batch)) => batch,
                Ok(None) => continue,
                Err(error) => return Ended::Reader(error),
            };
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
    }

    /// The next batch; `None` if only the reader's health changed.
    async fn read(
        &self,
        reader: &mut <S::Event as ViewEvent>::Reader,
        health: &mut ReaderHealth<'_>,
    ) -> Result<Option<Batch<S::Event>>, ReadError> {
        let reported = &*health;
        let read = tokio::select! {
            read = reader.next_batch(|error| reported.report(error)) => Some(read),
            () = self.calm_after_error(reported) => None,
        };
        match read {
            Some(Ok(batch)) => Ok(Some(batch)),
            Some(Err(error)) => match error.halted_partition() {
                Some(partition) => {
                    let view = self.store.name();
                    tracing::error!(view, partition, %error, "stopped reading a partition");
                    health.halted.insert(partition, error.to_string());
                    health.publish();
                    Ok(None)
                }
                None => Err(error),
            },
            None => {
                health.report(None);
                health.publish();
                Ok(None)
            }
        }
    }

    /// Returns once the brokers answer again after an error; never without an error. A log that
    /// nothing is appended to gives no batch that would show the end of it.
    async fn calm_after_error(&self, health: &ReaderHealth<'_>) {
        loop {
            tokio::time::sleep(CALM_TIME).await;
            if health.is_failing.load(Ordering::Relaxed) && self.journals_answer().await {
                return;
            }
        }
    }

    /// Whether the brokers answer for every journal of the view.
    async fn journals_answer(&self) -> bool {
        let Runtime {
            source, partitions, ..
        } = &self.runtime;
        for topic in S::Event::TOPICS {
            let last_partition = partitions.of(topic) - 1;
            if source
                .admin
                .watermarks(topic, last_partition)
                .await
                .is_err()
            {
                return false;
            }
        }
        true
    }
}

impl ReaderHealth<'_> {
    /// Takes over an error that the reader waits out, or the end of it.
    fn report(&self, error: Option<&ReadError>) {
        self.is_failing.store(error.is_some(), Ordering::Relaxed);
        let view = self.view;
        let mut failure = self.failure.lock().expect("no holder of this lock panics");
        match error {
            Some(error) => {
                self.component.not_ready(error.to_string());
                if failure.add() {
                    tracing::warn!(view, %error, "failed to read the journal, retrying");
                }
            }
            None => {
                if let Some(over) = failure.end() {
                    let (attempts, lasted) = (over.attempts, over.lasted.as_secs());
                    tracing::info!(
                        view,
                        attempts,
                        failed_for_s = lasted,
                        "reading the journal again"
                    );
                }
            }
        }
    }

    /// Makes readiness show this health.
    fn publish(&self) {
        match self.halted.values().next() {
            Some(reason) => self.component.not_ready(reason.clone()),
            None if self.is_failing.load(Ordering::Relaxed) => {}
            None => self.component.ready(),
        }
    }
}
