//! Registers the schemas of topics' values in the registry, each under its topic's subject.
//!
//! A subject is named after the topic (TopicNameStrategy), prefix included, so that other clients find it.

use crate::{
    prefix::TopicPrefix,
    registry::{COMPATIBILITY, Registry, RegistryError},
    settings::KafkaSettings,
};
use apache_avro::schema_compatibility::SchemaCompatibility;
use schema_registry_converter::{
    async_impl::schema_registry::{get_schema_by_subject, post_schema},
    schema_registry_common::{SchemaType, SubjectNameStrategy, SuppliedSchema},
};
use serde_json::json;
use std::time::Duration;

/// Attempts at a subject that conflicts: processes that start side by side all register it, and a registry
/// may refuse all but one of them. A schema that is incompatible stays so.
const CONFLICT_ATTEMPTS_MAX: u32 = 5;
/// Time between two of these attempts.
const CONFLICT_INTERVAL: Duration = Duration::from_millis(100);

/// The subjects of a deployment's topics.
#[derive(Clone)]
pub struct Subjects {
    registry: Registry,
    prefix: TopicPrefix,
}

impl Subjects {
    /// The subjects of the topics that these settings name.
    pub fn new(registry: Registry, kafka: &KafkaSettings) -> Self {
        Self {
            registry,
            prefix: TopicPrefix::of(kafka),
        }
    }

    /// The subject as the registry names it.
    pub fn prefixed(&self, subject: &str) -> String {
        self.prefix.add(subject)
    }

    /// Registers a schema under a subject where it is not yet, and keeps the subject [`COMPATIBILITY`].
    /// Returns the schema's id.
    pub async fn ensure(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let subject = self.prefixed(subject);
        for _ in 1..CONFLICT_ATTEMPTS_MAX {
            match self.ensure_once(&subject, schema).await {
                Err(error) if error.is_conflict() => tokio::time::sleep(CONFLICT_INTERVAL).await,
                ended => return ended,
            }
        }
        self.ensure_once(&subject, schema).await
    }

    async fn ensure_once(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        self.set_compatibility(subject).await?;
        let registry = &self.registry;
        let supplied = SuppliedSchema::new(None, SchemaType::Avro, schema.to_owned());
        match post_schema(&registry.settings, subject.to_owned(), supplied).await {
            Ok(registered) => Ok(registered.id),
            Err(error) => Err(match registry.error(&format!("subject {subject}"), error) {
                RegistryError::Refused { reason, .. } if is_incompatible(&reason) => {
                    let difference = self.difference(subject, schema).await.unwrap_or(reason);
                    RegistryError::Incompatible {
                        subject: subject.to_owned(),
                        difference,
                    }
                }
                other => other,
            }),
        }
    }

    async fn set_compatibility(&self, subject: &str) -> Result<(), RegistryError> {
        let registry = &self.registry;
        let answer = registry
            .client
            .put(format!("{}/config/{subject}", registry.url))
            .json(&json!({ "compatibility": COMPATIBILITY }))
            .send()
            .await
            .map_err(|error| registry.unreachable(&error))?;
        if answer.status().is_success() {
            return Ok(());
        }
        let (url, status) = (registry.url.to_string(), answer.status());
        let reason = format!("{status} {}", answer.text().await.unwrap_or_default());
        match status.is_server_error() {
            true => Err(RegistryError::Unreachable { url, reason }),
            false => Err(RegistryError::Refused {
                url,
                what: format!("the compatibility of subject {subject}"),
                reason,
            }),
        }
    }

    /// Why a reader with the new schema can't read the newest registered one.
    async fn difference(&self, subject: &str, schema: &str) -> Option<String> {
        let strategy = SubjectNameStrategy::RecordNameStrategy(subject.to_owned());
        let registered = get_schema_by_subject(&self.registry.settings, &strategy)
            .await
            .ok()?;
        let writer = apache_avro::Schema::parse_str(&registered.schema).ok()?;
        let reader = apache_avro::Schema::parse_str(schema).ok()?;
        SchemaCompatibility::can_read(&writer, &reader)
            .err()
            .map(|error| error.to_string())
    }
}

fn is_incompatible(reason: &str) -> bool {
    reason.contains("409") || reason.to_lowercase().contains("incompatible")
}
