//! Writes windows to their aggregate topics as upserts: the latest record of a key is the window.

use crate::{
    metrics as names,
    window::{JOB, Window},
};
use kafka::{
    CodecError, Encoder, KafkaSettings, Publisher, Registry, RegistryError, Subjects,
    publisher::PublishError,
};
use schemas::aggregates::RevenueByCountry;
use std::collections::BTreeMap;

/// Consecutive failures after which the producer is replaced, because some producers never recover. It is not
/// replaced earlier, because only the same producer keeps later records behind its requests in flight.
const FAILURES_PER_PRODUCER_MAX: u32 = 10;

/// The reason why results can't be published.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The registry does not return the schema's id.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A result does not fit the schema.
    #[error("topic {topic}: {source}")]
    Codec {
        /// The result's topic.
        topic: &'static str,
        /// The encoder's error.
        source: CodecError,
    },
    /// The brokers do not acknowledge the records.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// The producer, with an encoder for each window size.
pub(crate) struct Output {
    settings: KafkaSettings,
    publisher: Publisher,
    encoders: Vec<(Window, Encoder)>,
}

impl Output {
    /// Registers the schemas that the registry does not have, and creates the producer.
    pub(crate) async fn open(
        settings: &KafkaSettings,
        registry: &Registry,
    ) -> Result<Self, OutputError> {
        let subjects = Subjects::new(registry.clone(), settings);
        let mut encoders = Vec::with_capacity(Window::ALL.len());
        for window in Window::ALL {
            let topic = window.topic();
            let (subject, schema) = topic
                .subject()
                .zip(topic.schema())
                .expect("an aggregate topic has a schema");
            let schema_id = subjects.ensure(&subject, &schema).await?;
            let encoder =
                Encoder::new(schema_id, &schema).map_err(|source| OutputError::Codec {
                    topic: topic.name,
                    source,
                })?;
            encoders.push((window, encoder));
        }
        Ok(Self {
            publisher: Publisher::new(settings, JOB)?,
            settings: settings.clone(),
            encoders,
        })
    }

    /// Publishes windows of one size; returns the offset after the last record, by partition. After an error, each
    /// record may or may not be in the topic.
    pub(crate) async fn publish(
        &self,
        window: Window,
        results: &[RevenueByCountry],
    ) -> Result<BTreeMap<i32, i64>, OutputError> {
        let topic = window.topic().name;
        let (_, encoder) = self
            .encoders
            .iter()
            .find(|(size, _)| *size == window)
            .expect("open creates an encoder for every size");
        let mut records = Vec::with_capacity(results.len());
        for result in results {
            let value = encoder
                .encode(result)
                .map_err(|source| OutputError::Codec { topic, source })?;
            records.push((result.key(), value));
        }
        let ends = self.publisher.publish(topic, &records).await?;
        metrics::counter!(names::PUBLISHED, "job" => JOB, "window" => window.name())
            .increment(records.len() as u64);
        Ok(ends)
    }

    /// Replaces the producer after every [`FAILURES_PER_PRODUCER_MAX`] consecutive failures.
    pub(crate) fn replace_after(&mut self, failures: u32) {
        if !failures.is_multiple_of(FAILURES_PER_PRODUCER_MAX) {
            return;
        }
        match Publisher::new(&self.settings, JOB) {
            Ok(publisher) => self.publisher = publisher,
            Err(error) => tracing::warn!(job = JOB, %error, "failed to replace the producer"),
        }
    }
}
