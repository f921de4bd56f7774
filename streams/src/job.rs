//! The job `revenue_by_country`: reads the journal, keeps the windows, publishes what changes.
//!
//! One task does all of it in turns, so a publication covers exactly what was read before it. What
//! waiting may mend is tried again for ever; an event that can't be added stops the job for good.

use crate::{
    metrics as names,
    output::{Output, OutputError},
    reading::{Hindrances, Reading, Retry},
    series::Series,
    window::Window,
    windows::WindowsError,
};
use journal::{Batch, ReadError, Reader, Source};
use kafka::{Admin, admin::AdminError};
use schemas::{ContextEvent, orders::Event, topics::PARTITIONS};
use service::{health::Component, progress::Progress};
use std::{collections::BTreeMap, pin::pin, time::Duration};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// The job's name.
pub const JOB: &str = "revenue_by_country";
/// How often windows that changed are published. Within it, many events of a window cost one record.
pub const PUBLISH_INTERVAL: Duration = Duration::from_millis(200);
/// Records handed to the producer at once.
const PUBLISH_RECORDS_MAX: usize = 10_000;
/// The journal that the job reads.
const JOURNAL: &str = Event::CONTEXT.topic;

/// Why the job does not go on.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The journal can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The journal can't be measured.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Nothing can be published.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// An event can't be added to its windows: the job stops.
    #[error("{topic}/{partition}@{offset}: {source}")]
    Event {
        /// The journal.
        topic: &'static str,
        /// Its partition.
        partition: i32,
        /// The commit's offset.
        offset: i64,
        /// Why not.
        source: WindowsError,
    },
}

impl JobError {
    /// Whether another try can't help: reading the same events gives the same error.
    fn is_final(&self) -> bool {
        match self {
            Self::Event { .. } => true,
            Self::Read(_) | Self::Admin(_) | Self::Output(_) => false,
        }
    }

    /// Whether waiting may mend it, without anybody's help.
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
    progress: Progress,
    series: Series,
    reading: Reading,
    hindrances: Hindrances,
    /// Something was read that no publication covers yet.
    is_behind: bool,
    reads: Retry,
    looks: Retry,
    publications: Retry,
    /// Whether reading goes well is in doubt: the reader is new, or the brokers were away when it
    /// last heard of them.
    in_doubt: bool,
}

impl Job {
    /// A job that will tell `component` whether it does its work, and `progress` what is published:
    /// everything of a journal partition before the offset.
    pub fn new(source: Source, component: Component, progress: Progress) -> Self {
        // Until it has said how far it is, it is nowhere.
        for partition in 0..PARTITIONS {
            progress.set(JOB, JOURNAL, partition, 0);
        }
        Self {
            source,
            progress,
            series: Series::default(),
            reading: Reading::new(JOURNAL, PARTITIONS),
            hindrances: Hindrances::new(component),
            is_behind: true,
            reads: Retry::new(),
            looks: Retry::new(),
            publications: Retry::new(),
            in_doubt: false,
        }
    }

    /// The job's windows, for queries.
    pub fn series(&self) -> Series {
        self.series.clone()
    }

    /// Works until `token` is cancelled, or until an event can't be added: then it returns too, the
    /// component stays not ready and queries are refused, both with the reason. Nothing needs to be
    /// put in order at the end, so it ends at once, wherever it is.
    pub async fn run(mut self, token: CancellationToken) {
        token.run_until_cancelled_owned(self.work()).await;
        tracing::info!(job = JOB, "the job has ended");
    }

    async fn work(&mut self) {
        loop {
            let error = match self.open().await {
                Ok((reader, output)) => self.follow(reader, output).await,
                Err(error) => error,
            };
            if error.is_final() {
                tracing::error!(job = JOB, %error, "the job stops");
                self.series.stop(error.to_string());
                self.hindrances.halt(error.to_string());
                return;
            }
            if error.is_transient() {
                tracing::warn!(job = JOB, %error, "the job can't read yet; it tries again");
            } else {
                tracing::error!(job = JOB, %error, "the job can't read; it tries again");
            }
            self.hindrances.set_reading(Some(error.to_string()));
            self.reads.put_off();
            tokio::time::sleep_until(self.reads.due()).await;
        }
    }

    /// Begins to read where the windows in memory end: at offset 0 when they are none.
    async fn open(&mut self) -> Result<(Reader<Event>, Output), JobError> {
        let output = Output::open(&self.source.kafka, &self.source.registry).await?;
        let ends = journal_ends(&self.source.admin).await?;
        self.reading.set_ends(ends);
        let reader = Reader::open(&self.source, JOB, self.reading.starts()).await?;
        // It may still find that this is another log than the one it left.
        self.in_doubt = true;
        Ok((reader, output))
    }

    /// Reads and publishes in turns, until the reader is of no more use.
    async fn follow(&mut self, mut reader: Reader<Event>, mut output: Output) -> JobError {
        let mut ticks = tokio::time::interval(PUBLISH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.reads.due();
            // Kept across ticks: a read that waits for the registry must not begin anew each time.
            let mut read = pin!(async {
                tokio::time::sleep_until(due).await;
                reader.next().await
            });
            let read = loop {
                tokio::select! {
                    read = &mut read => break read,
                    _ = ticks.tick() => {
                        self.look_for_brokers().await;
                        self.publish_if_due(&mut output).await;
                    }
                }
            };
            let outcome = match read {
                Ok(batch) => self.take(batch),
                Err(error) => self.read_failed(error),
            };
            if let Err(error) = outcome {
                return error;
            }
        }
    }

    /// Adds a batch to the windows.
    fn take(&mut self, batch: Batch<Event>) -> Result<(), JobError> {
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
        self.reading.advance(batch.checkpoint);
        self.is_behind = true;
        self.reading_goes_well();
        Ok(())
    }

    /// Goes on with the same reader where that makes sense, else gives the error back.
    fn read_failed(&mut self, error: ReadError) -> Result<(), JobError> {
        if let Some(partition) = error.halted_partition() {
            tracing::error!(job = JOB, partition, %error, "the partition is read no further");
            self.hindrances.halt(error.to_string());
            return Ok(());
        }
        if !error.is_transient() {
            return Err(error.into());
        }
        self.hindrances.set_reading(Some(error.to_string()));
        if let ReadError::Consumer(_) = error {
            // The client goes on by itself, and its reports of one outage queue up: to wait after
            // each would be to hear of it long after its end.
            if !self.in_doubt {
                tracing::warn!(job = JOB, %error, "reading fails until the brokers are back");
            }
            self.in_doubt = true;
        } else {
            tracing::warn!(job = JOB, %error, "reading fails; it is tried again");
            self.reads.put_off();
        }
        Ok(())
    }

    /// After an outage of the brokers nothing may come for long, for nothing is written. That they
    /// answer, and that nothing is left to read, shows that reading goes well.
    async fn look_for_brokers(&mut self) {
        if !self.in_doubt || !self.looks.is_due() {
            return;
        }
        match journal_ends(&self.source.admin).await {
            Ok(ends) if self.reading.reached(&ends) => self.reading_goes_well(),
            // What is left to read will come, and show the same.
            Ok(_) => {}
            Err(error) => {
                self.hindrances.set_reading(Some(error.to_string()));
                self.looks.put_off();
            }
        }
    }

    fn reading_goes_well(&mut self) {
        self.in_doubt = false;
        self.reads.reset();
        self.looks.reset();
        self.hindrances.set_reading(None);
    }

    async fn publish_if_due(&mut self, output: &mut Output) {
        if !self.is_behind || !self.reading.has_caught_up() || !self.publications.is_due() {
            return;
        }
        self.series.caught_up();
        let begun = Instant::now();
        match publish_changed(&self.series, output).await {
            Ok(()) => {
                metrics::histogram!(names::PUBLISH_SECONDS, "job" => JOB)
                    .record(begun.elapsed().as_secs_f64());
                self.is_behind = false;
                self.publications.reset();
                self.hindrances.set_publishing(None);
                self.tell_progress();
            }
            Err(error) => {
                tracing::warn!(job = JOB, %error, "publishing fails; it is tried again");
                self.hindrances.set_publishing(Some(error.to_string()));
                output.renew_after(self.publications.put_off());
            }
        }
    }

    /// Says what is published: everything that was read, for nothing was read since.
    fn tell_progress(&self) {
        for (partition, next_offset) in self.reading.next_offsets() {
            self.progress.set(JOB, JOURNAL, partition, next_offset);
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

/// Where every partition of the journal ends now.
async fn journal_ends(admin: &Admin) -> Result<BTreeMap<i32, i64>, AdminError> {
    let mut ends = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let watermarks = admin.watermarks(JOURNAL, partition).await?;
        ends.insert(partition, watermarks.high);
    }
    Ok(ends)
}

/// Publishes every window that changed. What fails stays marked as changed. Nothing is read
/// meanwhile, so the rounds have an end.
async fn publish_changed(series: &Series, output: &Output) -> Result<(), OutputError> {
    for window in Window::ALL {
        loop {
            let changed =
                series.update(|windows| windows.take_changed(window, PUBLISH_RECORDS_MAX));
            if changed.is_empty() {
                break;
            }
            if let Err(error) = output.publish(window, &changed).await {
                series.update(|windows| windows.mark_changed(window, &changed));
                let labels = [("job", JOB), ("window", window.name())];
                metrics::counter!(names::PUBLISH_FAILURES, &labels).increment(1);
                return Err(error);
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

    /// Nobody listens on port 1.
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
    async fn goes_on_trying_without_servers_and_ends_when_told() {
        let (health, token) = (Health::default(), CancellationToken::new());
        let job = Job::new(unreachable(), health.component("job"), Progress::default());
        let task = tokio::spawn(job.run(token.clone()));
        let told = async {
            while !health.readiness().components["job"].contains("http://127.0.0.1:1") {
                tokio::task::yield_now().await;
            }
        };
        let second = Duration::from_secs(1);
        tokio::time::timeout(10 * second, told).await.unwrap();
        assert!(!task.is_finished());
        token.cancel();
        tokio::time::timeout(second, task).await.unwrap().unwrap();
    }
}
