//! The lines of a copy.

use crate::model::Entry;
use serde::{Deserialize, Serialize};

/// What the header says the file is.
pub const FORMAT: &str = "daybook-log-copy";
/// The version of the lines' form.
pub const VERSION: u32 = 1;

/// Any line. A line is told by its fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// One record.
    Record(RecordLine),
    /// A schema that later records were written with.
    Schema(SchemaLine),
    /// The end of a partition.
    End(End),
    /// The first line.
    Header(Header),
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Always [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// What was exported.
    pub topics: Vec<TopicPartitions>,
}

/// A topic with its number of partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicPartitions {
    /// The journal's topic.
    pub topic: String,
    /// How many partitions it has; all are in the copy.
    pub partitions: i32,
}

/// A schema of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaLine {
    /// The registry's id of it.
    pub schema_id: u32,
    /// Its text.
    pub schema: String,
}

/// One record, void or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordLine {
    /// The journal's topic.
    pub topic: String,
    /// The topic's partition.
    pub partition: i32,
    /// Its place in the partition.
    pub offset: i64,
    /// When the broker took it, in milliseconds since 1970; -1 if unknown.
    pub timestamp_ms: i64,
    /// Hexadecimal digits; null is not the same as empty.
    #[serde(with = "optional_hex")]
    pub key: Option<Vec<u8>>,
    /// Hexadecimal digits; null is not the same as empty.
    #[serde(with = "optional_hex")]
    pub value: Option<Vec<u8>>,
}

/// The end of a partition in the copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// The journal's topic.
    pub topic: String,
    /// The topic's partition.
    pub partition: i32,
    /// The log's end when the export began: the offset that came next.
    pub end_offset: i64,
    /// h(n) of the last valid record.
    #[serde(with = "hex::serde")]
    pub last_hash: [u8; 32],
    /// Records of the partition in the copy.
    pub records: u64,
    /// See [`Digest`].
    #[serde(with = "hex::serde")]
    pub digest: [u8; 32],
}

/// BLAKE3 of all records of a partition, each as offset, time, key and value, the latter two with
/// their lengths before them (-1: null), numbers as eight bytes, big-endian.
#[derive(Debug, Clone, Default)]
pub struct Digest(blake3::Hasher);

impl RecordLine {
    /// The record itself.
    pub fn entry(&self) -> Entry<'_> {
        Entry {
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
        }
    }
}

impl Digest {
    /// Takes the next record.
    pub fn take(&mut self, entry: Entry<'_>) {
        self.0.update(&entry.offset.to_be_bytes());
        self.0.update(&entry.timestamp_ms.to_be_bytes());
        for bytes in [entry.key, entry.value] {
            let length = bytes.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX));
            self.0.update(&length.to_be_bytes());
            self.0.update(bytes.unwrap_or_default());
        }
    }

    /// Of all records so far.
    pub fn value(&self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// Bytes as hexadecimal digits, or null.
mod optional_hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::borrow::Cow;

    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => serializer.serialize_str(&hex::encode(bytes)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<Cow<'de, str>>::deserialize(deserializer)?;
        text.map(|text| hex::decode(text.as_bytes()).map_err(D::Error::custom))
            .transpose()
    }
}
