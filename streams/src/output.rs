//! Writes windows to their aggregate topics, as upserts: the latest record of a key is the window.

use crate::{job::JOB, metrics as names, window::Window};
use kafka::{
    CodecError, Encoder, KafkaSettings, Publisher, Registry, RegistryError, publisher::PublishError,
};
use schemas::aggregates::RevenueByCountry;

/// Failures in a row after which the producer is made anew, for it may be one that never recovers.
/// Earlier it would be wrong: while the old one's requests may be under way, only the same producer
/// keeps them before its later ones.
const FAILURES_PER_PRODUCER_MAX: u32 = 10;

/// Why results are not published.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The registry does not give the schema's id.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A result does not fit the schema.
    #[error("topic {topic}: {source}")]
    Codec {
        /// Where it was to go.
        topic: &'static str,
        /// What does not fit.
        source: CodecError,
    },
    /// The brokers don't acknowledge.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// The producer, and an encoder per window size.
pub(crate) struct Output {
    settings: KafkaSettings,
    publisher: Publisher,
    encoders: Vec<(Window, Encoder)>,
}

impl Output {
    /// Registers the schemas where they are not yet, and makes the producer.
    pub(crate) async fn open(
        settings: &KafkaSettings,
        registry: &Registry,
    ) -> Result<Self, OutputError> {
        let mut encoders = Vec::with_capacity(Window::ALL.len());
        for window in Window::ALL {
            let topic = window.topic();
            let (subject, schema) = topic
                .subject
                .zip(topic.schema())
                .expect("an aggregate topic has a schema");
            let schema_id = registry.ensure(subject, &schema).await?;
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

    /// Publishes windows of one size; all are acknowledged, or the outcome is unknown.
    pub(crate) async fn publish(
        &self,
        window: Window,
        results: &[RevenueByCountry],
    ) -> Result<(), OutputError> {
        let topic = window.topic().name;
        let (_, encoder) = self
            .encoders
            .iter()
            .find(|(size, _)| *size == window)
            .expect("an output is opened with an encoder for every size");
        let mut records = Vec::with_capacity(results.len());
        for result in results {
            let value = encoder
                .encode(result)
                .map_err(|source| OutputError::Codec { topic, source })?;
            records.push((result.key(), value));
        }
        self.publisher.publish(topic, &records).await?;
        metrics::counter!(names::PUBLISHED, "job" => JOB, "window" => window.name())
            .increment(records.len() as u64);
        Ok(())
    }

    /// Makes the producer anew after every [`FAILURES_PER_PRODUCER_MAX`] failures in a row.
    pub(crate) fn renew_after(&mut self, failures: u32) {
        if !failures.is_multiple_of(FAILURES_PER_PRODUCER_MAX) {
            return;
        }
        match Publisher::new(&self.settings, JOB) {
            Ok(publisher) => self.publisher = publisher,
            Err(error) => tracing::warn!(job = JOB, %error, "the producer can't be made anew"),
        }
    }
}
