//! The schema registry: fetches the schemas that records were written with, by their ids.

use crate::settings::RegistrySettings;
use schema_registry_converter::{
    async_impl::schema_registry::{SrSettings, get_schema_by_id},
    error::SRCError,
    schema_registry_common::RawError,
};
use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
    time::Duration,
};

/// The compatibility of every subject: later readers can read all history.
pub const COMPATIBILITY: &str = "BACKWARD_TRANSITIVE";

/// A client of the registry. Schemas never change under an id, so each is fetched once.
#[derive(Clone)]
pub struct Registry {
    pub(crate) settings: Arc<SrSettings>,
    pub(crate) client: reqwest::Client,
    pub(crate) url: Arc<str>,
    schemas: Arc<RwLock<HashMap<u32, Arc<serde_avro_fast::Schema>>>>,
}

/// Why a schema can't be fetched or registered.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry does not answer; another attempt may help.
    #[error("the schema registry at {url} does not answer: {reason}")]
    Unreachable {
        /// The registry's address.
        url: String,
        /// The client library's message.
        reason: String,
    },
    /// Records already written could no longer be read.
    #[error(
        "subject {subject}: the schema is not {COMPATIBILITY} with what is registered: {difference}"
    )]
    Incompatible {
        /// The subject as the registry names it.
        subject: String,
        /// The difference.
        difference: String,
    },
    /// The registry does not know the schema (yet).
    #[error("schema id {id} is not in the registry at {url}")]
    UnknownId {
        /// The id in the record.
        id: u32,
        /// The registry's address.
        url: String,
    },
    /// Anything else that the registry refuses.
    #[error("the schema registry at {url} refused {what}: {reason}")]
    Refused {
        /// The registry's address.
        url: String,
        /// The object of the request.
        what: String,
        /// The registry's message.
        reason: String,
    },
    /// The registry's answer is not an Avro schema.
    #[error("schema id {id} is not an Avro schema: {reason}")]
    NotAvro {
        /// The id in the record.
        id: u32,
        /// The parser's message.
        reason: String,
    },
}

impl RegistryError {
    /// Whether another attempt may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::UnknownId { .. })
    }

    /// Whether the subject has another schema, or another process registered it just now.
    pub(crate) fn is_conflict(&self) -> bool {
        match self {
            Self::Incompatible { .. } => true,
            Self::Refused { reason, .. } => reason.contains("409"),
            Self::Unreachable { .. } | Self::UnknownId { .. } | Self::NotAvro { .. } => false,
        }
    }
}

impl Registry {
    /// A client; it asks the registry nothing yet.
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

    /// The schema of an id, from memory if it was fetched before.
    pub async fn schema(&self, id: u32) -> Result<Arc<serde_avro_fast::Schema>, RegistryError> {
        if let Some(schema) = self.cached(id) {
            return Ok(schema);
        }
        let text = self.schema_text(id).await?;
        self.keep(id, &text)
    }

    /// Adds a schema under an id, so that the registry need not be asked for it.
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

    /// The schema of an id as the registry has it, as JSON text; it is not kept in memory.
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

    /// Makes a request to learn whether the registry answers.
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

    pub(crate) fn unreachable(&self, error: &reqwest::Error) -> RegistryError {
        RegistryError::Unreachable {
            url: self.url.to_string(),
            reason: chain(error),
        }
    }

    pub(crate) fn error(&self, what: &str, error: SRCError) -> RegistryError {
        let url = self.url.to_string();
        let refused =
            std::error::Error::source(&error).is_some_and(|source| source.is::<RawError>());
        let reason = match &error.cause {
            Some(cause) => format!("{}: {cause}", error.error),
            None => error.error.clone(),
        };
        match refused && !error.retriable && !is_transient_status(&error.error) {
            true => RegistryError::Refused {
                url,
                what: what.to_owned(),
                reason,
            },
            false => RegistryError::Unreachable { url, reason },
        }
    }
}

/// Whether the client library's message names a transient HTTP status: an error of the registry or a proxy,
/// or too many requests.
fn is_transient_status(text: &str) -> bool {
    text.split_whitespace()
        .filter_map(|word| word.parse::<u16>().ok())
        .any(|status| status >= 500 || status == 408 || status == 429)
}

/// An error with all its causes: the client's own message is often just "error sending request".
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
    fn a_server_error_is_transient_and_a_client_error_is_not() {
        let text = |status| format!("HTTP request to schema registry failed with status {status}");
        for status in [
            "500 Internal Server Error",
            "504 Gateway Timeout",
            "429 Too Many Requests",
        ] {
            assert!(is_transient_status(&text(status)), "{status}");
        }
        for status in ["404 Not Found", "409 Conflict", "422 Unprocessable Entity"] {
            assert!(!is_transient_status(&text(status)), "{status}");
        }
    }
}
