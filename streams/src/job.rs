//! The job `revenue_by_country`: reads the journal, updates the windows, publishes the changed ones.
//!
//! One task alternates between reading and publishing, so a publication covers exactly the records read before it.
//! Transient errors are retried without a limit; an event that can't be added stops the job permanently.

use crate::{
    metrics as names,
    output::{Output, OutputError},
    reading::{ReadPosition, ReadinessReasons, Retry},
    series::Series,
    window::{JOB, Window},
    windows::WindowsError,
};
use journal::{Batch, ReadError, Readers, Source, Subscription, Update};
use kafka::{Admin, admin::AdminError};
use schemas::{ContextEvent, orders::Event, topics::PartitionCounts};
use service::{health::Component, progress::Progress};
use std::{collections::BTreeMap, pin::pin, time::Duration};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Time between two publications. All events of a window in this time are published as one record.
pub const PUBLISH_INTERVAL: Duration = Duration::from_millis(200);
/// Maximum number of records that are handed to the producer at once.
const PUBLISH_RECORDS_MAX: usize = 10_000;
/// The journal that the job reads.
const JOURNAL: &str = Event::CONTEXT.topic;

/// The ends of the job's results, by topic and partition.
type ResultsEnds = BTreeMap<(&'static str, i32), i64>;

/// The reason why the job can't continue.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The journal can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The journal's end offsets can't be fetched.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Results can't be published.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// An event can't be added to its windows: the job stops.
    #[error("{topic}/{partition}@{offset}: {source}")]
    Event {
        /// The journal's topic.
        topic: &'static str,
        /// The partition.
        partition: i32,
        /// The commit's offset.
        offset: i64,
        /// The reason.
        source: WindowsError,
    },
}

impl JobError {
    /// Whether no retry can succeed, because the same events give the same error.
    fn is_final(&self) -> bool {
        match self {
            Self::Event { .. } => true,
            Self::Read(_) | Self::Admin(_) | Self::Output(_) => false,
        }
    }

    /// Whether a retry may succeed without an operator's repair.
    fn is_transient(&self) -> bool {
        match self {
            Self::Read(error) => error.is_transient(),
            Self::Admin(error) => error.is_transient(),
            Self::Output(OutputError::Registry(error)) => error.is_transient(),
            Self::Output(OutputError::Codec { .. } | OutputError::Publish(_)) => false,
            Self::Event { .. } => false,
        }
    }
}

/// The job, ready to run.
pub struct Job {
    source: Source,
    readers: Readers,
    progress: Progress,
    series: Series,
    /// Number of partitions of the journal.
    partitions: i32,
    position: ReadPosition,
    /// The offset after the last published record, by topic and partition.
    results: ResultsEnds,
    readiness: ReadinessReasons,
    /// Whether records were read that are not published yet.
    is_behind: bool,
    open_retry: Retry,
    publish_retry: Retry,
    /// Whether the current outage of the journal was logged.
    is_outage_logged: bool,
}

impl Job {
    /// Creates a job that reads with the node's `readers`. It reports its readiness to `component`, and the
    /// offset in each journal partition up to which results are published to `progress`. Queries read its
    /// windows in `series`. `partitions` are the broker's counts.
    pub fn new(
        source: Source,
        readers: Readers,
        component: Component,
        progress: Progress,
        series: Series,
        partitions: &PartitionCounts,
    ) -> Self {
        let partitions = partitions.of(JOURNAL);
        // Nothing is read or published yet.
        for offsets in [&progress, series.applied()] {
            let nothing = (0..partitions).map(|partition| (JOURNAL, partition, 0));
            offsets.publish(JOB, nothing, []);
        }
        Self {
            source,
            readers,
            progress,
            series,
            partitions,
            position: ReadPosition::new(JOURNAL, partitions),
            results: ResultsEnds::new(),
            readiness: ReadinessReasons::new(component),
            is_behind: true,
            open_retry: Retry::new(),
            publish_retry: Retry::new(),
            is_outage_logged: false,
        }
    }

    /// Runs until `token` is cancelled, or until an event can't be added. In the second case the component
    /// stays not ready and queries are rejected, both with the reason. The job needs no cleanup, so it ends
    /// at once at any point.
    pub async fn run(mut self, token: CancellationToken) {
        token
            .run_until_cancelled_owned(self.run_until_stopped())
            .await;
        tracing::info!(job = JOB, "job ended");
    }

    async fn run_until_stopped(&mut self) {
        loop {
            let error = match self.open().await {
                Ok((reader, output)) => self.follow(reader, output).await,
                Err(error) => error,
            };
            if error.is_final() {
                tracing::error!(job = JOB, %error, "job stopped until the next restart");
                self.series.stop(error.to_string());
                self.readiness.halt(error.to_string());
                return;
            }
            if error.is_transient() {
                tracing::warn!(job = JOB, %error, "failed to read the journal, retrying");
            } else {
                tracing::error!(job = JOB, %error, "failed to read the journal, an operator must repair it, retrying");
            }
            self.readiness.set_read_error(Some(error.to_string()));
            self.open_retry.postpone();
            tokio::time::sleep_until(self.open_retry.due()).await;
        }
    }

    /// Starts reading at the position of the windows in memory, which is offset 0 at the job's start.
    async fn open(&mut self) -> Result<(Subscription<Event>, Output), JobError> {
        let output = Output::open(&self.source.kafka, &self.source.registry).await?;
        let ends = journal_ends(&self.source.admin, self.partitions).await?;
        self.position.set_ends(ends);
        let journal = self.readers.of::<Event>();
        Ok((journal.subscribe(JOB, self.position.starts()), output))
    }

    /// Alternates between reading and publishing, until it has to subscribe again.
    async fn follow(&mut self, mut journal: Subscription<Event>, mut output: Output) -> JobError {
        let mut ticks = tokio::time::interval(PUBLISH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Kept across ticks: a read that waits for the registry must not start over at each tick.
            let mut update = pin!(journal.next());
            let update = loop {
                tokio::select! {
                    update = &mut update => break update,
                    // The timer is off while there is nothing to publish.
                    _ = ticks.tick(), if self.is_behind => self.publish_if_due(&mut output).await,
                }
            };
            let outcome = match update {
                Ok(update) => self.take(update),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = outcome {
                return error;
            }
        }
    }

    fn take(&mut self, update: Update<Event>) -> Result<(), JobError> {
        match update {
            Update::Batch(batch) => return self.apply(batch),
            Update::Halted {
                topic,
                partition,
                error,
            } => {
                tracing::error!(job = JOB, topic, partition, %error, "stopped reading a partition");
                self.readiness.halt(error.to_string());
            }
            Update::Failing(error) => {
                if !std::mem::replace(&mut self.is_outage_logged, true) {
                    tracing::warn!(job = JOB, %error, "failed to read the journal, retrying");
                }
                self.readiness.set_read_error(Some(error.to_string()));
            }
            Update::Recovered => self.read_confirmed(),
        }
        Ok(())
    }

    /// Adds a batch to the windows.
    fn apply(&mut self, batch: Batch<Event>) -> Result<(), JobError> {
        let partition = batch.partition;
        let decisions = batch.commits.iter().filter_map(|commit| {
            let decision = commit.decision()?;
            Some((commit.offset, &decision.events))
        });
        let mut event_count = 0;
        self.series.update(|windows| {
            for (offset, events) in decisions {
                for event in events {
                    windows.apply(event).map_err(|source| JobError::Event {
                        topic: JOURNAL,
                        partition,
                        offset,
                        source,
                    })?;
                    event_count += 1;
                }
            }
            Ok::<(), JobError>(())
        })?;
        metrics::counter!(names::EVENTS, "job" => JOB).increment(event_count);
        let next_offset = batch.checkpoint.next_offset;
        self.position.advance(batch.checkpoint);
        let applied = self.series.applied();
        applied.set(JOB, JOURNAL, partition, next_offset);
        self.is_behind = true;
        self.read_confirmed();
        Ok(())
    }

    fn read_confirmed(&mut self) {
        self.is_outage_logged = false;
        self.open_retry.reset();
        self.readiness.set_read_error(None);
    }

    async fn publish_if_due(&mut self, output: &mut Output) {
        if !self.is_behind || !self.position.has_caught_up() || !self.publish_retry.is_due() {
            return;
        }
        self.series.caught_up();
        let started = Instant::now();
        match publish_changed(&self.series, output, &mut self.results).await {
            Ok(()) => {
                metrics::histogram!(names::PUBLISH_SECONDS, "job" => JOB)
                    .record(started.elapsed().as_secs_f64());
                self.is_behind = false;
                self.publish_retry.reset();
                self.readiness.set_publish_error(None);
                self.report_progress();
            }
            Err(error) => {
                tracing::warn!(job = JOB, %error, "failed to publish results, retrying");
                self.readiness.set_publish_error(Some(error.to_string()));
                output.replace_after(self.publish_retry.postpone());
            }
        }
    }

    /// Reports everything read as published. Call this after a publication, before reading on.
    fn report_progress(&self) {
        let read = self.position.next_offsets();
        let read = read.map(|(partition, next_offset)| (JOURNAL, partition, next_offset));
        let written = self.results.iter();
        let written = written.map(|((topic, partition), end)| (*topic, *partition, *end));
        self.progress.publish(JOB, read, written);
        for (partition, next_offset) in self.position.next_offsets() {
            #[expect(clippy::cast_precision_loss, reason = "gauges are f64; 2^53 is far")]
            metrics::gauge!(
                names::NEXT_OFFSET,
                "job" => JOB, "topic" => JOURNAL, "partition" => partition.to_string()
            )
            .set(next_offset as f64);
        }
        for window in Window::ALL {
            let count = self.series.count(window);
            #[expect(clippy::cast_precision_loss, reason = "gauges are f64; 2^53 is far")]
            metrics::gauge!(names::WINDOWS, "job" => JOB, "window" => window.name())
                .set(count as f64);
        }
    }
}

/// The current end offset of every partition of the journal.
async fn journal_ends(admin: &Admin, partitions: i32) -> Result<BTreeMap<i32, i64>, AdminError> {
    let mut ends = BTreeMap::new();
    for partition in 0..partitions {
        let watermarks = admin.watermarks(JOURNAL, partition).await?;
        ends.insert(partition, watermarks.high);
    }
    Ok(ends)
}

/// Publishes every changed window, and stores the ends of the results. Windows that are not published stay marked
/// as changed. The job reads nothing during this call, so the loop ends.
async fn publish_changed(
    series: &Series,
    output: &Output,
    results: &mut ResultsEnds,
) -> Result<(), OutputError> {
    for window in Window::ALL {
        loop {
            let changed =
                series.update(|windows| windows.take_changed(window, PUBLISH_RECORDS_MAX));
            if changed.is_empty() {
                break;
            }
            match output.publish(window, &changed).await {
                Ok(ends) => {
                    let topic = window.topic().name;
                    let ends = ends.into_iter();
                    results.extend(ends.map(|(partition, end)| ((topic, partition), end)));
                }
                Err(error) => {
                    series.update(|windows| windows.mark_changed(window, &changed));
                    let labels = [("job", JOB), ("window", window.name())];
                    metrics::counter!(names::PUBLISH_FAILURES, &labels).increment(1);
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka::{KafkaSettings, Registry, RegistrySettings};
    use service::health::Health;

    /// No server listens on port 1.
    fn unreachable() -> Source {
        let kafka = KafkaSettings {
            brokers: "127.0.0.1:1".into(),
            ..KafkaSettings::default()
        };
        let registry = RegistrySettings {
            url: "http://127.0.0.1:1".into(),
            ..RegistrySettings::default()
        };
        Source {
            admin: Admin::new(&kafka).unwrap(),
            registry: Registry::new(&registry).unwrap(),
            kafka,
        }
    }

    #[tokio::test]
    async fn a_job_retries_without_servers_and_ends_when_cancelled() {
        let (health, token) = (Health::default(), CancellationToken::new());
        let source = unreachable();
        let job = Job::new(
            source.clone(),
            Readers::new(source),
            health.component("job"),
            Progress::default(),
            Series::default(),
            &PartitionCounts::uniform(3),
        );
        let task = tokio::spawn(job.run(token.clone()));
        let reports_the_registry = async {
            while !health.readiness().components["job"].contains("http://127.0.0.1:1") {
                tokio::task::yield_now().await;
            }
        };
        let second = Duration::from_secs(1);
        tokio::time::timeout(10 * second, reports_the_registry)
            .await
            .unwrap();
        assert!(!task.is_finished());
        token.cancel();
        tokio::time::timeout(second, task).await.unwrap().unwrap();
    }
}
