//! Reads partitions of one topic from given offsets, in batches, on a thread of its own.
//!
//! Partitions are assigned manually, without a consumer group, and no offset is committed to the broker. A
//! start offset that the log no longer has is an error, never a silent reset.

mod batch;
mod polling;

use self::polling::{EndFilter, record, run};
use crate::{prefix::TopicPrefix, settings::KafkaSettings};
use rdkafka::{
    ClientConfig, ClientContext, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::RDKafkaErrorCode,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::mpsc;

pub(crate) use batch::Ends;
pub use batch::{ConsumerError, EndReached, Fetched, Record};
pub use polling::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};

/// Maximum number of batches that are read ahead of the reader.
const BATCHES_AHEAD_MAX: usize = 2;
/// Maximum size of a fetch with [`Fetch::Small`], in bytes. A broker sends at least one producer batch,
/// even if it is larger.
const SMALL_FETCH_BYTES: usize = 64 << 10;
/// Longest time, in milliseconds, for which a broker holds a fetch request while no record arrives. A record ends the
/// wait at once, but the end of a partition is reported only after it. A reader that goes to the ends uses the shorter
/// time. Every other reader uses the longer one, because each request costs processor time here and at the broker, and a
/// process has such a reader for each journal as long as it runs.
const END_WAIT_MS: &str = "50";
/// See [`END_WAIT_MS`].
const FOLLOW_WAIT_MS: &str = "250";

/// How much is fetched ahead of the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// Large batches, for a reader that needs all records.
    Ahead,
    /// Small batches, for a reader that needs the first records only.
    Small,
}

/// A reader of some partitions of one topic. Dropping it stops its thread.
pub struct BatchConsumer {
    topic: String,
    batches: mpsc::Receiver<Result<Fetched, ConsumerError>>,
    stop: Arc<AtomicBool>,
}

impl BatchConsumer {
    /// Begins to read `topic` at each `(partition, offset)`. `role` names the thread and the client.
    ///
    /// # Errors
    /// The client can't be created now ([`ConsumerError::is_transient`]), or a setting is wrong.
    pub fn start(
        settings: &KafkaSettings,
        role: &str,
        topic: &str,
        starts: &[(i32, i64)],
    ) -> Result<Self, ConsumerError> {
        let options = (Fetch::Ahead, Ends::BehindRecords);
        Self::start_with(settings, role, topic, starts, options)
    }

    pub(crate) fn start_with(
        settings: &KafkaSettings,
        role: &str,
        topic: &str,
        starts: &[(i32, i64)],
        (fetch, ends): (Fetch, Ends),
    ) -> Result<Self, ConsumerError> {
        let config = config(settings, role, fetch, ends);
        let ends = EndFilter::new(ends, starts);
        let name = TopicPrefix::of(settings).add(topic);
        let consumer =
            consumer(&config, &name, starts).map_err(|error| start_error(topic, &error))?;
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, logical) = (stop.clone(), topic.to_owned());
        std::thread::Builder::new()
            .name(format!("consume-{role}"))
            .spawn(move || {
                let poll = |timeout| Some(consumer.poll(timeout)?.map(|message| record(&message)));
                let position = |partition| position(&consumer, &name, partition);
                run(poll, position, &logical, ends, &sender, &stopped);
            })
            .map_err(|error| ConsumerError::NotStarted {
                topic: topic.to_owned(),
                reason: error.to_string(),
            })?;
        Ok(Self {
            topic: topic.to_owned(),
            batches,
            stop,
        })
    }

    /// Waits for at least one record. Records of one partition come in offset order. Cancel-safe.
    ///
    /// # Errors
    /// After a transient error ([`ConsumerError::is_transient`]), call again; any other error is final.
    pub async fn next(&mut self) -> Result<Vec<Record>, ConsumerError> {
        loop {
            let Fetched { records, .. } = self.next_fetched().await?;
            if !records.is_empty() {
                return Ok(records);
            }
        }
    }

    /// Like [`BatchConsumer::next`], but also returns the ends that were reached. The result may have ends and no
    /// records.
    pub async fn next_fetched(&mut self) -> Result<Fetched, ConsumerError> {
        match self.batches.recv().await {
            Some(batch) => batch,
            None => Err(ConsumerError::Fatal {
                topic: self.topic.clone(),
                reason: "the consumer's thread has ended".into(),
            }),
        }
    }
}

impl Drop for BatchConsumer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

pub(crate) fn config(
    settings: &KafkaSettings,
    role: &str,
    fetch: Fetch,
    ends: Ends,
) -> ClientConfig {
    let mut config = settings.reading_client(role);
    let group = TopicPrefix::of(settings).add(&format!("daybook-{role}"));
    config
        // `assign` needs a group, although no offset is ever committed to it.
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // A start offset that is gone must be an error, because history is lost.
        .set("auto.offset.reset", "error")
        // The default of 1,000 ms limits catch-up to a fraction of its speed.
        .set("fetch.queue.backoff.ms", "10")
        .set(
            "fetch.wait.max.ms",
            match ends {
                Ends::All => END_WAIT_MS,
                Ends::BehindRecords => FOLLOW_WAIT_MS,
            },
        )
        .set("queued.min.messages", "20000")
        .set("queued.max.messages.kbytes", "16384")
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set("enable.partition.eof", "true");
    if ends == Ends::All {
        // The ends were measured at the leaders, and a follower may end earlier.
        config.set("client.rack", "");
    }
    match fetch {
        Fetch::Ahead => {}
        Fetch::Small => {
            config
                .set("queued.min.messages", "1")
                .set("fetch.message.max.bytes", SMALL_FETCH_BYTES.to_string());
        }
    }
    config
}

/// Converts the error of a client that can't be created. Only an invalid setting is a final error.
fn start_error(topic: &str, error: &KafkaError) -> ConsumerError {
    let (topic, reason) = (topic.to_owned(), error.to_string());
    match error {
        KafkaError::ClientConfig(..) => ConsumerError::Fatal { topic, reason },
        _ => ConsumerError::NotStarted { topic, reason },
    }
}

/// Logs the client's errors, except for partition ends, which the client reports as errors.
struct ErrorLog;

impl ClientContext for ErrorLog {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::error!(%error, reason, "the kafka consumer reports an error");
        }
    }
}

impl ConsumerContext for ErrorLog {}

fn consumer(
    config: &ClientConfig,
    topic: &str,
    starts: &[(i32, i64)],
) -> Result<BaseConsumer<ErrorLog>, KafkaError> {
    let consumer: BaseConsumer<ErrorLog> = config.create_with_context(ErrorLog)?;
    let mut assignment = TopicPartitionList::with_capacity(starts.len());
    for (partition, offset) in starts {
        assignment.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    consumer.assign(&assignment)?;
    Ok(consumer)
}

/// The client's position in a partition: the next offset after all records that it has returned and the
/// control records that it has skipped.
fn position(consumer: &BaseConsumer<ErrorLog>, topic: &str, partition: i32) -> Option<i64> {
    let positions = consumer.position().ok()?;
    match positions.find_partition(topic, partition)?.offset() {
        Offset::Offset(position) => Some(position),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_threads_for_a_client_is_a_transient_error() {
        let no_thread = KafkaError::ClientCreation("Failed to create thread".into());
        let error = start_error("journal.orders", &no_thread);
        assert!(error.is_transient(), "not transient: {error}");
    }

    #[test]
    fn an_invalid_setting_of_a_client_is_a_final_error() {
        let mut config = config(
            &KafkaSettings::default(),
            "test",
            Fetch::Ahead,
            Ends::BehindRecords,
        );
        config.set("fetch.wait.max.ms", "soon");
        let created = consumer(&config, "journal.orders", &[]);
        let error = start_error("journal.orders", &created.err().unwrap());
        assert!(!error.is_transient(), "transient: {error}");
    }
}
