//! The entries of `journal.owners`: who owns a journal partition, as its owner says.
//!
//! JSON, not Avro: nodes forward commands by it, and forwarding must not wait for the registry.

use crate::{CONTEXTS, topics::PARTITIONS};
use serde::{Deserialize, Serialize};

/// Longest entry that a reader takes, in bytes.
pub const ENTRY_BYTES_MAX: usize = 4_096;

/// A partition of a journal.
pub type Place = (&'static str, i32);

/// An owner's word about itself. Of two for one place the greater epoch is right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The term's number.
    pub epoch: i64,
    /// The term, in hexadecimal digits: for people, who find its records by it.
    pub term: String,
    /// Where its process takes commands, without a slash at the end.
    pub url: String,
}

impl Entry {
    /// The record's value.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a number and a text are JSON")
    }

    /// Reads a record's value; `None` if it is no entry. Members that a later version adds are
    /// passed over.
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.len() > ENTRY_BYTES_MAX {
            return None;
        }
        let entry: Self = serde_json::from_slice(value).ok()?;
        let is_address = entry.url.starts_with("http://") || entry.url.starts_with("https://");
        (is_address && entry.epoch > 0).then_some(entry)
    }
}

/// Every partition of every journal.
pub fn places() -> impl Iterator<Item = Place> {
    CONTEXTS.into_iter().flat_map(|context| {
        let topic = context.topic;
        (0..PARTITIONS).map(move |partition| (topic, partition))
    })
}

/// The record's key: `<journal topic>/<partition>`.
pub fn key((topic, partition): Place) -> String {
    format!("{topic}/{partition}")
}

/// Reads a record's key; `None` if it names no place of ours.
pub fn parse_key(bytes: &[u8]) -> Option<Place> {
    places().find(|place| key(*place).as_bytes() == bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_entry_is_none() {
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
    fn a_key_names_a_place_of_ours() {
        for place in places() {
            assert_eq!(parse_key(key(place).as_bytes()), Some(place));
        }
        for bad in ["journal.orders/4", "journal.orders", "else/0", ""] {
            assert_eq!(parse_key(bad.as_bytes()), None, "{bad}");
        }
    }
}
