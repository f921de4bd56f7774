//! The client of the schema registry. It fetches the schemas of records by id, and compares the registry with the
//! schemas that this node used before.

mod archive;
mod error;
#[cfg(test)]
mod fake;
mod http;
mod known;
mod restore;

use self::{
    http::Http,
    known::{Files, Known, SharedKnown},
};
use crate::{
    prefix::TopicPrefix,
    settings::{KafkaSettings, RegistrySettings},
};
use reqwest::StatusCode;
use schema_registry_converter::async_impl::schema_registry::get_schema_by_id;
use schemas::topics::TOPICS;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    time::Duration,
};

pub(crate) use self::http::Rejection;
pub use error::{COMPATIBILITY, RegistryError, SchemaFault};
#[cfg(test)]
pub(crate) use fake::FakeRegistry;
pub use known::{FILE as KNOWN_SCHEMAS_FILE, KnownSchema, LostSchema, SchemaTable};
pub use restore::reads_all;

/// A client of the registry. The schema of an id never changes, so each schema is fetched once.
#[derive(Clone)]
pub struct Registry {
    pub(crate) http: Http,
    schemas: Arc<RwLock<HashMap<u32, Arc<serde_avro_fast::Schema>>>>,
    /// The schemas that this node has used, also before a restart; `None` in tools.
    known: SharedKnown,
    /// The schemas that a node has used, for tools, which write no file.
    expected: Arc<BTreeMap<u32, KnownSchema>>,
}

/// A subject that has a schema.
#[derive(Deserialize)]
struct SubjectVersion {
    subject: String,
}

/// A schema as the registry returns it.
#[derive(Deserialize)]
pub(crate) struct SchemaText {
    pub schema: String,
}

impl Registry {
    /// Creates a client, without a request to the registry.
    ///
    /// # Errors
    /// The HTTP client can't be created.
    pub fn new(settings: &RegistrySettings) -> Result<Self, RegistryError> {
        let timeout = Duration::from_millis(settings.timeout_ms);
        Ok(Self {
            http: Http::new(&settings.url, timeout)?,
            schemas: Arc::default(),
            known: None,
            expected: Arc::default(),
        })
    }

    /// Keeps the first schema of each id in a file in `directory`, and rejects any other schema of that id from then
    /// on. The file is read at the first use.
    pub fn keeping(self, directory: &Path, kafka: &KafkaSettings) -> Self {
        self.keeping_in(directory.join(known::FILE), Files::default(), kafka)
    }

    /// Like [`Registry::keeping`], but keeps new schemas in memory only. The file in `directory`, if one is given, is
    /// read and never written: it may be that of another process, which would overwrite the change.
    pub fn keeping_in_memory(self, directory: Option<&Path>, kafka: &KafkaSettings) -> Self {
        let files = Files {
            read: match directory {
                Some(_) => SchemaTable::read,
                None => |_| Ok(SchemaTable::default()),
            },
            write: |_, _| Ok(()),
            ..Files::default()
        };
        let path = directory.unwrap_or(Path::new("")).join(known::FILE);
        self.keeping_in(path, files, kafka)
    }

    fn keeping_in(mut self, path: PathBuf, files: Files, kafka: &KafkaSettings) -> Self {
        let prefix = TopicPrefix::of(kafka);
        let subjects = TOPICS.iter().filter_map(|topic| topic.subject());
        let subjects = subjects.map(|subject| prefix.add(&subject)).collect();
        self.known = Some(Arc::new(Known::new(path, subjects, files)));
        self
    }

    /// Compares the registry with the schemas that a node has used, without keeping new schemas. For tools.
    pub fn expecting(mut self, table: SchemaTable) -> Self {
        self.expected = Arc::new(table.schemas);
        self
    }

    /// The schema of an id, from memory if possible.
    ///
    /// # Errors
    /// [`RegistryError::LostData`]: the schema differs from the known schema of the id. Otherwise those of
    /// [`Registry::schema_text`].
    pub async fn schema(&self, id: u32) -> Result<Arc<serde_avro_fast::Schema>, RegistryError> {
        if let Some(schema) = self.cached(id) {
            return Ok(schema);
        }
        let text = self.schema_text(id).await?;
        self.bind(id, &text).await?;
        self.keep(id, &text)
    }

    /// Compares a schema from the registry with the known schema of its id, or keeps it if the id is new.
    async fn bind(&self, id: u32, text: &str) -> Result<(), RegistryError> {
        let compared = |schema: &KnownSchema| {
            let fault = schema.compare(id, text);
            self.without_faults(fault.into_iter().collect())
        };
        let Some(known) = &self.known else {
            return self.expected.get(&id).map_or(Ok(()), compared);
        };
        if let Some(schema) = known.all().await?.schemas.get(&id) {
            return compared(schema);
        }
        let mut subjects = self.subjects_of(id).await?.unwrap_or_default();
        subjects.retain(|subject| known.subjects.contains(subject));
        let schema = KnownSchema {
            subjects,
            schema: text.to_owned(),
        };
        if schema.compare(id, text).is_some() {
            // The text is not an Avro schema. The caller returns that error.
            return Ok(());
        }
        // Another caller may have kept a schema of this id meanwhile.
        compared(&known.keep(id, schema).await?)
    }

    /// Whether the file of known schemas has the id.
    pub(crate) async fn knows(&self, id: u32) -> Result<bool, RegistryError> {
        let Some(known) = &self.known else {
            return Ok(false);
        };
        Ok(known.all().await?.schemas.contains_key(&id))
    }

    /// Compares the registry with every known schema.
    ///
    /// # Errors
    /// [`RegistryError::LostData`]: an id is missing, has another schema, or is not under its subjects.
    pub async fn check_known(&self) -> Result<(), RegistryError> {
        let Some(known) = &self.known else {
            return Ok(());
        };
        let table = known.all().await?;
        let mut faults = Vec::new();
        for (id, schema) in &table.schemas {
            faults.extend(self.fault(*id, Some(schema), &schema.subjects).await?);
        }
        self.without_faults(faults)
    }

    /// Checks that the registry has the id, with the known schema if there is one, and under all of these subjects.
    /// Returns the first fault.
    ///
    /// # Errors
    /// The registry does not answer, or refuses a request. A fault is not an error of this function.
    pub async fn fault(
        &self,
        id: u32,
        known: Option<&KnownSchema>,
        subjects: &[String],
    ) -> Result<Option<SchemaFault>, RegistryError> {
        let text = match self.schema_text(id).await {
            Err(RegistryError::UnknownId { .. }) => return Ok(Some(SchemaFault::Missing { id })),
            other => other?,
        };
        let known = known.or_else(|| self.expected.get(&id));
        if let Some(fault) = known.and_then(|known| known.compare(id, &text)) {
            return Ok(Some(fault));
        }
        let Some(found) = self.subjects_of(id).await? else {
            return Ok(None);
        };
        let mut subjects = subjects.iter();
        let missing = subjects.find(|subject| !found.contains(subject));
        Ok(missing.map(|subject| SchemaFault::OtherSubject {
            id,
            subject: subject.clone(),
        }))
    }

    /// Fails with an error that lists the faults, if there are any.
    ///
    /// # Errors
    /// [`RegistryError::LostData`]
    pub fn without_faults(&self, faults: Vec<SchemaFault>) -> Result<(), RegistryError> {
        match faults.is_empty() {
            true => Ok(()),
            false => Err(self.lost(faults)),
        }
    }

    fn lost(&self, faults: Vec<SchemaFault>) -> RegistryError {
        let url = self.http.url();
        RegistryError::LostData { url, faults }
    }

    /// The subjects that have the schema of an id; `None` if the registry rejects the request.
    async fn subjects_of(&self, id: u32) -> Result<Option<Vec<String>>, RegistryError> {
        let path = format!("/schemas/ids/{id}/versions?deleted=true");
        let versions = self.http.get::<Vec<SubjectVersion>>(&path).await?;
        Ok(versions
            .ok()
            .map(|versions| versions.into_iter().map(|one| one.subject).collect()))
    }

    /// Adds the schema of an id to the memory cache, so that it is not fetched.
    ///
    /// # Errors
    /// [`RegistryError::NotAvro`]: the text is not an Avro schema.
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

    /// Fetches the JSON text of an id's schema, without caching it.
    ///
    /// # Errors
    /// [`RegistryError::LostData`]: the schema differs from the expected schema of the id. Otherwise those of
    /// [`Registry::schema_text`].
    pub async fn expected_text(&self, id: u32) -> Result<String, RegistryError> {
        let text = self.schema_text(id).await?;
        self.bind(id, &text).await?;
        Ok(text)
    }

    /// Fetches the JSON text of an id's schema, without caching it or comparing it.
    ///
    /// # Errors
    /// [`RegistryError::UnknownId`]: the registry does not have the id. Otherwise the registry did not answer, or
    /// refused the request.
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

    /// The schema of an id, if it is in memory.
    pub fn cached(&self, id: u32) -> Option<Arc<serde_avro_fast::Schema>> {
        self.schemas
            .read()
            .expect("no holder of this lock panics")
            .get(&id)
            .cloned()
    }

    /// Checks that the registry answers. Each round also checks one known schema, the next one in the order of the
    /// ids.
    ///
    /// # Errors
    /// The registry does not answer, or [`RegistryError::LostData`] about the schema of this round.
    pub async fn probe(&self, round: usize) -> Result<(), RegistryError> {
        let known = match &self.known {
            Some(known) => known.in_memory().unwrap_or_default(),
            None => SchemaTable::default(),
        };
        let count = known.schemas.len().max(1);
        if let Some((id, schema)) = known.schemas.iter().nth(round % count) {
            let fault = self.fault(*id, Some(schema), &schema.subjects).await?;
            return self.without_faults(fault.into_iter().collect());
        }
        // A rejection also shows that the registry answers.
        self.http.get::<Value>("/config").await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[tokio::test]
    async fn another_schema_under_a_known_id_is_rejected_before_and_after_a_restart() {
        static REPLACED: AtomicBool = AtomicBool::new(false);
        let registry = FakeRegistry::start(|request| match request {
            "GET /schemas/ids/7?deleted=true" if REPLACED.load(Ordering::Relaxed) => {
                (200, r#"{"schema": "\"string\""}"#)
            }
            "GET /schemas/ids/7?deleted=true" => (200, r#"{"schema": "\"long\""}"#),
            _ => (404, "{}"),
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let started = || {
            registry
                .registry()
                .keeping(folder.path(), &KafkaSettings::default())
        };
        started().schema(7).await.unwrap();
        REPLACED.store(true, Ordering::Relaxed);
        let restarted = started();
        for _ in 0..2 {
            let refused = restarted.schema(7).await.unwrap_err();
            let RegistryError::LostData { faults, .. } = &refused else {
                panic!("{refused:?} instead of LostData")
            };
            assert!(
                matches!(faults[..], [SchemaFault::Other { id: 7, .. }]),
                "{faults:?} instead of [Other] with id 7"
            );
        }
        restarted.check_known().await.unwrap_err();
        let table = SchemaTable::read(&folder.path().join(KNOWN_SCHEMAS_FILE)).unwrap();
        let tool = registry.registry().expecting(table);
        tool.schema(7).await.map(drop).unwrap_err();
        tool.expected_text(7).await.unwrap_err();
        let fault = tool.fault(7, None, &[]).await.unwrap();
        assert!(
            matches!(fault, Some(SchemaFault::Other { id: 7, .. })),
            "{fault:?} instead of Some(SchemaFault::Other {{ id: 7, .. }})"
        );
        REPLACED.store(false, Ordering::Relaxed);
        tool.expected_text(7).await.unwrap();
        restarted.schema(7).await.unwrap();
        restarted.check_known().await.unwrap();
    }

    #[tokio::test]
    async fn a_process_without_a_file_of_its_own_rejects_another_schema_of_an_id() {
        static REPLACED: AtomicBool = AtomicBool::new(false);
        let registry = FakeRegistry::start(|request| match request {
            "GET /schemas/ids/7?deleted=true" if REPLACED.load(Ordering::Relaxed) => {
                (200, r#"{"schema": "\"string\""}"#)
            }
            "GET /schemas/ids/7?deleted=true" => (200, r#"{"schema": "\"long\""}"#),
            _ => (404, "{}"),
        })
        .await;
        let (of_node, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let kafka = KafkaSettings::default();
        let node = registry.registry().keeping(of_node.path(), &kafka);
        node.schema(7).await.unwrap();
        let in_memory = |directory| registry.registry().keeping_in_memory(directory, &kafka);
        let without_file = [None, Some(empty.path())].map(in_memory);
        for process in &without_file {
            process.schema(7).await.unwrap();
        }
        REPLACED.store(true, Ordering::Relaxed);
        // The process with the node's file has not used the id before.
        let with_file = in_memory(Some(of_node.path()));
        for process in without_file.iter().chain([&with_file]) {
            for refused in [process.check_known().await, process.probe(0).await] {
                assert!(
                    matches!(refused, Err(RegistryError::LostData { .. })),
                    "{refused:?} instead of Err(LostData)"
                );
            }
        }
        let files = std::fs::read_dir(empty.path()).unwrap().count();
        assert_eq!(files, 0, "files were written");
    }
}
