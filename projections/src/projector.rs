//! The projector: applies the events of one build to its database until it is stopped.
//!
//! It retries every failure of the database, and readiness names the current one. An event that can't be applied parks
//! its aggregate. Partitions are applied concurrently and in no order, each with its own checkpoint. Near the end of
//! the log, a journal's views and jobs share one reader.

mod holds;
mod work;

use self::{
    holds::Holds,
    work::{Finished, Job, REQUESTS_MAX, Reading, Work},
};
use crate::{
    applier::{Applier, ReleaseError, Reports, within_timeout},
    builds::Build,
    lag::{Lags, Stop},
    metrics as names,
    parking::{Marks, ParkedKey, ParkedKeys},
    repeated_failure::RepeatedFailure,
    status::{Cause, Status},
    store::{Failure, Opened, Store, StoreError},
    view::{EventReader, Partition, ViewEvent},
};
use journal::{ReadError, Readers, Source, Update};
use metrics::counter;
use schemas::topics::PartitionCounts;
use service::{health::Health, progress::Progress};
use sqlx::PgPool;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// After a projector has run for this time, the waits after its failures start from the shortest one again.
const SETTLED_TIME: Duration = Duration::from_secs(10);
/// First wait of a projector that another one has overtaken.
const CONFLICT_WAIT_MIN: Duration = Duration::from_millis(100);
/// Longest wait of a projector that another one has overtaken, without jitter. If both wait at once, nobody moves the
/// view, while queries wait for it only 2 s.
const CONFLICT_WAIT_MAX: Duration = Duration::from_millis(500);
/// Maximum number of batches of one build that wait for the batch before them. A batch has at most `BATCH_COMMITS_MAX`
/// commits.
const BATCHES_WAITING_MAX: usize = 4;

/// The resources that all projectors of a process share.
#[derive(Clone)]
pub struct Runtime {
    /// The journals.
    pub readers: Readers,
    /// Reads parked commits again.
    pub source: Source,
    /// The partitions of each journal.
    pub partitions: PartitionCounts,
    /// Each build that answers queries reports its readiness here.
    pub health: Health,
    /// Each build reports its applied position here.
    pub progress: Progress,
    /// Ends every projector, between or within batches.
    pub shutdown: CancellationToken,
    /// Owns the projectors' tasks.
    pub tasks: TaskTracker,
}

/// A build's part of the log, and its name among the readers of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The partitions that this process projects.
    pub partitions: Vec<Partition>,
    /// The name of the build in readiness and progress: the name of its view if the build serves.
    pub reader: String,
}

/// A running projector.
pub struct Running {
    /// Stops the projector.
    stop: CancellationToken,
    task: JoinHandle<()>,
    requests: mpsc::Sender<ParkedKey>,
    reader: String,
}

/// The name of the component that reports a build's readiness.
pub(crate) fn component(reader: &str) -> String {
    format!("view.{reader}")
}

impl Runtime {
    /// Starts the projector of a build, as a task of its own.
    pub(crate) fn project<S: Store>(
        &self,
        store: S,
        share: Share,
        postgres: PgPool,
        marks: &Marks,
        lags: &Lags,
    ) -> Running {
        // Only the serving build counts for readiness, because clients don't use the other builds. While another build
        // takes over the queries, the readiness of the view stays as it was.
        let answers_queries = share.reader == store.build().view;
        let component = answers_queries.then(|| self.health.continued(component(&share.reader)));
        // Until its checkpoints are read, a build counts as not caught up.
        let partitions = share.partitions.iter();
        let nothing = partitions.map(|(topic, partition)| (*topic, *partition, 0));
        self.progress.publish(&share.reader, nothing, []);
        let stop = self.shutdown.child_token();
        let (requests, received) = mpsc::channel(REQUESTS_MAX);
        let reader = share.reader.clone();
        let projector = Projector {
            name: format!("view-{}", share.reader),
            reports: Reports {
                status: Arc::new(Status::new(component)),
                progress: self.progress.clone(),
                reader: share.reader.as_str().into(),
                lags: lags.clone(),
                marks: marks.clone(),
            },
            store: Arc::new(store),
            partitions: share.partitions,
            runtime: self.clone(),
            postgres,
        };
        let stopped = stop.clone();
        let task = self.tasks.spawn(async move {
            // Safe to drop at any point: uncommitted batches are read and applied again.
            stopped.run_until_cancelled(projector.run(received)).await;
        });
        Running {
            stop,
            task,
            requests,
            reader,
        }
    }
}

impl Running {
    /// Asks for another attempt to apply a parked key's commits. The request is dropped if too many requests wait; the
    /// caller repeats it.
    pub fn request(&self, key: ParkedKey) {
        if let Err(error) = self.requests.try_send(key) {
            tracing::debug!(%error, "dropped a request for a parked key, the supervisor repeats it");
        }
    }

    /// Whether the projector's task has ended.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Stops the projector, and waits until its task has ended.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(reader = self.reader, %error, "the projector failed");
        }
    }
}

/// The workers of a build. A worker returns its partition's applier, and its result or its error.
type Workers<S> = JoinSet<(
    Applier<S>,
    Result<Finished<<S as Store>::Event>, StoreError>,
)>;

struct Projector<S> {
    /// Names its readers of the log.
    name: String,
    store: Arc<S>,
    partitions: Vec<Partition>,
    runtime: Runtime,
    reports: Reports,
    postgres: PgPool,
}

/// The reason why the projector must resume from the stored checkpoints.
enum Ended {
    /// The store must be opened again.
    Store(StoreError),
    /// This reader can't read the log any further.
    Reader(ReadError),
    /// A worker panicked.
    Worker(tokio::task::JoinError),
    /// A partition that waited for an operator, and was not read meanwhile, continues.
    Continued,
}

impl<S: Store> Projector<S> {
    async fn run(&self, mut requests: mpsc::Receiver<ParkedKey>) {
        let build = self.store.build();
        let (view, number) = (build.view, build.number);
        let mut waits = service::Backoff::for_server();
        let mut conflict_waits =
            service::Backoff::doubling(CONFLICT_WAIT_MIN, CONFLICT_WAIT_MAX).jittered();
        let mut holds = Holds::new([]);
        loop {
            let begun = Instant::now();
            let ended = match self.open_store().await {
                Ok(opened) => self.apply_after(opened, &mut holds, &mut requests).await,
                Err(ended) => ended,
            };
            let mut wait = None;
            match ended {
                Ended::Store(error @ StoreError::StaleCheckpoint { .. }) => {
                    tracing::warn!(view, build = number, %error, "another projector is ahead, continuing after it");
                    wait = Some(conflict_waits.wait());
                }
                Ended::Store(error @ StoreError::Dropped { .. }) => {
                    tracing::info!(view, build = number, %error, "the build is not projected any more");
                    return;
                }
                Ended::Store(error) => {
                    tracing::warn!(view, build = number, %error, "failed to apply events, opening the build again");
                    self.reports.status.set(Cause::Store, error.to_string());
                }
                Ended::Continued => {
                    // This is not a failure, so the next wait is the shortest one. After an operator's repair, many
                    // partitions may continue, one after the other.
                    waits = service::Backoff::for_server();
                    tracing::info!(
                        view,
                        build = number,
                        "a partition that waited for an operator continues"
                    );
                }
                Ended::Reader(error) => {
                    if is_checkpoint_refused(&error) {
                        let labels = [("view", view.to_owned()), ("build", number.to_string())];
                        counter!(names::CHECKPOINTS_REFUSED, &labels).increment(1);
                    }
                    self.reports.status.set(Cause::Reader, error.to_string());
                    tracing::error!(view, build = number, %error, "failed to read the journal, retrying");
                }
                Ended::Worker(error) => {
                    self.reports.status.set(Cause::Store, error.to_string());
                    tracing::error!(view, build = number, %error, "a projector's worker failed, retrying");
                }
            }
            if begun.elapsed() > SETTLED_TIME {
                waits.reset();
                conflict_waits.reset();
            }
            tokio::time::sleep(wait.unwrap_or_else(|| waits.wait())).await;
            self.reports.status.restart(&holds.causes());
        }
    }

    /// Opens the store; retries without a limit, unless the build is dropped.
    async fn open_store(&self) -> Result<Opened, Ended> {
        let build = self.store.build();
        let (view, number) = (build.view, build.number);
        let (mut waits, mut failure) = (service::Backoff::for_server(), RepeatedFailure::default());
        loop {
            let error = match within_timeout(build, self.store.open(&self.partitions)).await {
                Ok(opened) => {
                    if let Some(over) = failure.end() {
                        let (attempts, lasted) = (over.attempts, over.lasted.as_secs());
                        tracing::info!(
                            view,
                            build = number,
                            attempts,
                            failed_for_s = lasted,
                            "opened the build"
                        );
                    }
                    return Ok(opened);
                }
                Err(error @ StoreError::Dropped { .. }) => return Err(Ended::Store(error)),
                Err(error) => error,
            };
            self.reports.status.set(Cause::Store, error.to_string());
            if failure.add() {
                tracing::warn!(view, build = number, %error, "failed to open the build, retrying");
            } else {
                tracing::debug!(view, build = number, %error, "failed to open the build, retrying");
            }
            tokio::time::sleep(waits.wait()).await;
        }
    }

    /// Applies the events after the checkpoints until an error requires a restart. `holds` has the partitions that wait
    /// for an operator; it is updated before the return.
    async fn apply_after(
        &self,
        opened: Opened,
        holds: &mut Holds<S::Event>,
        requests: &mut mpsc::Receiver<ParkedKey>,
    ) -> Ended {
        let mut reader = <S::Event as ViewEvent>::Reader::subscribe(
            &self.runtime.readers,
            &self.name,
            opened.checkpoints.clone(),
        );
        let mut work = self.work(opened, holds);
        for cause in holds.causes() {
            // The stored checkpoint differs from the hold's, so the partition is read from the stored one.
            self.reports.status.clear(&cause);
        }
        for (topic, partition) in work.paused() {
            reader.pause_partition(topic, *partition);
        }
        // The store is open. On an idle journal, no batch would show this.
        self.reports.status.clear(&Cause::Store);
        if self.partitions.is_empty() {
            std::future::pending::<()>().await;
        }
        let ended = self.apply(&mut work, &mut reader, requests).await;
        *holds = work.into_holds();
        ended
    }

    /// Applies the reader's batches until an error requires a restart. Then it ends the workers.
    async fn apply(
        &self,
        work: &mut Work<S>,
        reader: &mut <S::Event as ViewEvent>::Reader,
        requests: &mut mpsc::Receiver<ParkedKey>,
    ) -> Ended {
        let mut workers = Workers::new();
        let mut health = ReaderHealth {
            status: &self.reports.status,
            name: &self.name,
            failure: RepeatedFailure::default(),
        };
        loop {
            self.start_workers(work, &mut workers);
            let retry_at = work.next_retry();
            tokio::select! {
                finished = workers.join_next(), if !workers.is_empty() => {
                    let Some(finished) = finished else { continue };
                    match finished {
                        Ok((applier, Ok(finished))) => match work.finished(applier, finished) {
                            Reading::Continues => {}
                            Reading::Pauses((topic, partition)) => reader.pause_partition(&topic, partition),
                            Reading::Restarts => return Ended::Continued,
                        },
                        Ok((_, Err(error))) => return Ended::Store(error),
                        Err(error) => return Ended::Worker(error),
                    }
                }
                () = sleep_until(retry_at) => {}
                Some(key) = requests.recv() => work.request(key),
                update = reader.next_update(), if work.waiting() < BATCHES_WAITING_MAX => match update {
                    Ok(Update::Batch(batch)) => {
                        health.recovered();
                        work.add(batch);
                    }
                    Ok(Update::Halted { topic, partition, error }) => {
                        tracing::error!(reader = self.name, topic, partition, %error, "stopped reading a partition");
                        let lags = &self.reports.lags;
                        lags.stops(self.store.build(), topic, partition, Stop::Halted);
                        let cause = Cause::Halted(topic.to_owned(), partition);
                        self.reports.status.set(cause, error.to_string());
                    }
                    Ok(Update::Failing(error)) => health.failing(&error),
                    Ok(Update::Recovered) => health.recovered(),
                    Err(error) => return Ended::Reader(error),
                },
            }
        }
    }

    fn work(&self, opened: Opened, holds: &mut Holds<S::Event>) -> Work<S> {
        let mut parked: BTreeMap<(String, i32), Vec<String>> = BTreeMap::new();
        for key in opened.parked {
            let partition = (key.topic, key.partition);
            parked.entry(partition).or_default().push(key.key);
        }
        let applier = |checkpoint: journal::Checkpoint| {
            let partition = (checkpoint.topic.clone(), checkpoint.partition);
            let keys = parked.remove(&partition).unwrap_or_default();
            Applier::new(
                self.store.clone(),
                self.reports.clone(),
                checkpoint,
                ParkedKeys::new(keys),
            )
        };
        Work::new(opened.checkpoints.into_iter().map(applier), holds)
    }

    /// Starts a worker for every partition that has work and no worker.
    fn start_workers(&self, work: &mut Work<S>, workers: &mut Workers<S>) {
        for job in work.due() {
            match job {
                Job::Apply(mut applier, batch) => {
                    workers.spawn(async move {
                        let applied = applier.apply(*batch).await;
                        (applier, applied.map(Finished::Batch))
                    });
                }
                Job::Resume(mut applier, batch) => {
                    workers.spawn(async move {
                        let applied = applier.resume(batch).await;
                        (applier, applied.map(Finished::Batch))
                    });
                }
                Job::Release(mut applier, key) => {
                    let (source, postgres) = (self.runtime.source.clone(), self.postgres.clone());
                    let Build { view, number } = self.store.build();
                    workers.spawn(async move {
                        let finished = match applier.release(&key, &source, &postgres).await {
                            Ok(()) => Ok(Finished::Request),
                            // On an idle journal, no batch would find the loss.
                            Err(ReleaseError::Store(error))
                                if error.failure() == Some(Failure::TableMissing) =>
                            {
                                Err(error)
                            }
                            Err(error) => {
                                let key = &key.key;
                                tracing::warn!(
                                    view, build = number, key, %error,
                                    "failed to apply a parked aggregate, retrying"
                                );
                                Ok(Finished::Request)
                            }
                        };
                        (applier, finished)
                    });
                }
            }
        }
    }
}

/// Whether the log does not have the last record of a stored checkpoint.
fn is_checkpoint_refused(error: &ReadError) -> bool {
    match error {
        ReadError::Probe(_) | ReadError::LogTooShort { .. } => true,
        ReadError::Alarm(_)
        | ReadError::Unreadable { .. }
        | ReadError::Consumer(_)
        | ReadError::Admin(_)
        | ReadError::Codec { .. } => false,
    }
}

/// Sleeps until `time`. Without a time, it never returns.
async fn sleep_until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Reports the failures of the reader as a part of the build's readiness.
struct ReaderHealth<'a> {
    status: &'a Status,
    name: &'a str,
    failure: RepeatedFailure,
}

impl ReaderHealth<'_> {
    /// Reports an error that the reader retries.
    fn failing(&mut self, error: &ReadError) {
        self.status.set(Cause::Reader, error.to_string());
        if self.failure.add() {
            let reader = self.name;
            tracing::warn!(reader, %error, "failed to read the journal, retrying");
        }
    }

    /// Reports that the reader has recovered.
    fn recovered(&mut self) {
        if let Some(over) = self.failure.end() {
            let (reader, attempts, lasted) = (self.name, over.attempts, over.lasted.as_secs());
            tracing::info!(
                reader,
                attempts,
                failed_for_s = lasted,
                "reading the journal again"
            );
        }
        self.status.clear(&Cause::Reader);
    }
}
