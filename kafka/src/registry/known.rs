//! The schemas of all records that a node has read or written, by schema id, in a file. A node compares the registry
//! with this file, so it detects a registry that lost its data or has another schema under an id, even after a restart.
//!
//! The file is written when an id is used for the first time, which is as rare as a schema change. An operator may
//! delete the file; the node then accepts the registry's schemas again.

use super::error::{RegistryError, SchemaFault};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{sync::Mutex, task::spawn_blocking};

/// The file's name, in the directory of the state store.
pub const FILE: &str = "daybook-schemas.json";
/// The version of the file's format.
const FORMAT: u32 = 1;

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
    /// `None` until the file was read.
    pub table: Mutex<Option<SchemaTable>>,
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
            other => other.map_err(|error| unusable(path, &error))?,
        };
        let table: Self = serde_json::from_str(&text).map_err(|error| unusable(path, &error))?;
        match table.format {
            FORMAT => Ok(table),
            other => Err(unusable(path, &format!("unknown format {other}"))),
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
    pub fn new(path: PathBuf, subjects: Vec<String>) -> Self {
        Self {
            path,
            subjects,
            table: Mutex::new(None),
        }
    }

    /// Reads the file if `table` is `None`, so that `table` is `Some` afterwards.
    pub async fn load(&self, table: &mut Option<SchemaTable>) -> Result<(), RegistryError> {
        if table.is_none() {
            let path = self.path.clone();
            let read = spawn_blocking(move || SchemaTable::read(&path)).await;
            *table = Some(read.map_err(|error| unusable(&self.path, &error))??);
        }
        Ok(())
    }

    /// Writes the table to the file, and returns once it is on disk.
    pub async fn save(&self, table: &SchemaTable) -> Result<(), RegistryError> {
        let (path, table) = (self.path.clone(), table.clone());
        let written = spawn_blocking(move || table.write(&path)).await;
        written.map_err(|error| unusable(&self.path, &error))?
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

/// The known schemas, shared by all clones of a registry client; `None` in tools, which have no state directory.
pub(super) type SharedKnown = Option<Arc<Known>>;

#[cfg(test)]
mod tests {
    use super::*;

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
        for text in ["", "{", r#"{"format": 2, "schemas": {}}"#] {
            fs::write(&path, text).unwrap();
            let refused = SchemaTable::read(&path).unwrap_err();
            assert!(refused.is_transient(), "{refused}");
        }
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
            assert!(differs(&known, &found), "{known} {found}");
            assert!(!differs(&known, &known), "{known}");
        }
    }
}
