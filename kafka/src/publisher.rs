//! Publishes keyed records to topics other than journals, such as aggregate topics.
//!
//! A record gets the partition that the Java client would choose, and each batch is acknowledged before the
//! next is sent. After a fatal error of the producer the next call replaces it.

use crate::{
    polled_producer::PolledProducer,
    prefix::TopicPrefix,
    self_healing::SelfHealing,
    settings::{KafkaSettings, SettingsError},
};
use rdkafka::{
    ClientConfig, ClientContext, Message,
    error::KafkaError,
    message::DeliveryResult,
    producer::{BaseRecord, ProducerContext},
    types::RDKafkaErrorCode,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

/// Longest time for one record, from call to acknowledgement, in milliseconds.
const PUBLISH_TIMEOUT_MS: u64 = 10_000;
/// Maximum number of records in flight of one call.
const IN_FLIGHT_MAX: usize = 10_000;
/// Wait before a record is put into the producer's queue again, which was full.
const FULL_QUEUE_WAIT: Duration = Duration::from_millis(100);

/// Why a record was not published, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A setting is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The client library refused.
    #[error("the producer can't be created: {0}")]
    Client(KafkaError),
    /// It is unknown whether the topic has the record.
    #[error("topic {topic}: unknown outcome: {reason}")]
    Unknown {
        /// The topic to write to.
        topic: String,
        /// The client library's message.
        reason: String,
    },
}

/// Partition and offset of a published record.
type Delivered = Result<(i32, i64), KafkaError>;

/// Passes each report to the caller that waits for it.
struct Waiters;

impl ClientContext for Waiters {}

impl ProducerContext for Waiters {
    type DeliveryOpaque = Box<oneshot::Sender<Delivered>>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiter: Self::DeliveryOpaque) {
        let delivered = match result {
            Ok(record) => Ok((record.partition(), record.offset())),
            Err((error, _)) => Err(error.clone()),
        };
        // A caller that was cancelled needs no report.
        let _ = waiter.send(delivered);
    }
}

/// An idempotent producer with awaited acknowledgements.
#[derive(Clone)]
pub struct Publisher {
    settings: KafkaSettings,
    role: String,
    producer: Arc<SelfHealing<Waiters>>,
}

impl Publisher {
    /// Creates the producer; `role` names it in the broker's logs.
    ///
    /// # Errors
    /// A setting is wrong, or the client library can't create the producer.
    pub fn new(settings: &KafkaSettings, role: &str) -> Result<Self, PublishError> {
        settings.check()?;
        Ok(Self {
            producer: Arc::new(SelfHealing::new(role, producer(settings, role)?)),
            settings: settings.clone(),
            role: role.to_owned(),
        })
    }

    /// Makes the producer fail fatally, as after an error that idempotence can't survive.
    #[cfg(feature = "faults")]
    pub fn fail_fatally(&self) {
        self.producer.fail_fatally();
    }

    /// Publishes `(key, value)` pairs, and returns once all of them are acknowledged. The result has, for each
    /// partition that got records, the next offset after the last one. After an error, the topic may contain some of
    /// the pairs; the caller decides whether to publish them again.
    pub async fn publish(
        &self,
        topic: &str,
        records: &[(String, Vec<u8>)],
    ) -> Result<BTreeMap<i32, i64>, PublishError> {
        let records: Vec<_> = records
            .iter()
            .map(|(key, value)| (key.as_str(), Some(value.as_slice())))
            .collect();
        self.send(topic, &records).await
    }

    /// Publishes a record without a value for each key, so that compaction removes the key. Returns once all of
    /// them are acknowledged.
    ///
    /// # Errors
    /// The topic may have only some of the tombstones.
    pub async fn publish_tombstones(
        &self,
        topic: &str,
        keys: &[String],
    ) -> Result<(), PublishError> {
        let records: Vec<_> = keys.iter().map(|key| (key.as_str(), None)).collect();
        self.send(topic, &records).await.map(drop)
    }

    async fn send(
        &self,
        topic: &str,
        records: &[(&str, Option<&[u8]>)],
    ) -> Result<BTreeMap<i32, i64>, PublishError> {
        self.producer
            .heal(|| producer(&self.settings, &self.role))?;
        let producer = self.producer.current();
        let name = TopicPrefix::of(&self.settings).add(topic);
        let unknown = |reason: String| PublishError::Unknown {
            topic: topic.to_owned(),
            reason,
        };
        let mut ends = BTreeMap::new();
        for chunk in records.chunks(IN_FLIGHT_MAX) {
            let mut reports = Vec::with_capacity(chunk.len());
            for (key, value) in chunk {
                let report = enqueue(&producer, &name, key, *value).await;
                reports.push(report.map_err(|error| unknown(error.to_string()))?);
            }
            for report in reports {
                // The producer reports every record, and it lives while this call does.
                let delivered = report.await.map_err(|error| unknown(error.to_string()))?;
                let (partition, offset) = delivered.map_err(|error| unknown(error.to_string()))?;
                let end = ends.entry(partition).or_insert(0);
                *end = offset.saturating_add(1).max(*end);
            }
        }
        Ok(ends)
    }
}

/// Puts a record into the producer's queue, and returns the receiver of its report. Waits while the queue is full, at
/// most [`PUBLISH_TIMEOUT_MS`].
async fn enqueue(
    producer: &PolledProducer<Waiters>,
    topic: &str,
    key: &str,
    value: Option<&[u8]>,
) -> Result<oneshot::Receiver<Delivered>, KafkaError> {
    let deadline = Instant::now() + Duration::from_millis(PUBLISH_TIMEOUT_MS);
    let (waiter, report) = oneshot::channel();
    let mut record = BaseRecord::with_opaque_to(topic, Box::new(waiter)).key(key);
    record.payload = value;
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(report),
            Err((error, same))
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
                    && Instant::now() < deadline =>
            {
                record = same;
                sleep(FULL_QUEUE_WAIT).await;
            }
            Err((error, _)) => return Err(error),
        }
    }
}

fn producer(settings: &KafkaSettings, role: &str) -> Result<PolledProducer<Waiters>, PublishError> {
    PolledProducer::new(&config(settings, role), Waiters).map_err(PublishError::Client)
}

pub(crate) fn config(settings: &KafkaSettings, role: &str) -> ClientConfig {
    let mut config = settings.client(role);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        .set("partitioner", "murmur2_random")
        .set("message.timeout.ms", PUBLISH_TIMEOUT_MS.to_string());
    config
}
