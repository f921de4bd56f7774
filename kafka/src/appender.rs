//! Appends records to journal partitions: one idempotent producer per process.
//!
//! It passes on the broker's report of each record and promises nothing else; the journal knows what a
//! report proves. After a fatal error of the producer, [`PartitionProducer::heal`] replaces it.

use crate::{
    prefix::TopicPrefix,
    self_healing::SelfHealing,
    settings::{KafkaSettings, SettingsError},
};
use rdkafka::{
    ClientContext, Message,
    error::KafkaError,
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use std::{
    sync::{Arc, RwLock},
    time::Duration,
};
use tokio::sync::mpsc;

/// Longest time from append to report; after it the outcome is unknown.
pub const APPEND_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest record, key and value together, in bytes; it fits the broker's default limit.
pub const RECORD_BYTES_MAX: usize = 1_000_000;
/// Most bytes that headers and framing add to a record; the sum stays below the broker's default limit.
const RECORD_OVERHEAD_BYTES: usize = 8_192;
/// Produce requests in flight to one broker. With one, the next batches grow meanwhile; with the library's
/// five they stay small, and at 10,000 commits a second most of the processor's time goes into requests of a
/// few records each. A cluster with long round trips may want more: `kafka.properties` may set it.
const IN_FLIGHT: (&str, &str) = ("max.in.flight.requests.per.connection", "1");
/// The producer's name in the broker's logs, and in ours.
const ROLE: &str = "appender";
/// Bits of a producer's opaque word that hold the caller's own number.
const NUMBER_BITS: u32 = 48;
const _: () = assert!(
    usize::BITS == 64,
    "the opaque word holds a slot and a number"
);

/// The result of one append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The number that the append was given.
    pub number: u64,
    /// The offset that the broker gave. An offset below 0 means that the log has the record at an unknown
    /// offset. After an error the log may have the record or not.
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
        "topic {topic} partition {partition}: a record of {bytes} bytes is larger than {RECORD_BYTES_MAX}"
    )]
    TooLarge {
        /// The topic to append to.
        topic: String,
        /// The topic's partition.
        partition: i32,
        /// The record's size.
        bytes: usize,
    },
    /// The log may have the record or not.
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
    producer: Arc<SelfHealing<ThreadedProducer<ReportSenders>>>,
    senders: Senders,
}

/// Appends to one partition, for its owner.
#[derive(Clone)]
pub struct PartitionProducer {
    appender: Appender,
    /// For errors.
    topic: Arc<str>,
    /// As the brokers name it.
    prefixed_topic: Arc<str>,
    partition: i32,
    slot: usize,
}

/// The channels of all partition producers, by slot. A replaced producer keeps using them.
type Senders = Arc<RwLock<Vec<mpsc::Sender<Report>>>>;

/// Passes a producer's reports on.
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
        let (slot, number) = (
            opaque >> NUMBER_BITS,
            opaque as u64 & ((1 << NUMBER_BITS) - 1),
        );
        let result = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, message)) => Err(AppendError::Unknown {
                topic: self.prefix.strip(message.topic()).to_owned(),
                partition: message.partition(),
                reason: error.to_string(),
            }),
        };
        let senders = self.senders.read().expect("no holder of this lock panics");
        // A partition producer that was dropped needs no reports. A full channel is impossible: its owner has
        // no more records in flight than the channel has room for.
        if let Err(mpsc::error::TrySendError::Full(report)) =
            senders[slot].try_send(Report { number, result })
        {
            tracing::error!(
                ?report,
                slot,
                "a delivery report is lost: its channel is full"
            );
        }
    }
}

impl Appender {
    /// Creates the process's producer.
    pub fn new(settings: &KafkaSettings) -> Result<Self, AppenderError> {
        settings.check()?;
        let senders = Senders::default();
        let producer = producer(settings, &senders)?;
        Ok(Self {
            settings: settings.clone(),
            producer: Arc::new(SelfHealing::new(ROLE, producer)),
            senders,
        })
    }

    /// Opens one partition to append to. Its reports come in the order in which the broker answered.
    /// No more than `in_flight_max` records may be without a report at any time.
    pub fn partition_producer(
        &self,
        topic: &str,
        partition: i32,
        in_flight_max: usize,
    ) -> (PartitionProducer, mpsc::Receiver<Report>) {
        let (sender, reports) = mpsc::channel(in_flight_max);
        let mut senders = self.senders.write().expect("no holder panics");
        senders.push(sender);
        let slot = senders.len() - 1;
        let producer = PartitionProducer {
            appender: self.clone(),
            topic: topic.into(),
            prefixed_topic: TopicPrefix::of(&self.settings).add(topic).into(),
            partition,
            slot,
        };
        (producer, reports)
    }

    /// Waits until no record is in flight, at most `timeout`. Blocks.
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
) -> Result<ThreadedProducer<ReportSenders>, AppenderError> {
    let timeout_ms = APPEND_TIMEOUT.as_millis().to_string();
    let mut config = settings.client(ROLE);
    if config.get(IN_FLIGHT.0).is_none() {
        config.set(IN_FLIGHT.0, IN_FLIGHT.1);
    }
    let producer = config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        // While a request is in flight the next batch grows by itself.
        .set("linger.ms", "0")
        .set("message.timeout.ms", &timeout_ms)
        .set("socket.timeout.ms", &timeout_ms)
        .set(
            "message.max.bytes",
            (RECORD_BYTES_MAX + RECORD_OVERHEAD_BYTES).to_string(),
        )
        .set("queue.buffering.max.messages", "1000000")
        .set("queue.buffering.max.kbytes", "262144")
        .create_with_context(ReportSenders {
            senders: senders.clone(),
            prefix: TopicPrefix::of(settings),
        })?;
    Ok(producer)
}

impl PartitionProducer {
    /// Replaces the producer if it had a fatal error.
    pub fn heal(&self) -> Result<(), AppenderError> {
        let Appender {
            settings,
            producer: current,
            senders,
        } = &self.appender;
        current.heal(|| producer(settings, senders))
    }

    /// Hands one record to the producer; its [`Report`] will have `number` (48 bits).
    ///
    /// An error means that nothing was sent, and no report will come.
    pub fn append(
        &self,
        key: &[u8],
        value: &[u8],
        headers: &[(&str, &[u8])],
        number: u64,
    ) -> Result<(), AppendError> {
        let bytes = key.len() + value.len();
        let (topic, partition) = (|| self.topic.to_string(), self.partition);
        if bytes > RECORD_BYTES_MAX {
            return Err(AppendError::TooLarge {
                topic: topic(),
                partition,
                bytes,
            });
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a word has 64 bits, asserted above"
        )]
        let opaque = (self.slot << NUMBER_BITS) | (number as usize & ((1 << NUMBER_BITS) - 1));
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
            Err((error, _)) => Err(AppendError::Unknown {
                topic: topic(),
                partition,
                reason: error.to_string(),
            }),
        }
    }
}
