//! Publishes keyed records to topics other than journals, such as aggregate topics.
//!
//! A record gets the partition that the Java client would choose, and each batch is acknowledged before the
//! next is sent. After a fatal error of the producer the next call replaces it.

use crate::{
    prefix::TopicPrefix,
    self_healing::SelfHealing,
    settings::{KafkaSettings, SettingsError},
};
use futures_util::future::try_join_all;
use rdkafka::{
    ClientConfig,
    error::KafkaError,
    producer::{FutureProducer, FutureRecord},
    util::Timeout,
};
use std::{collections::BTreeMap, sync::Arc};

/// Longest time for one record, from call to acknowledgement, in milliseconds.
const PUBLISH_TIMEOUT_MS: u64 = 10_000;
/// Maximum number of records in flight.
const IN_FLIGHT_MAX: usize = 10_000;

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

/// An idempotent producer with awaited acknowledgements.
#[derive(Clone)]
pub struct Publisher {
    settings: KafkaSettings,
    role: String,
    producer: Arc<SelfHealing<FutureProducer>>,
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
        let name = self.prefixed(topic);
        let records: Vec<_> = records
            .iter()
            .map(|(key, value)| FutureRecord::to(&name).key(key).payload(value))
            .collect();
        self.send(topic, records).await
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
        let name = self.prefixed(topic);
        let records: Vec<FutureRecord<'_, String, Vec<u8>>> = keys
            .iter()
            .map(|key| FutureRecord::to(&name).key(key))
            .collect();
        self.send(topic, records).await.map(drop)
    }

    fn prefixed(&self, topic: &str) -> String {
        TopicPrefix::of(&self.settings).add(topic)
    }

    async fn send(
        &self,
        topic: &str,
        mut records: Vec<FutureRecord<'_, String, Vec<u8>>>,
    ) -> Result<BTreeMap<i32, i64>, PublishError> {
        self.producer
            .heal(|| producer(&self.settings, &self.role))?;
        let producer = self.producer.current();
        let mut ends = BTreeMap::new();
        while !records.is_empty() {
            let chunk = records.drain(..records.len().min(IN_FLIGHT_MAX));
            let sends = chunk.map(|record| producer.send(record, Timeout::Never));
            let delivered =
                try_join_all(sends)
                    .await
                    .map_err(|(error, _)| PublishError::Unknown {
                        topic: topic.to_owned(),
                        reason: error.to_string(),
                    })?;
            for record in delivered {
                let end = ends.entry(record.partition).or_insert(0);
                *end = record.offset.saturating_add(1).max(*end);
            }
        }
        Ok(ends)
    }
}

fn producer(settings: &KafkaSettings, role: &str) -> Result<FutureProducer, PublishError> {
    config(settings, role)
        .create()
        .map_err(PublishError::Client)
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
