//! Appends records to journal partitions: one idempotent producer per process.
//!
//! It passes on the broker's report of each record and promises nothing else. The journal decides what a report
//! proves. After a fatal error of the producer, [`PartitionProducer::heal`] replaces it.

use crate::{
    polled_producer::PolledProducer,
    prefix::TopicPrefix,
    record_limits::{RECORD_OVERHEAD_BYTES, RecordLimits},
    self_healing::SelfHealing,
    settings::{KafkaSettings, SettingsError},
};
use rdkafka::{
    ClientConfig, ClientContext, Message,
    error::KafkaError,
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, ProducerContext},
    types::RDKafkaErrorCode,
};
use std::{
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;

pub use crate::record_limits::RECORD_BYTES_MAX;

/// Longest time from append to report; after it the outcome is unknown.
pub const APPEND_TIMEOUT: Duration = Duration::from_secs(5);
/// Produce requests in flight to one broker. With one, the next batches grow while a request is in flight. With the
/// library's default of five they stay small, and at 10,000 commits a second most of the processor's time goes into
/// requests of a few records each. A cluster with long round trips may need more; `kafka.properties` can set it.
const IN_FLIGHT: (&str, &str) = ("max.in.flight.requests.per.connection", "1");
/// librdkafka's other name for the same property.
const IN_FLIGHT_ALIAS: &str = "max.in.flight";
/// Maximum number of records in the producer's queue. If the queue is full, an owner keeps its records and retries.
const QUEUE_RECORDS_MAX: usize = 2_000_000;
/// Maximum size of the producer's queue in bytes.
pub const QUEUE_BYTES_MAX: usize = 512 << 20;
/// The producer's name in the broker's logs, and in ours.
const ROLE: &str = "appender";
/// Number of bits of a record's opaque word that hold the caller's number.
const NUMBER_BITS: u32 = 48;
const _: () = assert!(
    usize::BITS == 64,
    "the opaque word holds a sender index and a number"
);

/// The result of one append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The number that the append was given.
    pub number: u64,
    /// The offset that the broker reported. An offset below 0 means that the log has the record at an unknown offset.
    /// After [`AppendError::Unknown`], the log may have the record.
    pub result: Result<i64, AppendError>,
}

/// Why an append failed or its outcome is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Nothing was sent.
    #[error("topic {topic} partition {partition}: the producer's queue is full")]
    QueueFull {
        /// The topic to append to.
        topic: String,
        /// The topic's partition.
        partition: i32,
    },
    /// Nothing was sent.
    #[error(
        "topic {topic} partition {partition}: a record of {bytes} bytes is larger than {bytes_max}"
    )]
    TooLarge {
        /// The topic to append to.
        topic: String,
        /// The topic's partition.
        partition: i32,
        /// The record's size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The brokers refuse the record, and would refuse it again.
    #[error("topic {topic} partition {partition}: the brokers refuse the record: {reason}")]
    Refused {
        /// The topic to append to.
        topic: String,
        /// The topic's partition.
        partition: i32,
        /// The rule that the record breaks.
        rule: BrokerRule,
        /// The client library's message.
        reason: String,
    },
    /// It is unknown whether the log has the record.
    #[error("topic {topic} partition {partition}: unknown outcome: {reason}")]
    Unknown {
        /// The topic to append to.
        topic: String,
        /// The topic's partition.
        partition: i32,
        /// The client library's message.
        reason: String,
    },
}

/// A rule of the brokers by which they refuse a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerRule {
    /// `max.message.bytes` of the topic.
    Size,
    /// The access rules, a policy, or the topic's rules for the form of records.
    Access,
}

impl BrokerRule {
    /// `None` if the code leaves open whether the record was written, or another attempt may succeed.
    fn of(code: RDKafkaErrorCode) -> Option<Self> {
        match code {
            RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::MessageBatchTooLarge => {
                Some(Self::Size)
            }
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::PolicyViolation
            | RDKafkaErrorCode::InvalidRecord => Some(Self::Access),
            _ => None,
        }
    }
}

/// The producer can't be created.
#[derive(Debug, thiserror::Error)]
pub enum AppenderError {
    /// A setting is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The client library refused.
    #[error("the producer can't be created: {0}")]
    Client(#[from] KafkaError),
}

/// Takes records and reports each, exactly once, to the partition producer that appended it.
#[derive(Clone)]
pub struct Appender {
    settings: KafkaSettings,
    producer: Arc<SelfHealing<ReportSenders>>,
    senders: Senders,
    limits: Arc<RecordLimits>,
    /// `batch.size` of the producer.
    batch_bytes: Arc<Mutex<usize>>,
}

/// Appends to one partition, for its owner.
#[derive(Clone)]
pub struct PartitionProducer {
    appender: Appender,
    /// The logical name, for errors.
    topic: Arc<str>,
    /// The topic's name at the brokers.
    prefixed_topic: Arc<str>,
    partition: i32,
    sender_index: usize,
    record_bytes_max: Arc<AtomicUsize>,
}

/// The channels of all partition producers, by index. A replaced producer keeps using them.
type Senders = Arc<RwLock<Vec<mpsc::Sender<Report>>>>;

/// Passes a producer's reports to the partition producers.
struct ReportSenders {
    senders: Senders,
    prefix: TopicPrefix,
}

impl ClientContext for ReportSenders {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "the kafka producer reports an error");
    }
}

impl ProducerContext for ReportSenders {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let (sender_index, number) = (
            opaque >> NUMBER_BITS,
            opaque as u64 & ((1 << NUMBER_BITS) - 1),
        );
        let result = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, message)) => {
                let topic = self.prefix.strip(message.topic());
                Err(append_error(topic, message.partition(), error))
            }
        };
        let senders = self.senders.read().expect("no holder of this lock panics");
        // A partition producer that was dropped needs no reports. A full channel is impossible: its owner has
        // no more records in flight than the channel has room for.
        if let Err(mpsc::error::TrySendError::Full(report)) =
            senders[sender_index].try_send(Report { number, result })
        {
            tracing::error!(
                ?report,
                sender_index,
                "a delivery report is lost: its channel is full"
            );
        }
    }
}

impl Appender {
    /// Creates the process's producer.
    ///
    /// # Errors
    /// A setting is wrong, or the client library can't create the producer.
    pub fn new(settings: &KafkaSettings) -> Result<Self, AppenderError> {
        settings.check()?;
        let (senders, limits) = (Senders::default(), RecordLimits::default());
        let batch_bytes = limits.batch_bytes_max();
        let producer = producer(settings, &senders, batch_bytes)?;
        Ok(Self {
            settings: settings.clone(),
            producer: Arc::new(SelfHealing::new(ROLE, producer)),
            senders,
            limits: Arc::new(limits),
            batch_bytes: Arc::new(Mutex::new(batch_bytes)),
        })
    }

    /// Sets a topic's `max.message.bytes`, so that no larger record or batch is sent to the topic.
    ///
    /// # Errors
    /// The client library can't create a producer with the new limit. The old producer stays.
    pub fn set_message_bytes_max(
        &self,
        topic: &str,
        message_bytes_max: usize,
    ) -> Result<(), AppenderError> {
        self.limits.set(topic, message_bytes_max);
        let mut current = self.batch_bytes.lock().expect("no holder panics");
        let batch_bytes = self.limits.batch_bytes_max();
        if *current != batch_bytes {
            let new = producer(&self.settings, &self.senders, batch_bytes)?;
            self.producer.replace(new, APPEND_TIMEOUT);
            *current = batch_bytes;
        }
        Ok(())
    }

    /// Opens one partition to append to. Its reports arrive in the order in which the broker answered. The caller must
    /// never have more than `in_flight_max` records without a report.
    pub fn partition_producer(
        &self,
        topic: &str,
        partition: i32,
        in_flight_max: usize,
    ) -> (PartitionProducer, mpsc::Receiver<Report>) {
        let (sender, reports) = mpsc::channel(in_flight_max);
        let mut senders = self.senders.write().expect("no holder panics");
        senders.push(sender);
        let sender_index = senders.len() - 1;
        let producer = PartitionProducer {
            appender: self.clone(),
            topic: topic.into(),
            prefixed_topic: TopicPrefix::of(&self.settings).add(topic).into(),
            partition,
            sender_index,
            record_bytes_max: self.limits.record_bytes_max(topic),
        };
        (producer, reports)
    }

    /// Waits until no record is in flight, at most `timeout`. Blocks.
    ///
    /// # Errors
    /// Records are still in flight after `timeout`.
    pub fn flush(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.producer.current().flush(timeout)
    }

    /// Makes the producer fail fatally, as after an error that idempotence can't survive.
    #[cfg(feature = "faults")]
    pub fn fail_fatally(&self) {
        self.producer.fail_fatally();
    }
}

fn producer(
    settings: &KafkaSettings,
    senders: &Senders,
    batch_bytes: usize,
) -> Result<PolledProducer<ReportSenders>, AppenderError> {
    let reports = ReportSenders {
        senders: senders.clone(),
        prefix: TopicPrefix::of(settings),
    };
    Ok(PolledProducer::new(
        &config(settings, batch_bytes),
        reports,
    )?)
}

pub(crate) fn config(settings: &KafkaSettings, batch_bytes: usize) -> ClientConfig {
    let timeout_ms = APPEND_TIMEOUT.as_millis().to_string();
    let mut config = settings.client(ROLE);
    if config.get(IN_FLIGHT.0).is_none() && config.get(IN_FLIGHT_ALIAS).is_none() {
        config.set(IN_FLIGHT.0, IN_FLIGHT.1);
    }
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        // While a request is in flight the next batch grows anyway.
        .set("linger.ms", "0")
        .set("message.timeout.ms", &timeout_ms)
        .set("socket.timeout.ms", &timeout_ms)
        .set(
            "message.max.bytes",
            (RECORD_BYTES_MAX + RECORD_OVERHEAD_BYTES).to_string(),
        )
        .set("batch.size", batch_bytes.to_string())
        .set(
            "queue.buffering.max.messages",
            QUEUE_RECORDS_MAX.to_string(),
        )
        .set(
            "queue.buffering.max.kbytes",
            (QUEUE_BYTES_MAX >> 10).to_string(),
        );
    config
}

impl PartitionProducer {
    /// Replaces the producer if it had a fatal error.
    pub fn heal(&self) -> Result<(), AppenderError> {
        let Appender {
            settings,
            producer: current,
            senders,
            batch_bytes,
            ..
        } = &self.appender;
        let batch_bytes = batch_bytes.lock().expect("no holder panics");
        current.heal(|| producer(settings, senders, *batch_bytes))
    }

    /// Maximum size of a record's key and value together, in bytes. It follows from the topic's limit, once that is
    /// known.
    pub fn record_bytes_max(&self) -> usize {
        self.record_bytes_max.load(Ordering::Relaxed)
    }

    /// Hands one record to the producer; its [`Report`] will have `number` (48 bits).
    ///
    /// # Errors
    /// Nothing was sent, and no report will come.
    pub fn append(
        &self,
        key: &[u8],
        value: &[u8],
        headers: &[(&str, &[u8])],
        number: u64,
    ) -> Result<(), AppendError> {
        let bytes = key.len() + value.len();
        let (topic, partition) = (|| self.topic.to_string(), self.partition);
        let bytes_max = self.record_bytes_max();
        if bytes > bytes_max {
            return Err(AppendError::TooLarge {
                topic: topic(),
                partition,
                bytes,
                bytes_max,
            });
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a word has 64 bits, asserted above"
        )]
        let opaque =
            (self.sender_index << NUMBER_BITS) | (number as usize & ((1 << NUMBER_BITS) - 1));
        let headers = headers.iter().fold(
            OwnedHeaders::new_with_capacity(headers.len()),
            |headers, (key, value)| {
                headers.insert(Header {
                    key,
                    value: Some(*value),
                })
            },
        );
        let record = BaseRecord::with_opaque_to(&self.prefixed_topic, opaque)
            .partition(self.partition)
            .key(key)
            .payload(value)
            .headers(headers);
        match self.appender.producer.current().send(record) {
            Ok(()) => Ok(()),
            Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                Err(AppendError::QueueFull {
                    topic: topic(),
                    partition,
                })
            }
            Err((error, _)) => Err(append_error(&self.topic, partition, &error)),
        }
    }
}

fn append_error(topic: &str, partition: i32, error: &KafkaError) -> AppendError {
    let (topic, reason) = (topic.to_owned(), error.to_string());
    match error.rdkafka_error_code().and_then(BrokerRule::of) {
        Some(rule) => AppendError::Refused {
            topic,
            partition,
            rule,
            reason,
        },
        None => AppendError::Unknown {
            topic,
            partition,
            reason,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definite_refusal_names_its_rule() {
        use RDKafkaErrorCode as Code;
        for (code, rule) in [
            (Code::MessageSizeTooLarge, BrokerRule::Size),
            (Code::MessageBatchTooLarge, BrokerRule::Size),
            (Code::TopicAuthorizationFailed, BrokerRule::Access),
            (Code::ClusterAuthorizationFailed, BrokerRule::Access),
            (Code::PolicyViolation, BrokerRule::Access),
            (Code::InvalidRecord, BrokerRule::Access),
        ] {
            assert_eq!(BrokerRule::of(code), Some(rule), "{code}");
            let error = append_error("journal.orders", 3, &KafkaError::MessageProduction(code));
            assert!(
                matches!(error, AppendError::Refused { rule: found, .. } if found == rule),
                "{error:?} instead of Refused with {rule:?}"
            );
        }
    }

    #[test]
    fn an_error_after_which_the_log_may_have_the_record_is_an_unknown_outcome() {
        use RDKafkaErrorCode as Code;
        for code in [
            Code::MessageTimedOut,
            Code::RequestTimedOut,
            Code::BrokerTransportFailure,
            Code::NotLeaderForPartition,
            Code::NotEnoughReplicas,
            Code::NotEnoughReplicasAfterAppend,
            Code::PurgeInflight,
            Code::OutOfOrderSequenceNumber,
            Code::KafkaStorageError,
            Code::Fatal,
        ] {
            assert_eq!(BrokerRule::of(code), None, "{code}");
            let error = append_error("journal.orders", 3, &KafkaError::MessageProduction(code));
            assert!(
                matches!(error, AppendError::Unknown { .. }),
                "{error:?} instead of AppendError::Unknown"
            );
        }
    }
}
