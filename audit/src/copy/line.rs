//! The lines of a copy.

use crate::model::Entry;
use serde::{Deserialize, Serialize};

/// The value of `format` in the header.
pub const FORMAT: &str = "daybook-log-copy";
/// The version of the format that this module writes, and the only one that it reads.
pub const VERSION: u32 = 1;

/// Any line. The set of its fields determines its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// One record.
    Record(RecordLine),
    /// The schema of later records.
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
    /// Always `daybook-log-copy`.
    pub format: String,
    /// The version of the format.
    pub version: u32,
    /// The exported topics.
    pub topics: Vec<TopicPartitions>,
}

/// A topic with its number of partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicPartitions {
    /// The journal's topic.
    pub topic: String,
    /// Its number of partitions; all are in the copy.
    pub partitions: i32,
}

/// A schema of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaLine {
    /// Its id in the registry.
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
    /// Its offset in the partition.
    pub offset: i64,
    /// The broker's timestamp, in milliseconds since 1970; -1 if unknown.
    pub timestamp_ms: i64,
    /// Hexadecimal digits; null and empty differ.
    #[serde(with = "optional_hex")]
    pub key: Option<Vec<u8>>,
    /// Hexadecimal digits; null and empty differ.
    #[serde(with = "optional_hex")]
    pub value: Option<Vec<u8>>,
    /// See [`check`].
    #[serde(with = "hex::serde")]
    pub check: [u8; 8],
}

/// The end of a partition in the copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// The journal's topic.
    pub topic: String,
    /// The topic's partition.
    pub partition: i32,
    /// The offset after the partition's last record in the copy.
    pub end_offset: i64,
    /// h(n) of the last valid record.
    #[serde(with = "hex::serde")]
    pub last_hash: [u8; 32],
    /// Number of the partition's records in the copy.
    pub records: u64,
    /// See [`Digest`].
    #[serde(with = "hex::serde")]
    pub digest: [u8; 32],
}

/// The digest of all records of a partition: BLAKE3 of their [`hash`]es, concatenated.
#[derive(Debug, Clone, Default)]
pub struct Digest(blake3::Hasher);

/// BLAKE3 of a record's fields in the order of the line: topic, partition, offset, timestamp, key, value.
/// Numbers are eight bytes. Each field follows its length, which is -1 for null. All integers are big-endian.
pub fn hash(topic: &str, partition: i32, entry: Entry<'_>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = |bytes: Option<&[u8]>| {
        let length = bytes.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        hasher.update(&length.to_be_bytes());
        hasher.update(bytes.unwrap_or_default());
    };
    bytes(Some(topic.as_bytes()));
    for number in [i64::from(partition), entry.offset, entry.timestamp_ms] {
        bytes(Some(&number.to_be_bytes()));
    }
    bytes(entry.key);
    bytes(entry.value);
    hasher.finalize().into()
}

/// The first bytes of a record's [`hash`], which identify a damaged line. They do not protect against an
/// attacker who recomputes them; the chain and the end line do.
pub fn check(hash: &[u8; 32]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    [a, b, c, d, e, f, g, h]
}

impl RecordLine {
    /// Creates the line of a record.
    pub fn new(topic: &str, partition: i32, entry: Entry<'_>) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
            offset: entry.offset,
            timestamp_ms: entry.timestamp_ms,
            key: entry.key.map(<[u8]>::to_vec),
            value: entry.value.map(<[u8]>::to_vec),
            check: check(&hash(topic, partition, entry)),
        }
    }

    /// The record of this line.
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
    /// Adds the next record's hash.
    pub fn update(&mut self, hash: &[u8; 32]) {
        self.0.update(hash);
    }

    /// The digest of all records so far.
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
