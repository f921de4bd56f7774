//! The projector: posts one journal into one view, for ever.
//!
//! What waiting mends it waits out, and says so in readiness; a batch that can't be posted stops the
//! view, for skipping is never right. Partitions come in no order among each other: each has a
//! checkpoint of its own.

use crate::{
    metrics as names,
    store::{POST_TIMEOUT, PostError, Store},
};
use journal::{Batch, Checkpoint, ReadError, Reader, Source};
use metrics::{counter, gauge, histogram};
use schemas::{ContextEvent, topics::PARTITIONS};
use service::{
    health::{Component, Health},
    progress::Progress,
};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long after trouble with the log it must have been calm before the view counts as ready. A
/// log that is not the checkpoint's shows itself well within this time.
const CALM_TIME: Duration = Duration::from_secs(5);

/// What every projector of a process shares.
#[derive(Clone)]
pub struct Runtime {
    /// The journals.
    pub source: Source,
    /// Where each view says whether it is posted.
    pub health: Health,
    /// Where each view says how far it is posted.
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
        // Until it has said how far it is, it is nowhere.
        for partition in 0..PARTITIONS {
            self.progress
                .set(store.name(), S::Event::CONTEXT.topic, partition, 0);
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
            // Dropping it anywhere is safe: what was not committed is read and posted again.
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
    Overtaken(PostError),
    /// The log can't be read on with this reader.
    Reader(ReadError),
    /// The batch can't be posted, whatever we wait for.
    Stopped(PostError),
}

/// What the readiness of a running projector depends on.
struct Standing<'a> {
    component: &'a Component,
    /// Partitions that are read no further, and why.
    halted: BTreeMap<i32, String>,
    /// The log gives trouble, or gave it and has not been seen calm since.
    is_troubled: AtomicBool,
}

impl<S: Store> Projector<S> {
    fn topic(&self) -> &'static str {
        S::Event::CONTEXT.topic
    }

    async fn run(&self) {
        let view = self.store.name();
        let mut waits = service::backoff();
        let mut is_troubled = false;
        loop {
            let begun = Instant::now();
            let checkpoints = self.open_store().await;
            match self.post_after(checkpoints, is_troubled).await {
                Ended::Overtaken(error) => {
                    tracing::warn!(view, %error, "going on after the other projector");
                    is_troubled = false;
                }
                Ended::Reader(error) => {
                    self.component.not_ready(error.to_string());
                    is_troubled = !error.is_transient();
                    if is_troubled {
                        tracing::error!(view, %error, "the journal can't be read; trying again");
                    }
                }
                Ended::Stopped(error) => {
                    tracing::error!(view, %error, "stopped; it goes on after a restart");
                    gauge!(names::STOPPED, "view" => view).set(1);
                    self.component.not_ready(format!("stopped: {error}"));
                    return;
                }
            }
            if begun.elapsed() > 2 * CALM_TIME {
                waits = service::backoff();
            }
            tokio::time::sleep(waits.next().unwrap_or(CALM_TIME)).await;
        }
    }

    /// Waits for the database, however long; whatever it refuses, an operator may mend.
    async fn open_store(&self) -> Vec<Checkpoint> {
        let mut waits = service::backoff();
        loop {
            let error = match within_time(self.store.name(), self.store.open()).await {
                Ok(checkpoints) => return checkpoints,
                Err(error) => error,
            };
            self.component.not_ready(error.to_string());
            tracing::debug!(view = self.store.name(), %error, "the view can't be opened yet");
            tokio::time::sleep(waits.next().unwrap_or(CALM_TIME)).await;
        }
    }

    /// Posts what follows on the checkpoints, until that can't go on.
    async fn post_after(&self, checkpoints: Vec<Checkpoint>, is_troubled: bool) -> Ended {
        for checkpoint in &checkpoints {
            self.tell_progress(checkpoint);
        }
        let role = format!("view-{}", self.store.name());
        let opened = Reader::<S::Event>::open(&self.runtime.source, &role, checkpoints).await;
        let mut reader = match opened {
            Ok(reader) => reader,
            Err(error) => return Ended::Reader(error),
        };
        let mut standing = Standing {
            component: &self.component,
            halted: BTreeMap::new(),
            is_troubled: AtomicBool::new(is_troubled),
        };
        standing.tell();
        loop {
            let batch = match self.read(&mut reader, &mut standing).await {
                Ok(Some(batch)) => batch,
                Ok(None) => continue,
                Err(error) => return Ended::Reader(error),
            };
            match self.post(&batch).await {
                Ok(()) => standing.tell(),
                Err(error @ PostError::Overtaken { .. }) => return Ended::Overtaken(error),
                Err(error) => return Ended::Stopped(error),
            }
        }
    }

    /// The next batch; `None` when there is none, but the standing changed.
    async fn read(
        &self,
        reader: &mut Reader<S::Event>,
        standing: &mut Standing<'_>,
    ) -> Result<Option<Batch<S::Event>>, ReadError> {
        let heard = &*standing;
        let read = tokio::select! {
            read = reader.next_patiently(|trouble| heard.hear(trouble)) => Some(read),
            () = self.calm_after_trouble(heard) => None,
        };
        match read {
            Some(Ok(batch)) => Ok(Some(batch)),
            Some(Err(error)) => match error.halted_partition() {
                Some(partition) => {
                    let view = self.store.name();
                    tracing::error!(view, partition, %error, "a partition is read no further");
                    standing.halted.insert(partition, error.to_string());
                    standing.tell();
                    Ok(None)
                }
                None => Err(error),
            },
            None => {
                standing.hear(None);
                standing.tell();
                Ok(None)
            }
        }
    }

    /// Returns once the brokers answer after trouble; never if there is none. A quiet log gives no
    /// batch that would show the end of it.
    async fn calm_after_trouble(&self, standing: &Standing<'_>) {
        let admin = &self.runtime.source.admin;
        loop {
            tokio::time::sleep(CALM_TIME).await;
            if standing.is_troubled.load(Ordering::Relaxed)
                && admin.watermarks(self.topic(), PARTITIONS - 1).await.is_ok()
            {
                return;
            }
        }
    }

    /// Posts one batch, trying again for ever where that may help.
    async fn post(&self, batch: &Batch<S::Event>) -> Result<(), PostError> {
        let view = self.store.name();
        let events = event_count(batch);
        counter!(names::EVENTS_READ, "view" => view).increment(events);
        let mut waits = service::backoff();
        loop {
            let begun = Instant::now();
            let error = match within_time(view, self.store.post(batch)).await {
                Ok(()) => {
                    histogram!(names::POST_SECONDS, "view" => view).record(begun.elapsed());
                    counter!(names::EVENTS_APPLIED, "view" => view).increment(events);
                    self.tell_progress(&batch.checkpoint);
                    return Ok(());
                }
                Err(error) => error,
            };
            let (partition, from) = (batch.partition, batch.from);
            if let PostError::Overtaken { .. } = error {
                counter!(names::EVENTS_LEFT, "view" => view).increment(events);
                return Err(error);
            }
            if !error.is_transient() {
                tracing::error!(view, partition, from, %error, "a batch can't be posted");
                return Err(error);
            }
            tracing::debug!(view, partition, from, %error, "a batch was not posted yet");
            counter!(names::POST_RETRIES, "view" => view).increment(1);
            self.component.not_ready(error.to_string());
            tokio::time::sleep(waits.next().unwrap_or(CALM_TIME)).await;
        }
    }

    fn tell_progress(&self, checkpoint: &Checkpoint) {
        let (view, partition) = (self.store.name(), checkpoint.partition);
        let next_offset = checkpoint.next_offset;
        self.runtime
            .progress
            .set(view, self.topic(), partition, next_offset);
        gauge!(names::NEXT_OFFSET, "view" => view, "partition" => partition.to_string())
            .set(next_offset as f64);
    }
}

impl Standing<'_> {
    /// What the reader says of its waiting: trouble, or the end of it.
    fn hear(&self, trouble: Option<&ReadError>) {
        self.is_troubled.store(trouble.is_some(), Ordering::Relaxed);
        if let Some(error) = trouble {
            self.component.not_ready(error.to_string());
        }
    }

    /// Makes readiness say how things are.
    fn tell(&self) {
        match self.halted.values().next() {
            Some(reason) => self.component.not_ready(reason.clone()),
            None if self.is_troubled.load(Ordering::Relaxed) => {}
            None => self.component.ready(),
        }
    }
}

async fn within_time<T>(
    view: &'static str,
    work: impl Future<Output = Result<T, PostError>>,
) -> Result<T, PostError> {
    tokio::time::timeout(POST_TIMEOUT, work)
        .await
        .unwrap_or(Err(PostError::TimedOut { view }))
}

fn event_count<E: ContextEvent>(batch: &Batch<E>) -> u64 {
    let decisions = batch.commits.iter().filter_map(|commit| commit.decision());
    decisions.map(|decision| decision.events.len() as u64).sum()
}
