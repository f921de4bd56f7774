//! The writers' schemas of a log's records; each is fetched and parsed once.

use crate::body::WriterSchema;
use backoff::Backoff;
use kafka::{Registry, RegistryError, Subjects, registry::SchemaFault};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Maximum number of attempts to fetch a schema from a registry that does not answer.
const FETCH_ATTEMPTS_MAX: u32 = 5;

/// A schema, or the reason why it is not available.
pub type Known = Result<Arc<WriterSchema>, String>;

/// Schemas by id.
#[derive(Debug, Default)]
pub struct SchemasSeen {
    known: HashMap<u32, Known>,
    /// The results of comparing ids with the registry, by subject and id.
    compared: BTreeMap<(&'static str, u32), Option<SchemaFault>>,
}

impl SchemasSeen {
    /// Adds the schema of an id, as text.
    pub fn insert(&mut self, schema_id: u32, text: &str) {
        let parsed = WriterSchema::parse(text).map_err(|error| error.to_string());
        self.known.insert(schema_id, parsed.map(Arc::new));
    }

    /// The schema of an id, if it was added before.
    pub fn get(&self, schema_id: u32) -> Known {
        let unknown = || Err(format!("schema id {schema_id} is not in the copy"));
        self.known.get(&schema_id).cloned().unwrap_or_else(unknown)
    }

    /// The schema of an id, fetched from the registry the first time. The inner error means that the registry does
    /// not have the schema of the id, the outer error that the registry does not answer.
    pub async fn fetch(
        &mut self,
        registry: &Registry,
        schema_id: u32,
    ) -> Result<Known, RegistryError> {
        if let Some(known) = self.known.get(&schema_id) {
            return Ok(known.clone());
        }
        match retried(schema_id, || registry.expected_text(schema_id)).await {
            Ok(text) => self.insert(schema_id, &text),
            Err(error @ (RegistryError::UnknownId { .. } | RegistryError::LostData { .. })) => {
                self.known.insert(schema_id, Err(error.to_string()));
            }
            Err(error) => return Err(error),
        }
        Ok(self.get(schema_id))
    }

    /// Whether the registry lacks the id of a record, has another schema under it than the expected one, or has it only
    /// under other subjects than the topic's. In the last case the id may belong to an unrelated schema.
    ///
    /// # Errors
    /// The registry does not answer.
    pub async fn is_lost(
        &mut self,
        subjects: &Subjects,
        subject: &'static str,
        schema_id: u32,
    ) -> Result<bool, RegistryError> {
        if let Some(fault) = self.compared.get(&(subject, schema_id)) {
            return Ok(fault.is_some());
        }
        let fault = retried(schema_id, || subjects.fault(subject, schema_id)).await?;
        let is_lost = fault.is_some();
        self.compared.insert((subject, schema_id), fault);
        Ok(is_lost)
    }

    /// The faults found so far.
    pub fn faults(&self) -> Vec<SchemaFault> {
        self.compared.values().flatten().cloned().collect()
    }
}

async fn retried<T>(
    schema_id: u32,
    attempt: impl AsyncFn() -> Result<T, RegistryError>,
) -> Result<T, RegistryError> {
    let mut waits = Backoff::for_server();
    for _ in 1..FETCH_ATTEMPTS_MAX {
        match attempt().await {
            Err(error @ RegistryError::Unreachable { .. }) => {
                tracing::warn!(schema_id, %error, "failed to fetch a schema, retrying");
                tokio::time::sleep(waits.wait()).await;
            }
            other => return other,
        }
    }
    attempt().await
}
