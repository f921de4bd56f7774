//! The entries of `journal.owners`: each journal partition's owner, as published by that owner.
//!
//! Entries are JSON, not Avro, because nodes forward commands by them, and forwarding must not wait for the
//! registry.

use crate::{context::Context, topics::TopicPartition};
use serde::{Deserialize, Serialize};

/// Longest entry that a reader accepts, in bytes.
pub const ENTRY_BYTES_MAX: usize = 4_096;

/// An owner's entry about itself. The entry with the greater epoch wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The term's number.
    pub epoch: i64,
    /// The term, in hexadecimal digits, so that people can find its records.
    pub term: String,
    /// The address at which its node takes commands, without a slash at the end.
    pub url: String,
}

impl Entry {
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

/// Parses a record's key; `None` if it does not name a journal of ours. The caller checks the partition against
/// the topic's number of partitions.
pub fn parse_key(bytes: &[u8]) -> Option<TopicPartition> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (topic, partition) = text.rsplit_once('/')?;
    let partition = TopicPartition {
        topic: Context::of_topic(topic)?.topic,
        partition: partition.parse().ok().filter(|number| *number >= 0)?,
    };
    // Only the canonical form: neither `+1` nor `01`.
    (key(partition) == text).then_some(partition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::PartitionCounts;

    #[test]
    fn an_invalid_entry_is_refused() {
        let good = br#"{"epoch":1,"term":"","url":"http://a:1","later":true}"#;
        assert_eq!(Entry::parse(good).map(|entry| entry.epoch), Some(1));
        let bad: [&[u8]; 6] = [
            b"",
            b"{}",
            b"\xff",
            br#"{"epoch":0,"term":"","url":"http://a:1"}"#,
            br#"{"epoch":1,"term":"","url":"file:x"}"#,
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
