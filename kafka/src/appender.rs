//! Appends records to journal partitions: one idempotent producer per process.
//!
//! It promises nothing but what the broker said of each record. What a delivery report proves is the
//! journal's business. A producer with a fatal error never works again; [`AppendLine::mend`] puts a
//! new one in its place.

use crate::{
    lasting::Lasting,
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

/// Longest time from append to report, after which the outcome is unknown.
pub const APPEND_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest record, key and value together, in bytes; the broker's own default bounds it.
pub const RECORD_BYTES_MAX: usize = 1_000_000;
/// What headers and framing may add to a record; the sum stays below the broker's default limit.
const RECORD_OVERHEAD_BYTES: usize = 8_192;
/// Produce requests under way to one broker. With one, the next batches gather meanwhile; with the
/// library's five they stay small, and at 10,000 commits a second most of the processor goes into
/// requests of a few records each. A cluster of long ways may want more: `kafka.properties` may set it.
const IN_FLIGHT: (&str, &str) = ("max.in.flight.requests.per.connection", "1");
/// What the producer is called in the broker's logs, and in ours.
const ROLE: &str = "appender";
/// Bits of a producer's opaque word that hold the caller's own number.
const NUMBER_BITS: u32 = 48;
const _: () = assert!(
    usize::BITS == 64,
    "the opaque word holds a slot and a number"
);

/// What became of one append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The number that the append was given.
    pub number: u64,
    /// The offset that the broker gave. An offset below 0 says that the record stands somewhere, not
    /// where. An error says nothing of whether the record stands.
    pub result: Result<i64, AppendError>,
}

/// Why an append failed or its outcome is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Nothing was sent.
    #[error("topic {topic} partition {partition}: the producer's queue is full")]
    QueueFull {
        /// Where the record was to go.
        topic: String,
        /// Where the record was to go.
        partition: i32,
    },
    /// Nothing was sent.
    #[error(
        "topic {topic} partition {partition}: a record of {bytes} bytes is larger than {RECORD_BYTES_MAX}"
    )]
    TooLarge {
        /// Where the record was to go.
        topic: String,
        /// Where the record was to go.
        partition: i32,
        /// The record's size.
        bytes: usize,
    },
    /// It may stand in the log or not.
    #[error("topic {topic} partition {partition}: unknown outcome: {reason}")]
    Unknown {
        /// Where the record was to go.
        topic: String,
        /// Where the record was to go.
        partition: i32,
        /// The client library's words.
        reason: String,
    },
}

/// The producer can't be made.
#[derive(Debug, thiserror::Error)]
pub enum AppenderError {
    /// A setting is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The client library refused.
    #[error("the producer can't be made: {0}")]
    Client(#[from] KafkaError),
}

/// Takes records and reports on each, exactly once, to the line that appended it.
#[derive(Clone)]
pub struct Appender {
    settings: KafkaSettings,
    producer: Arc<Lasting<ThreadedProducer<Lines>>>,
    senders: Senders,
}

/// Where one partition's owner appends, and hears what became of it.
#[derive(Clone)]
pub struct AppendLine {
    appender: Appender,
    topic: Arc<str>,
    partition: i32,
    slot: usize,
}

/// The receivers of reports, by slot; every producer's.
type Senders = Arc<RwLock<Vec<mpsc::Sender<Report>>>>;

/// Hears a producer's reports.
struct Lines {
    senders: Senders,
}

impl ClientContext for Lines {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka producer");
    }
}

impl ProducerContext for Lines {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let (slot, number) = (
            opaque >> NUMBER_BITS,
            opaque as u64 & ((1 << NUMBER_BITS) - 1),
        );
        let result = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, message)) => Err(AppendError::Unknown {
                topic: message.topic().to_owned(),
                partition: message.partition(),
                reason: error.to_string(),
            }),
        };
        let senders = self.senders.read().expect("no holder of this lock panics");
        // A line that is gone has no use for its reports. A full one can't be: its owner has no more
        // records under way than the line holds reports.
        if let Err(mpsc::error::TrySendError::Full(report)) =
            senders[slot].try_send(Report { number, result })
        {
            tracing::error!(
                ?report,
                slot,
                "a delivery report found its line full and is lost"
            );
        }
    }
}

impl Appender {
    /// Makes the process's producer.
    pub fn new(settings: &KafkaSettings) -> Result<Self, AppenderError> {
        settings.check()?;
        let senders = Senders::default();
        let producer = producer(settings, &senders)?;
        Ok(Self {
            settings: settings.clone(),
            producer: Arc::new(Lasting::new(ROLE, producer)),
            senders,
        })
    }

    /// Opens a line to one partition. Its reports come in the order in which the broker answered.
    /// No more than `under_way_max` records may be without a report at any time.
    pub fn line(
        &self,
        topic: &str,
        partition: i32,
        under_way_max: usize,
    ) -> (AppendLine, mpsc::Receiver<Report>) {
        let (sender, reports) = mpsc::channel(under_way_max);
        let mut senders = self.senders.write().expect("no holder panics");
        senders.push(sender);
        let slot = senders.len() - 1;
        let line = AppendLine {
            appender: self.clone(),
            topic: topic.into(),
            partition,
            slot,
        };
        (line, reports)
    }

    /// Waits until nothing is under way, at most `timeout`. Blocks.
    pub fn flush(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.producer.present().flush(timeout)
    }

    /// Makes the producer fail for good, as after an error that idempotence can't survive.
    #[cfg(feature = "faults")]
    pub fn fail_fatally(&self) {
        self.producer.fail_fatally();
    }
}

fn producer(
    settings: &KafkaSettings,
    senders: &Senders,
) -> Result<ThreadedProducer<Lines>, AppenderError> {
    let timeout_ms = APPEND_TIMEOUT.as_millis().to_string();
    let mut config = settings.client(ROLE);
    if config.get(IN_FLIGHT.0).is_none() {
        config.set(IN_FLIGHT.0, IN_FLIGHT.1);
    }
    let producer = config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        // While a request is under way the next batch gathers by itself.
        .set("linger.ms", "0")
        .set("message.timeout.ms", &timeout_ms)
        .set("socket.timeout.ms", &timeout_ms)
        .set(
            "message.max.bytes",
            (RECORD_BYTES_MAX + RECORD_OVERHEAD_BYTES).to_string(),
        )
        .set("queue.buffering.max.messages", "1000000")
        .set("queue.buffering.max.kbytes", "262144")
        .create_with_context(Lines {
            senders: senders.clone(),
        })?;
    Ok(producer)
}

impl AppendLine {
    /// Makes a new producer if the present one had a fatal error.
    pub fn mend(&self) -> Result<(), AppenderError> {
        let Appender {
            settings,
            producer: lasting,
            senders,
        } = &self.appender;
        lasting.mend(|| producer(settings, senders))
    }

    /// Hands one record to the producer; its [`Report`] will bear `number` (48 bits).
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
        let record = BaseRecord::with_opaque_to(&self.topic, opaque)
            .partition(self.partition)
            .key(key)
            .payload(value)
            .headers(headers);
        match self.appender.producer.present().send(record) {
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
