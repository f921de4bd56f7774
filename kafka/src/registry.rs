//! The schema registry: registers our schemas, and fetches those that records were written with.

use crate::settings::RegistrySettings;
use apache_avro::schema_compatibility::SchemaCompatibility;
use schema_registry_converter::{
    async_impl::schema_registry::{
        SrSettings, get_schema_by_id, get_schema_by_subject, post_schema,
    },
    error::SRCError,
    schema_registry_common::{RawError, SchemaType, SubjectNameStrategy, SuppliedSchema},
};
use serde_json::json;
use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
    time::Duration,
};

/// What all history must stay: readable by every later reader.
pub const COMPATIBILITY: &str = "BACKWARD_TRANSITIVE";
/// How often a subject is tried that conflicts: processes that start side by side all make it, and a
/// registry may refuse all but one of them. A schema that is incompatible stays so.
const CONFLICT_TRIES_MAX: u32 = 5;
/// Time between two of these tries.
const CONFLICT_PAUSE: Duration = Duration::from_millis(100);

/// A client of the registry. Schemas never change under an id, so each is fetched once.
#[derive(Clone)]
pub struct Registry {
    settings: Arc<SrSettings>,
    client: reqwest::Client,
    url: Arc<str>,
    schemas: Arc<RwLock<HashMap<u32, Arc<serde_avro_fast::Schema>>>>,
}

/// Why a schema can't be had or registered.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No answer; another try may help.
    #[error("the schema registry at {url} does not answer: {reason}")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// The client library's words.
        reason: String,
    },
    /// Records already written could no longer be read.
    #[error(
        "subject {subject}: the schema is not {COMPATIBILITY} with what is registered: {difference}"
    )]
    Incompatible {
        /// The registry's name for it.
        subject: String,
        /// What differs.
        difference: String,
    },
    /// The registry knows no such schema (yet).
    #[error("schema id {id} is not in the registry at {url}")]
    UnknownId {
        /// The id in the record.
        id: u32,
        /// The registry asked.
        url: String,
    },
    /// Anything else that the registry refuses.
    #[error("the schema registry at {url} refused {what}: {reason}")]
    Refused {
        /// The registry asked.
        url: String,
        /// What was asked for.
        what: String,
        /// Its words.
        reason: String,
    },
    /// The registry gave what is no Avro schema.
    #[error("schema id {id} is not an Avro schema: {reason}")]
    NotAvro {
        /// The id in the record.
        id: u32,
        /// Why not.
        reason: String,
    },
}

impl RegistryError {
    /// Whether another try may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::UnknownId { .. })
    }

    /// Whether the registry has something else by that name, or somebody else made it just now.
    fn is_conflict(&self) -> bool {
        match self {
            Self::Incompatible { .. } => true,
            Self::Refused { reason, .. } => reason.contains("409"),
            Self::Unreachable { .. } | Self::UnknownId { .. } | Self::NotAvro { .. } => false,
        }
    }
}

impl Registry {
    /// A client; nothing is asked yet.
    pub fn new(settings: &RegistrySettings) -> Result<Self, RegistryError> {
        let timeout = Duration::from_millis(settings.timeout_ms);
        let url: Arc<str> = settings.url.trim_end_matches('/').into();
        let refused = |reason: String| RegistryError::Refused {
            url: url.to_string(),
            what: "a client".into(),
            reason,
        };
        let client = reqwest::Client::builder()
            .timeout(timeout)
            .build()
            .map_err(|error| refused(error.to_string()))?;
        let settings = SrSettings::new_builder(url.to_string())
            .set_timeout(timeout)
            .build()
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            settings: Arc::new(settings),
            client,
            url,
            schemas: Arc::default(),
        })
    }

    /// Makes sure that a subject has this schema and stays [`COMPATIBILITY`]; gives its id.
    pub async fn ensure(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        for _ in 1..CONFLICT_TRIES_MAX {
            match self.ensure_once(subject, schema).await {
                Err(error) if error.is_conflict() => tokio::time::sleep(CONFLICT_PAUSE).await,
                ended => return ended,
            }
        }
        self.ensure_once(subject, schema).await
    }

    async fn ensure_once(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        self.set_compatibility(subject).await?;
        let supplied = SuppliedSchema::new(None, SchemaType::Avro, schema.to_owned());
        match post_schema(&self.settings, subject.to_owned(), supplied).await {
            Ok(registered) => Ok(registered.id),
            Err(error) => Err(match self.error(&format!("subject {subject}"), error) {
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

    /// The schema of an id, from memory if it was fetched before.
    pub async fn schema(&self, id: u32) -> Result<Arc<serde_avro_fast::Schema>, RegistryError> {
        if let Some(schema) = self.cached(id) {
            return Ok(schema);
        }
        let text = self.schema_text(id).await?;
        self.keep(id, &text)
    }

    /// Takes a schema as known under an id, so that the registry need not be asked for it.
    pub fn remember(&self, id: u32, schema: &str) -> Result<(), RegistryError> {
        self.keep(id, schema).map(|_| ())
    }

    fn keep(&self, id: u32, text: &str) -> Result<Arc<serde_avro_fast::Schema>, RegistryError> {
        let schema: serde_avro_fast::Schema =
            text.parse()
                .map_err(
                    |error: serde_avro_fast::schema::SchemaError| RegistryError::NotAvro {
                        id,
                        reason: error.to_string(),
                    },
                )?;
        let schema = Arc::new(schema);
        self.schemas
            .write()
            .expect("no holder of this lock panics")
            .insert(id, schema.clone());
        Ok(schema)
    }

    /// The schema of an id as the registry has it, as JSON text. Not kept.
    pub async fn schema_text(&self, id: u32) -> Result<String, RegistryError> {
        match get_schema_by_id(id, &self.settings).await {
            Ok(registered) => Ok(registered.schema),
            Err(error) => Err(match self.error(&format!("schema id {id}"), error) {
                RegistryError::Refused { reason, .. } if reason.contains("404") => {
                    RegistryError::UnknownId {
                        id,
                        url: self.url.to_string(),
                    }
                }
                other => other,
            }),
        }
    }

    /// The schema of an id if it was fetched before.
    pub fn cached(&self, id: u32) -> Option<Arc<serde_avro_fast::Schema>> {
        self.schemas
            .read()
            .expect("no holder of this lock panics")
            .get(&id)
            .cloned()
    }

    /// Asks for anything at all, to see whether the registry is there.
    pub async fn ping(&self) -> Result<(), RegistryError> {
        let answer = self
            .client
            .get(format!("{}/config", self.url))
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        match answer.status().is_server_error() {
            false => Ok(()),
            true => Err(RegistryError::Unreachable {
                url: self.url.to_string(),
                reason: answer.status().to_string(),
            }),
        }
    }

    async fn set_compatibility(&self, subject: &str) -> Result<(), RegistryError> {
        let answer = self
            .client
            .put(format!("{}/config/{subject}", self.url))
            .json(&json!({ "compatibility": COMPATIBILITY }))
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() {
            return Ok(());
        }
        let status = answer.status();
        let reason = format!("{status} {}", answer.text().await.unwrap_or_default());
        if status.is_server_error() {
            return Err(RegistryError::Unreachable {
                url: self.url.to_string(),
                reason,
            });
        }
        let what = format!("the compatibility of subject {subject}");
        Err(RegistryError::Refused {
            url: self.url.to_string(),
            what,
            reason,
        })
    }

    /// What a reader with the new schema would stumble over in the newest registered one.
    async fn difference(&self, subject: &str, schema: &str) -> Option<String> {
        let strategy = SubjectNameStrategy::RecordNameStrategy(subject.to_owned());
        let registered = get_schema_by_subject(&self.settings, &strategy)
            .await
            .ok()?;
        let writer = apache_avro::Schema::parse_str(&registered.schema).ok()?;
        let reader = apache_avro::Schema::parse_str(schema).ok()?;
        SchemaCompatibility::can_read(&writer, &reader)
            .err()
            .map(|error| error.to_string())
    }

    fn unreachable(&self, error: &reqwest::Error) -> RegistryError {
        RegistryError::Unreachable {
            url: self.url.to_string(),
            reason: chain(error),
        }
    }

    fn error(&self, what: &str, error: SRCError) -> RegistryError {
        let url = self.url.to_string();
        let refused =
            std::error::Error::source(&error).is_some_and(|source| source.is::<RawError>());
        let reason = match &error.cause {
            Some(cause) => format!("{}: {cause}", error.error),
            None => error.error.clone(),
        };
        match refused && !error.retriable && !is_passing(&error.error) {
            true => RegistryError::Refused {
                url,
                what: what.to_owned(),
                reason,
            },
            false => RegistryError::Unreachable { url, reason },
        }
    }
}

/// Whether the client library's words name an HTTP status that says "not now": the registry's own
/// trouble, a proxy's, or too many questions.
fn is_passing(text: &str) -> bool {
    text.split_whitespace()
        .filter_map(|word| word.parse::<u16>().ok())
        .any(|status| status >= 500 || status == 408 || status == 429)
}

fn is_incompatible(reason: &str) -> bool {
    reason.contains("409") || reason.to_lowercase().contains("incompatible")
}

/// An error and all its causes, for a client's top error often says only "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_registrys_own_trouble_from_a_refusal() {
        let text = |status| format!("HTTP request to schema registry failed with status {status}");
        for status in [
            "500 Internal Server Error",
            "504 Gateway Timeout",
            "429 Too Many Requests",
        ] {
            assert!(is_passing(&text(status)), "{status}");
        }
        for status in ["404 Not Found", "409 Conflict", "422 Unprocessable Entity"] {
            assert!(!is_passing(&text(status)), "{status}");
        }
    }
}
