//! The schemas of all records that a node has read or written, by schema id, in a file. A node compares the registry
//! with this file, so it detects a registry that lost its data or has another schema under an id, even after a restart.
//!
//! The file is written when an id is used for the first time, which is as rare as a schema change. An operator may
//! delete the file; the node then accepts the registry's schemas again.
//!
//! A disk that hangs delays only the callers that need the file, and each of them for a bounded time.

use super::error::{RegistryError, SchemaFault};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

/// The file's name, in the directory of the state store.
pub const FILE: &str = "daybook-schemas.json";
/// The version of the file's format.
const FORMAT: u32 = 1;
/// Longest wait for the file, including the wait for earlier accesses to end.
const FILE_TIMEOUT: Duration = Duration::from_secs(5);

/// A schema, and the deployment's subjects that it is registered under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownSchema {
    /// The names in the registry, with the topic prefix.
    pub subjects: Vec<String>,
    /// The JSON text that the registry returned.
    pub schema: String,
}

/// The file's content. Readers ignore unknown fields, so a later release may add fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaTable {
    format: u32,
    /// The schemas by id.
    pub schemas: BTreeMap<u32, KnownSchema>,
}

/// A schema to register again under its old id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LostSchema {
    /// The id in the records.
    pub id: u32,
    /// The name in the registry, with the topic prefix.
    pub subject: String,
    /// The schema as JSON text.
    pub schema: String,
}

/// The known schemas of a process, and their file.
#[derive(Debug)]
pub(super) struct Known {
    path: PathBuf,
    /// The deployment's subjects, with the topic prefix. The file contains no other subjects.
    pub subjects: Vec<String>,
    /// `None` until the file was read. The lock is never held over an access to the file.
    table: Mutex<Option<SchemaTable>>,
    /// Admits one access to the file at a time, so that a disk that hangs takes one thread, and no write replaces the
    /// file with an older table.
    access: Arc<Semaphore>,
    files: Files,
}

/// Reads and writes the file. A test can replace it with a disk that hangs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Files {
    pub read: fn(&Path) -> Result<SchemaTable, RegistryError>,
    pub write: fn(&SchemaTable, &Path) -> Result<(), RegistryError>,
    pub timeout: Duration,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            read: SchemaTable::read,
            write: SchemaTable::write,
            timeout: FILE_TIMEOUT,
        }
    }
}

impl Default for SchemaTable {
    fn default() -> Self {
        Self {
            format: FORMAT,
            schemas: BTreeMap::new(),
        }
    }
}

impl SchemaTable {
    /// Reads the file. A missing file is an empty table.
    ///
    /// # Errors
    /// The file can't be read, or has an unknown format.
    pub fn read(path: &Path) -> Result<Self, RegistryError> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(unreadable(path, &error));
            }
            other => other.map_err(|error| unusable(path, &error))?,
        };
        let table: Self = serde_json::from_str(&text).map_err(|error| unreadable(path, &error))?;
        match table.format {
            FORMAT => Ok(table),
            other => Err(unreadable(path, &format!("unknown format {other}"))),
        }
    }

    /// Replaces the file atomically, and syncs it to disk.
    fn write(&self, path: &Path) -> Result<(), RegistryError> {
        let replaced = || -> io::Result<()> {
            let partial = path.with_extension("partial");
            let mut file = File::create(&partial)?;
            file.write_all(serde_json::to_string_pretty(self)?.as_bytes())?;
            file.sync_all()?;
            fs::rename(&partial, path)?;
            let parent = path.parent().unwrap_or(Path::new("."));
            File::open(parent)?.sync_all()
        };
        replaced().map_err(|error| unusable(path, &error))
    }
}

impl Known {
    pub fn new(path: PathBuf, subjects: Vec<String>, files: Files) -> Self {
        Self {
            path,
            subjects,
            table: Mutex::new(None),
            access: Arc::new(Semaphore::new(1)),
            files,
        }
    }

    /// All known schemas. Reads the file if no earlier call has read it.
    ///
    /// # Errors
    /// The file can't be read, or the disk does not answer.
    pub async fn all(&self) -> Result<SchemaTable, RegistryError> {
        if let Some(table) = &*self.table() {
            return Ok(table.clone());
        }
        let deadline = Instant::now() + self.files.timeout;
        let turn = self.turn(deadline).await?;
        Ok(self.read(turn, deadline).await?.1)
    }

    /// The known schemas, if the file was read. Does not wait for the disk.
    pub fn in_memory(&self) -> Option<SchemaTable> {
        self.table().clone()
    }

    /// Keeps the schema of an id, and returns once it is on disk. If an earlier call has kept a schema of this id,
    /// returns that schema; otherwise returns `schema`.
    ///
    /// # Errors
    /// The file can't be read or written, or the disk does not answer.
    pub async fn keep(&self, id: u32, schema: KnownSchema) -> Result<KnownSchema, RegistryError> {
        let deadline = Instant::now() + self.files.timeout;
        let turn = self.turn(deadline).await?;
        let (turn, mut table) = self.read(turn, deadline).await?;
        if let Some(kept) = table.schemas.get(&id) {
            return Ok(kept.clone());
        }
        table.schemas.insert(id, schema.clone());
        let (files, path, written) = (self.files, self.path.clone(), table.clone());
        let write = move || (files.write)(&written, &path);
        let (_turn, ()) = self.on_disk(turn, deadline, write).await?;
        *self.table() = Some(table);
        Ok(schema)
    }

    /// Returns the table in memory. Reads the file first if no earlier access has read it.
    async fn read(
        &self,
        turn: OwnedSemaphorePermit,
        deadline: Instant,
    ) -> Result<(OwnedSemaphorePermit, SchemaTable), RegistryError> {
        if let Some(table) = self.in_memory() {
            return Ok((turn, table));
        }
        let (files, path) = (self.files, self.path.clone());
        let read = self.on_disk(turn, deadline, move || (files.read)(&path));
        let (turn, table) = read.await?;
        *self.table() = Some(table.clone());
        Ok((turn, table))
    }

    /// Waits for earlier accesses to the file to end.
    async fn turn(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, RegistryError> {
        let turn = timeout_at(deadline, self.access.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| self.hangs())?;
        Ok(turn.expect("the semaphore is never closed"))
    }

    /// Accesses the file on a thread that may block. After the deadline, the thread keeps its turn until the disk
    /// answers.
    async fn on_disk<T: Send + 'static>(
        &self,
        turn: OwnedSemaphorePermit,
        deadline: Instant,
        access: impl FnOnce() -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<(OwnedSemaphorePermit, T), RegistryError> {
        let accessed = spawn_blocking(move || (turn, access()));
        let accessed = timeout_at(deadline, accessed).await;
        let accessed = accessed.map_err(|_| self.hangs())?;
        let (turn, result) = accessed.map_err(|error| unusable(&self.path, &error))?;
        Ok((turn, result?))
    }

    fn hangs(&self) -> RegistryError {
        let reason = format!("the disk has not answered for {:?}", self.files.timeout);
        unusable(&self.path, &reason)
    }

    fn table(&self) -> MutexGuard<'_, Option<SchemaTable>> {
        self.table.lock().expect("no holder of this lock panics")
    }
}

impl KnownSchema {
    /// Compares the registry's schema of this id with the known one; `None` if both decode the same way.
    pub fn compare(&self, id: u32, found: &str) -> Option<SchemaFault> {
        let (known, found) = (Meaning::of(&self.schema), Meaning::of(found));
        (known.is_none() || known != found).then(|| SchemaFault::Other {
            id,
            known: known.map_or(0, |meaning| meaning.fingerprint),
            found: found.map_or(0, |meaning| meaning.fingerprint),
        })
    }
}

/// The parts of a schema that decide how a value is decoded. Two texts of one schema have equal parts.
#[derive(Debug, PartialEq, Eq)]
struct Meaning {
    /// The CRC-64-AVRO fingerprint of the canonical form, for messages.
    fingerprint: u64,
    /// Avro's parsing canonical form.
    canonical: String,
    /// The logical types with precision and scale, in the schema's order. The canonical form omits them.
    logical_types: Vec<(String, Value, Value)>,
}

impl Meaning {
    /// `None` if the text is not an Avro schema.
    fn of(schema: &str) -> Option<Self> {
        let parsed = apache_avro::Schema::parse_str(schema).ok()?;
        let fingerprint = parsed.fingerprint::<apache_avro::rabin::Rabin>();
        let fingerprint = fingerprint.bytes.try_into().map(u64::from_le_bytes).ok()?;
        let mut logical_types = Vec::new();
        collect_logical_types(&serde_json::from_str(schema).ok()?, &mut logical_types);
        Some(Self {
            fingerprint,
            canonical: parsed.canonical_form(),
            logical_types,
        })
    }
}

/// Collects the logical types of a schema. The attributes of a JSON object are visited in a fixed order, so the order
/// in the text does not matter.
fn collect_logical_types(schema: &Value, found: &mut Vec<(String, Value, Value)>) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::String(name)) = object.get("logicalType") {
                let attribute = |name| object.get(name).cloned().unwrap_or_default();
                found.push((name.clone(), attribute("precision"), attribute("scale")));
            }
            let parts = ["type", "fields", "items", "values"];
            for part in parts.into_iter().filter_map(|part| object.get(part)) {
                collect_logical_types(part, found);
            }
        }
        Value::Array(parts) => {
            for part in parts {
                collect_logical_types(part, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> RegistryError {
    RegistryError::Table {
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}

fn unreadable(path: &Path, reason: &dyn std::fmt::Display) -> RegistryError {
    RegistryError::UnreadableTable {
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}

/// The known schemas, shared by all clones of a registry client; `None` in tools, which have no state directory.
pub(super) type SharedKnown = Option<Arc<Known>>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Condvar,
        atomic::{AtomicUsize, Ordering},
    };

    fn differs(known: &str, found: &str) -> bool {
        let known = KnownSchema {
            subjects: Vec::new(),
            schema: known.to_owned(),
        };
        known.compare(7, found).is_some()
    }

    /// Other releases of this program read the file too.
    #[test]
    fn the_file_matches_its_golden_file() {
        let golden = include_str!("../../golden/daybook-schemas/v1.json");
        let schema = KnownSchema {
            subjects: vec!["journal.orders-value".into()],
            schema: r#""long""#.into(),
        };
        let table = SchemaTable {
            schemas: BTreeMap::from([(7, schema)]),
            ..SchemaTable::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        table.write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), golden.trim_end());
        assert_eq!(SchemaTable::read(&path).unwrap(), table);
    }

    #[test]
    fn a_missing_file_is_an_empty_table_and_an_unknown_format_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        assert_eq!(SchemaTable::read(&path).unwrap(), SchemaTable::default());
        let texts = ["", "{", r#"{"format": 2, "schemas": {}}"#];
        for text in texts.map(str::as_bytes).into_iter().chain([&b"\xff"[..]]) {
            fs::write(&path, text).unwrap();
            let refused = SchemaTable::read(&path).unwrap_err();
            // The operator may act while the node runs.
            assert!(refused.is_transient(), "not transient: {refused}");
            let (text, part) = (refused.to_string(), "or delete it");
            assert!(text.contains(part), "no {part:?} in: {text}");
        }
    }

    fn long() -> KnownSchema {
        KnownSchema {
            subjects: Vec::new(),
            schema: r#""long""#.into(),
        }
    }

    /// A disk that answers nothing until the test's end.
    struct HungDisk {
        answers: Mutex<bool>,
        woken: Condvar,
        accesses: AtomicUsize,
    }

    impl HungDisk {
        const fn new() -> Self {
            Self {
                answers: Mutex::new(false),
                woken: Condvar::new(),
                accesses: AtomicUsize::new(0),
            }
        }

        fn access(&self) {
            self.accesses.fetch_add(1, Ordering::Relaxed);
            let answers = self.answers.lock().unwrap();
            let waited =
                self.woken
                    .wait_timeout_while(answers, Duration::from_secs(60), |answers| !*answers);
            drop(waited.unwrap());
        }

        /// Lets the threads of the test's runtime end.
        fn answer(&self) {
            *self.answers.lock().unwrap() = true;
            self.woken.notify_all();
        }
    }

    const SHORT: Duration = Duration::from_millis(50);

    fn known(folder: &Path, files: Files) -> Known {
        Known::new(folder.join(FILE), Vec::new(), files)
    }

    #[tokio::test]
    async fn a_disk_that_hangs_is_an_error_and_takes_one_thread() {
        static DISK: HungDisk = HungDisk::new();
        let folder = tempfile::tempdir().unwrap();
        let files = Files {
            read: |_| {
                DISK.access();
                Ok(SchemaTable::default())
            },
            timeout: SHORT,
            ..Files::default()
        };
        let known = known(folder.path(), files);
        for _ in 0..3 {
            let refused = known.all().await.unwrap_err();
            assert!(
                refused.to_string().contains("has not answered"),
                "no \"has not answered\" in: {refused}"
            );
            assert!(refused.is_transient(), "not transient: {refused}");
        }
        assert_eq!(DISK.accesses.load(Ordering::Relaxed), 1);
        DISK.answer();
        drop(known.turn(Instant::now() + FILE_TIMEOUT).await.unwrap());
    }

    #[tokio::test]
    async fn known_schemas_are_read_while_a_write_hangs() {
        static DISK: HungDisk = HungDisk::new();
        let folder = tempfile::tempdir().unwrap();
        let files = Files {
            write: |_, _| {
                DISK.access();
                Ok(())
            },
            timeout: SHORT,
            ..Files::default()
        };
        let known = known(folder.path(), files);
        known.all().await.unwrap();
        let refused = known.keep(7, long()).await.unwrap_err();
        assert!(
            refused.to_string().contains("has not answered"),
            "no \"has not answered\" in: {refused}"
        );
        // The schema is not on disk, so it does not count as known.
        assert_eq!(known.all().await.unwrap(), SchemaTable::default());
        DISK.answer();
    }

    #[tokio::test]
    async fn schemas_that_are_kept_at_the_same_time_are_all_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let known = known(folder.path(), Files::default());
        let kept = futures_util::future::try_join_all((1..=8).map(|id| known.keep(id, long())));
        kept.await.unwrap();
        let file = SchemaTable::read(&folder.path().join(FILE)).unwrap();
        assert_eq!(file.schemas.len(), 8);
        let other = KnownSchema {
            schema: r#""string""#.into(),
            ..long()
        };
        assert_eq!(known.keep(7, other).await.unwrap(), long());
    }

    #[test]
    fn another_text_of_the_same_schema_is_not_a_fault() {
        let known = r#"{"type": "record", "name": "A", "fields": [{"name": "at", "type":
            {"type": "long", "logicalType": "timestamp-micros"}, "doc": "when"}]}"#;
        let reprinted = r#"{"name":"A","fields":[{"type":{"logicalType":"timestamp-micros","type":"long"},"name":"at"}],"type":"record"}"#;
        assert!(!differs(known, reprinted));
    }

    #[test]
    fn a_schema_that_decodes_values_differently_is_a_fault() {
        let time = |unit: &str| format!(r#"{{"type": "long", "logicalType": "timestamp-{unit}"}}"#);
        let amount = |scale: u32| {
            format!(
                r#"{{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": {scale}}}"#
            )
        };
        for (known, found) in [
            (r#""long""#.to_owned(), r#""string""#.to_owned()),
            (r#""long""#.to_owned(), "no schema".to_owned()),
            (time("micros"), time("millis")),
            (amount(2), amount(3)),
        ] {
            assert!(differs(&known, &found), "no difference: {known} {found}");
            assert!(!differs(&known, &known), "differs from itself: {known}");
        }
    }
}
