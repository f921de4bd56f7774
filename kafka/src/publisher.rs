//! Publishes keyed records to topics that are no journals, such as aggregate topics.
//!
//! Records are spread as the Java client does, and each is reported written before the next batch. A
//! producer with a fatal error never works again; the next call puts a new one in its place.

use crate::{
    lasting::Lasting,
    settings::{KafkaSettings, SettingsError},
};
use futures_util::future::try_join_all;
use rdkafka::{
    error::KafkaError,
    producer::{FutureProducer, FutureRecord},
    util::Timeout,
};
use std::sync::Arc;

/// Longest time for one record, from call to acknowledgement, in milliseconds.
const PUBLISH_TIMEOUT_MS: u64 = 10_000;
/// Records under way at once.
const UNDER_WAY_MAX: usize = 10_000;

/// Why a record is not known to be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A setting is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The client library refused.
    #[error("the producer can't be made: {0}")]
    Client(KafkaError),
    /// It may stand in the topic or not.
    #[error("topic {topic}: unknown outcome: {reason}")]
    Unknown {
        /// Where it was to go.
        topic: String,
        /// The client library's words.
        reason: String,
    },
}

/// An idempotent producer with awaited acknowledgements.
#[derive(Clone)]
pub struct Publisher {
    settings: KafkaSettings,
    role: String,
    producer: Arc<Lasting<FutureProducer>>,
}

impl Publisher {
    /// Makes the producer; `role` names it in the broker's logs.
    pub fn new(settings: &KafkaSettings, role: &str) -> Result<Self, PublishError> {
        settings.check()?;
        Ok(Self {
            producer: Arc::new(Lasting::new(role, producer(settings, role)?)),
            settings: settings.clone(),
            role: role.to_owned(),
        })
    }

    /// Makes the producer fail for good, as after an error that idempotence can't survive.
    #[cfg(feature = "faults")]
    pub fn fail_fatally(&self) {
        self.producer.fail_fatally();
    }

    /// Publishes `(key, value)` pairs, and returns once all of them are acknowledged. After an error
    /// some may stand in the topic; publishing them again is the caller's choice.
    pub async fn publish(
        &self,
        topic: &str,
        records: &[(String, Vec<u8>)],
    ) -> Result<(), PublishError> {
        let records: Vec<_> = records
            .iter()
            .map(|(key, value)| FutureRecord::to(topic).key(key).payload(value))
            .collect();
        self.send(topic, records).await
    }

    /// Publishes a record without a value for each key, by which compaction forgets it; in other things
    /// like [`Publisher::publish`].
    pub async fn publish_tombstones(
        &self,
        topic: &str,
        keys: &[String],
    ) -> Result<(), PublishError> {
        let records: Vec<FutureRecord<'_, String, Vec<u8>>> = keys
            .iter()
            .map(|key| FutureRecord::to(topic).key(key))
            .collect();
        self.send(topic, records).await
    }

    async fn send(
        &self,
        topic: &str,
        mut records: Vec<FutureRecord<'_, String, Vec<u8>>>,
    ) -> Result<(), PublishError> {
        self.producer
            .mend(|| producer(&self.settings, &self.role))?;
        let producer = self.producer.present();
        while !records.is_empty() {
            let chunk = records.drain(..records.len().min(UNDER_WAY_MAX));
            let sends = chunk.map(|record| producer.send(record, Timeout::Never));
            try_join_all(sends)
                .await
                .map_err(|(error, _)| PublishError::Unknown {
                    topic: topic.to_owned(),
                    reason: error.to_string(),
                })?;
        }
        Ok(())
    }
}

fn producer(settings: &KafkaSettings, role: &str) -> Result<FutureProducer, PublishError> {
    settings
        .client(role)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        .set("partitioner", "murmur2_random")
        .set("message.timeout.ms", PUBLISH_TIMEOUT_MS.to_string())
        .create()
        .map_err(PublishError::Client)
}
