//! The schema registry: fetches the schemas that records were written with, by their ids.

mod error;
mod http;

use self::http::Http;
use crate::settings::RegistrySettings;
use reqwest::StatusCode;
use schema_registry_converter::async_impl::schema_registry::get_schema_by_id;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
    time::Duration,
};

pub(crate) use self::http::Rejection;
pub use error::{COMPATIBILITY, RegistryError};

/// A client of the registry. Schemas never change under an id, so each is fetched once.
#[derive(Clone)]
pub struct Registry {
    pub(crate) http: Http,
    schemas: Arc<RwLock<HashMap<u32, Arc<serde_avro_fast::Schema>>>>,
}

/// A schema as the registry returns it.
#[derive(Deserialize)]
pub(crate) struct SchemaText {
    pub schema: String,
}

impl Registry {
    /// Creates a client, without a request to the registry.
    pub fn new(settings: &RegistrySettings) -> Result<Self, RegistryError> {
        let timeout = Duration::from_millis(settings.timeout_ms);
        Ok(Self {
            http: Http::new(&settings.url, timeout)?,
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

    /// Adds a schema under an id, so that it need not be fetched.
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
        let error = match get_schema_by_id(id, &self.http.settings).await {
            Ok(found) => return Ok(found.schema),
            Err(error) => error,
        };
        let rejection = self.http.rejection(&error)?;
        match rejection.status == StatusCode::NOT_FOUND {
            true => {
                let url = self.http.url();
                Err(RegistryError::UnknownId { id, url })
            }
            false => Err(self.http.refused(format!("schema id {id}"), rejection)),
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

    /// Checks by a request that the registry answers.
    pub async fn ping(&self) -> Result<(), RegistryError> {
        // A rejection is an answer, too.
        self.http.get::<Value>("/config").await.map(drop)
    }
}
