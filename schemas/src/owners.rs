//! The entries of `journal.owners`: each journal partition's owner, as published by that owner.
//!
//! Entries are JSON, not Avro, because a node needs them to forward commands, and forwarding must not wait for the
//! registry.

use crate::{context::Context, topics::TopicPartition};
use serde::{Deserialize, Serialize};

/// Longest entry that a reader accepts, in bytes.
pub const ENTRY_BYTES_MAX: usize = 4_096;
/// Longest reason in an entry, in bytes.
const REASON_BYTES_MAX: usize = 512;

/// A node's entry about a partition that it owns, or can't own. The entry with the greater epoch wins. Among
/// entries of one epoch the last one wins, because their terms differ only if the journal was created again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The term's number.
    pub epoch: i64,
    /// The term, in hexadecimal digits, so that people can find its records.
    pub term: String,
    /// The address at which its node takes commands, without a slash at the end.
    pub url: String,
    /// The last record of the log that the node knows to be valid. A log without it has lost records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proved: Option<Box<ProvedRecord>>,
    /// The fingerprint of the key by which the node hashes commands. A node must not take over a partition from a
    /// node with another key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_key: Option<Box<str>>,
    /// Why the node can't own the partition, although it is assigned to it: another node may try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declined: Option<Box<str>>,
}

/// A valid record of a log, as its owner proved it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvedRecord {
    /// h(1), which names the log.
    #[serde(with = "hash_as_text")]
    pub log_id: [u8; 32],
    /// Its offset.
    pub offset: i64,
    /// The chain's hash after it.
    #[serde(with = "hash_as_text")]
    pub hash: [u8; 32],
}

impl Entry {
    /// An owner's entry without the optional fields.
    pub fn new(epoch: i64, term: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            epoch,
            term: term.into(),
            url: url.into(),
            proved: None,
            hash_key: None,
            declined: None,
        }
    }

    /// The same entry for a node that can't own the partition. The reason is cut to a length that every reader
    /// accepts.
    pub fn declining(self, reason: &str) -> Self {
        let end = reason.floor_char_boundary(REASON_BYTES_MAX);
        Self {
            declined: Some(reason[..end].into()),
            ..self
        }
    }

    /// The record's value.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a number and a text are JSON")
    }

    /// Parses a record's value; `None` if it is not an entry. Members that a later version adds are ignored.
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.len() > ENTRY_BYTES_MAX {
            return None;
        }
        let entry: Self = serde_json::from_slice(value).ok()?;
        let is_address = entry.url.starts_with("http://") || entry.url.starts_with("https://");
        (is_address && entry.epoch > 0).then_some(entry)
    }
}

/// The record's key: `<journal topic>/<partition>`.
pub fn key(partition: TopicPartition) -> String {
    partition.to_string()
}

/// Parses a record's key; `None` if it does not name one of our journals. The caller checks the partition against
/// the topic's number of partitions.
pub fn parse_key(bytes: &[u8]) -> Option<TopicPartition> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (topic, partition) = text.rsplit_once('/')?;
    let partition = TopicPartition {
        topic: Context::of_topic(topic)?.topic,
        partition: partition.parse().ok().filter(|number| *number >= 0)?,
    };
    // Accepts only the canonical form, so neither `+1` nor `01`.
    (key(partition) == text).then_some(partition)
}

/// A hash as hexadecimal digits.
mod hash_as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(hash: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(hash))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let mut hash = [0; 32];
        hex::decode_to_slice(String::deserialize(deserializer)?, &mut hash)
            .map_err(D::Error::custom)?;
        Ok(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::PartitionCounts;

    #[test]
    fn a_long_reason_is_cut_to_a_length_that_readers_accept() {
        let entry = Entry::new(1, "05".repeat(16), "http://a:1").declining(&"\u{e9}".repeat(9_000));
        let read = Entry::parse(entry.to_json().as_bytes());
        assert_eq!(read, Some(entry));
    }

    #[test]
    fn an_invalid_entry_is_refused() {
        let good = br#"{"epoch":1,"term":"","url":"http://a:1","later":true}"#;
        assert_eq!(Entry::parse(good).map(|entry| entry.epoch), Some(1));
        let bad: [&[u8]; 7] = [
            b"",
            b"{}",
            b"\xff",
            br#"{"epoch":0,"term":"","url":"http://a:1"}"#,
            br#"{"epoch":1,"term":"","url":"file:x"}"#,
            br#"{"epoch":1,"term":"","url":"http://a:1","proved":{"log_id":"5","offset":1,"hash":""}}"#,
            &[b' '; ENTRY_BYTES_MAX + 1],
        ];
        for bad in bad {
            assert_eq!(Entry::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_key_names_a_partition_of_one_of_our_journals() {
        for partition in PartitionCounts::uniform(3).journal_partitions() {
            assert_eq!(parse_key(key(partition).as_bytes()), Some(partition));
        }
        let bad = [
            "journal.orders",
            "journal.orders/",
            "journal.orders/-1",
            "journal.orders/+1",
            "journal.orders/01",
            "journal.orders/1/1",
            "journal.orders/4294967296",
            "journal.owners/0",
            "else/0",
            "",
        ];
        for bad in bad {
            assert_eq!(parse_key(bad.as_bytes()), None, "{bad}");
        }
    }
}
