//! Reads partitions of one topic from given offsets, in batches, on a thread of its own.
//!
//! Assignment is manual and offsets are ours: no consumer group, nothing committed to the broker. A
//! start offset that the log no longer has is an error, never a silent jump.

use crate::settings::KafkaSettings;
use bytes::Bytes;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::BorrowedMessage,
    types::RDKafkaErrorCode,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;

/// Most records in one batch.
pub const BATCH_RECORDS_MAX: usize = 2_000;
/// A batch ends once its values have this many bytes.
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// Batches read ahead of their reader.
const BATCHES_AHEAD_MAX: usize = 2;
/// What a sparing reader asks for at once, in bytes. A broker gives at least one batch of a producer.
const SPARING_BYTES: usize = 64 << 10;
/// How soon a stopped consumer's thread notices.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The topic's partition.
    pub partition: i32,
    /// Its place in the partition.
    pub offset: i64,
    /// When the broker took it, in milliseconds since 1970; -1 if the broker does not say.
    pub timestamp_ms: i64,
    /// `None` is not the same as empty.
    pub key: Option<Bytes>,
    /// `None` is not the same as empty.
    pub value: Option<Bytes>,
}

/// Why no batch came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerError {
    /// The client goes on by itself; the next call may succeed.
    #[error("topic {topic}: the brokers can't be reached or don't answer: {reason}")]
    Unreachable {
        /// The topic read.
        topic: String,
        /// The client library's words.
        reason: String,
    },
    /// The log's beginning is gone, or its end lies before where we were.
    #[error("topic {topic}: an offset asked for is not in the log any more: {reason}")]
    OffsetOutOfRange {
        /// The topic read.
        topic: String,
        /// The client library's words.
        reason: String,
    },
    /// Nothing that waiting mends.
    #[error("topic {topic}: {reason}")]
    Fatal {
        /// The topic read.
        topic: String,
        /// The client library's words.
        reason: String,
    },
}

impl ConsumerError {
    /// Whether the same consumer may be asked again.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// A reader of some partitions of one topic. Dropping it stops its thread.
pub struct BatchConsumer {
    topic: String,
    batches: mpsc::Receiver<Result<Vec<Record>, ConsumerError>>,
    stop: Arc<AtomicBool>,
}

impl BatchConsumer {
    /// Begins to read `topic` at `(partition, offset)` each. `role` names the thread and the client.
    pub fn start(
        settings: &KafkaSettings,
        role: &str,
        topic: &str,
        starts: &[(i32, i64)],
    ) -> Result<Self, ConsumerError> {
        let config = config(settings, role);
        Self::start_with(&config, role, topic, starts)
    }

    /// The same for who wants some records only: it reads little ahead.
    pub fn start_sparing(
        settings: &KafkaSettings,
        role: &str,
        topic: &str,
        starts: &[(i32, i64)],
    ) -> Result<Self, ConsumerError> {
        let mut config = config(settings, role);
        config
            .set("queued.min.messages", "1")
            .set("fetch.message.max.bytes", SPARING_BYTES.to_string());
        Self::start_with(&config, role, topic, starts)
    }

    fn start_with(
        config: &ClientConfig,
        role: &str,
        topic: &str,
        starts: &[(i32, i64)],
    ) -> Result<Self, ConsumerError> {
        let consumer = consumer(config, topic, starts)?;
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, name) = (stop.clone(), topic.to_owned());
        std::thread::Builder::new()
            .name(format!("consume-{role}"))
            .spawn(move || {
                let poll = |timeout| Some(consumer.poll(timeout)?.map(|message| record(&message)));
                run(poll, &name, &sender, &stopped);
            })
            .map_err(|error| fatal(topic, &error))?;
        Ok(Self {
            topic: topic.to_owned(),
            batches,
            stop,
        })
    }

    /// Waits for the next records: at least one. Records of one partition come in offset order.
    ///
    /// After an error that [`ConsumerError::is_transient`], call again; after another, give up.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Result<Vec<Record>, ConsumerError> {
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

fn config(settings: &KafkaSettings, role: &str) -> ClientConfig {
    let mut config = settings.client(role);
    config
        // `assign` wants a group, though nothing is ever committed to it.
        .set("group.id", format!("daybook-{role}"))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "false")
        // Journals know no transactions; a foreign one, left open, must not hide what comes after.
        .set("isolation.level", "read_uncommitted")
        // A start offset that is gone must be an error: the tripwire for lost history.
        .set("auto.offset.reset", "error")
        // The default of 1,000 pins catch-up at a fraction of its speed.
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.wait.max.ms", "50")
        .set("queued.min.messages", "20000")
        .set("queued.max.messages.kbytes", "16384")
        .set("topic.metadata.refresh.interval.ms", "10000");
    config
}

fn consumer(
    config: &ClientConfig,
    topic: &str,
    starts: &[(i32, i64)],
) -> Result<BaseConsumer, ConsumerError> {
    let consumer: BaseConsumer = config.create().map_err(|error| fatal(topic, &error))?;
    let mut assignment = TopicPartitionList::with_capacity(starts.len());
    for (partition, offset) in starts {
        assignment
            .add_partition_offset(topic, *partition, Offset::Offset(*offset))
            .map_err(|error| fatal(topic, &error))?;
    }
    consumer
        .assign(&assignment)
        .map_err(|error| fatal(topic, &error))?;
    Ok(consumer)
}

/// The thread: polls until it is stopped, its reader is gone, or the error is one for good.
fn run(
    mut poll: impl FnMut(Duration) -> Option<Result<Record, KafkaError>>,
    topic: &str,
    sender: &mpsc::Sender<Result<Vec<Record>, ConsumerError>>,
    stop: &AtomicBool,
) {
    while !stop.load(Ordering::Relaxed) && !sender.is_closed() {
        let Polled { records, error } = poll_batch(&mut poll, topic);
        let ends = error.as_ref().is_some_and(|error| !error.is_transient());
        let records = (!records.is_empty()).then_some(Ok(records));
        for sent in records.into_iter().chain(error.map(Err)) {
            if sender.blocking_send(sent).is_err() {
                return;
            }
        }
        if ends {
            return;
        }
    }
}

/// What one round of polling gave: records, then the error that came behind them.
struct Polled {
    records: Vec<Record>,
    error: Option<ConsumerError>,
}

/// What is there now, up to a batch's limits; nothing if nothing came within the time-out.
///
/// While the brokers are away the client queues an error for each of its tries. A reader needs to
/// hear of the trouble once, not of every error long after it has ended: passing ones are told only
/// if no record came. An error for good comes only once, so it must not be lost behind records.
fn poll_batch(
    mut poll: impl FnMut(Duration) -> Option<Result<Record, KafkaError>>,
    topic: &str,
) -> Polled {
    let (mut records, mut bytes) = (Vec::new(), 0);
    let (mut trouble, mut timeout) = (None, POLL_TIMEOUT);
    while records.len() < BATCH_RECORDS_MAX && bytes < BATCH_BYTES_MAX {
        match poll(timeout) {
            Some(Ok(record)) => {
                bytes += record.value.as_ref().map_or(0, Bytes::len);
                records.push(record);
            }
            Some(Err(error)) => match classify(topic, &error) {
                Some(error) if error.is_transient() => trouble = Some(error),
                Some(error) => {
                    return Polled {
                        records,
                        error: Some(error),
                    };
                }
                None => {}
            },
            None => break,
        }
        timeout = Duration::ZERO;
    }
    let error = trouble.filter(|_| records.is_empty());
    Polled { records, error }
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    Record {
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
    }
}

/// `None` for errors that say nothing to a reader. The client goes on by itself after any error but
/// those that are named here; so one that is not known passes, too.
fn classify(topic: &str, error: &KafkaError) -> Option<ConsumerError> {
    use RDKafkaErrorCode as Code;
    let topic = topic.to_owned();
    let reason = error.to_string();
    if let KafkaError::MessageConsumptionFatal(_) = error {
        return Some(ConsumerError::Fatal { topic, reason });
    }
    match error.rdkafka_error_code() {
        Some(Code::OffsetOutOfRange | Code::AutoOffsetReset | Code::LogTruncation) => {
            Some(ConsumerError::OffsetOutOfRange { topic, reason })
        }
        // The client skips records that it can't make sense of, with these words.
        Some(Code::BadMessage | Code::BadCompression | Code::NotImplemented) => {
            Some(ConsumerError::Fatal { topic, reason })
        }
        Some(
            Code::Fatal
            | Code::InvalidTopic
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed,
        ) => Some(ConsumerError::Fatal { topic, reason }),
        Some(Code::PartitionEOF | Code::NoError) => None,
        // A topic that is being made or deleted is unknown for a while; so is one whose broker
        // restarts, and forbidden is one whose rules are being changed. Waiting mends it, or an operator
        // does.
        Some(_) | None => Some(ConsumerError::Unreachable { topic, reason }),
    }
}

fn fatal(topic: &str, error: &dyn std::fmt::Display) -> ConsumerError {
    ConsumerError::Fatal {
        topic: topic.to_owned(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const TOPIC: &str = "journal.orders";

    type Polls = VecDeque<Option<Result<Record, KafkaError>>>;

    fn at(offset: i64) -> Record {
        Record {
            partition: 0,
            offset,
            timestamp_ms: 0,
            key: None,
            value: None,
        }
    }

    fn error(code: RDKafkaErrorCode) -> Option<Result<Record, KafkaError>> {
        Some(Err(KafkaError::MessageConsumption(code)))
    }

    /// What a reader is told, batch by batch, of what the client gives. The thread is stopped once
    /// the client has nothing more.
    fn told(mut polls: Polls) -> Vec<Result<Vec<i64>, ConsumerError>> {
        let stop = AtomicBool::new(false);
        let (sender, mut batches) = mpsc::channel(8);
        let poll = |_| {
            stop.store(polls.len() <= 1, Ordering::Relaxed);
            polls.pop_front().flatten()
        };
        run(poll, TOPIC, &sender, &stop);
        drop(sender);
        let offsets = |records: Vec<Record>| records.iter().map(|record| record.offset).collect();
        std::iter::from_fn(|| batches.blocking_recv())
            .map(|batch| batch.map(offsets))
            .collect()
    }

    #[test]
    fn an_error_for_good_is_told_behind_the_records_before_it_and_is_the_last_word() {
        for code in [
            RDKafkaErrorCode::AutoOffsetReset,
            RDKafkaErrorCode::OffsetOutOfRange,
            RDKafkaErrorCode::LogTruncation,
            RDKafkaErrorCode::GroupAuthorizationFailed,
            RDKafkaErrorCode::Fatal,
            RDKafkaErrorCode::BadMessage,
        ] {
            let told = told(Polls::from([
                Some(Ok(at(4))),
                Some(Ok(at(5))),
                error(code),
                Some(Ok(at(6))),
            ]));
            let [Ok(offsets), Err(error)] = &told[..] else {
                panic!("{code:?}: {told:?}");
            };
            assert_eq!(offsets, &[4, 5], "{code:?}");
            assert!(!error.is_transient(), "{error}");
        }
    }

    #[test]
    fn a_passing_error_is_told_only_where_no_record_came() {
        let down = || error(RDKafkaErrorCode::AllBrokersDown);
        let told = told(Polls::from([
            down(),
            down(),
            None,
            down(),
            Some(Ok(at(4))),
            None,
            Some(Ok(at(5))),
            None,
        ]));
        let [Err(error), Ok(first), Ok(second)] = &told[..] else {
            panic!("{told:?}");
        };
        assert!(error.is_transient(), "{error}");
        assert_eq!((&first[..], &second[..]), (&[4][..], &[5][..]));
    }

    #[test]
    fn an_error_that_the_client_goes_on_after_passes() {
        for code in [
            RDKafkaErrorCode::Fail,
            RDKafkaErrorCode::InvalidMessage,
            RDKafkaErrorCode::UnknownTopicOrPartition,
            RDKafkaErrorCode::UnknownTopicId,
            RDKafkaErrorCode::TopicAuthorizationFailed,
            RDKafkaErrorCode::Unknown,
        ] {
            let told = told(Polls::from([error(code), None, Some(Ok(at(4))), None]));
            let [Err(error), Ok(offsets)] = &told[..] else {
                panic!("{code:?}: {told:?}");
            };
            assert!(error.is_transient(), "{error}");
            assert_eq!(offsets, &[4], "{code:?}");
        }
    }

    #[test]
    fn a_batch_ends_at_its_limits() {
        let full = (0..3).map(|_| at(0)).collect::<Vec<_>>();
        let value = Some(Bytes::from(vec![0; BATCH_BYTES_MAX / 2]));
        let mut large = full.into_iter().map(|record| {
            Some(Ok(Record {
                value: value.clone(),
                ..record
            }))
        });
        let batch = poll_batch(|_| large.next().flatten(), TOPIC);
        assert_eq!((batch.records.len(), batch.error), (2, None));
        let batch = poll_batch(|_| Some(Ok(at(0))), TOPIC);
        assert_eq!(
            (batch.records.len(), batch.error),
            (BATCH_RECORDS_MAX, None)
        );
    }
}
