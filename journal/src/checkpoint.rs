//! A checkpoint: the void rule's whole state at an offset, with a probe of the log.
//!
//! A consumer that resumes in mid-log stores a checkpoint in the same transaction as its results. On load the probe
//! checks that the log is still the log of the checkpoint: the last valid record is read again and must have the same
//! hash. The probe does not cover records before that one; only a read from offset 0 does.
//!
//! A later release may add fields. Earlier releases ignore unknown fields, so stored checkpoints stay valid after a
//! rollback. A field that earlier releases must not ignore needs a new version of the rule, which the checkpoint then
//! names.

use crate::{
    chain::{Hash, chain_hash, genesis_hash},
    rule_version::RULE_VERSION_FIRST,
};
use schemas::Timestamp;
use serde::{Deserialize, Serialize};

/// The void rule's state after everything before `next_offset`. As text, hashes and ids are hex.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The journal.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// h(1), which names this log; `None` before the first valid record.
    #[serde(with = "optional_hex")]
    pub log_id: Option<Hash>,
    /// The lowest offset that the next record may have.
    pub next_offset: i64,
    /// The current term's number; 0 before the first.
    pub epoch: i64,
    /// The current term; zeros before the first.
    #[serde(with = "fixed_hex")]
    pub term: [u8; 16],
    /// The current term's last valid seq; the announcement has seq 0.
    pub seq: i64,
    /// h(n-1), the chain's hash before the last valid record; zeros before the first.
    #[serde(with = "fixed_hex")]
    pub prev_hash: Hash,
    /// h(n), the chain's hash after the last valid record; h(0) before the first.
    #[serde(with = "fixed_hex")]
    pub hash: Hash,
    /// Offset of the last valid record; `None` before the first.
    pub probe_offset: Option<i64>,
    /// Log time: the greatest `recorded_at` of valid commits, and at least 1970. Announcements don't
    /// count.
    pub log_time: Timestamp,
    /// The rule version in the current term's announcement; 1 before the first announcement. The JSON text omits the
    /// field if it is 1.
    #[serde(default = "first_rule_version", skip_serializing_if = "is_first")]
    pub rule_version: i32,
}

fn first_rule_version() -> i32 {
    RULE_VERSION_FIRST
}

fn is_first(rule_version: &i32) -> bool {
    *rule_version == RULE_VERSION_FIRST
}

/// The probe found another log than the checkpoint's, or could not compare them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The checkpoint covers no valid record, so it can't distinguish two logs: read from offset 0.
    #[error("checkpoint of {topic}/{partition} has no record to probe")]
    NothingToProbe {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
    },
    /// The caller passed a record at an offset other than [`Checkpoint::probe_offset`].
    #[error("probe of {topic}/{partition}@{expected} was given offset {found}")]
    OtherOffset {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// The offset to read.
        expected: i64,
        /// The offset that was read.
        found: i64,
    },
    /// The offset of the last valid record holds another record: another log, or an altered one.
    #[error(
        "another log: {topic}/{partition}@{offset} gives hash {found}, the checkpoint has {expected}"
    )]
    OtherRecord {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// The checkpoint's h(n), hex.
        expected: String,
        /// The record's hash, hex; `null` if it has no key or no value.
        found: String,
    },
}

impl Checkpoint {
    /// The checkpoint before the first record.
    pub fn start(topic: &str, partition: i32) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
            log_id: None,
            next_offset: 0,
            epoch: 0,
            term: [0; 16],
            seq: 0,
            prev_hash: [0; 32],
            hash: genesis_hash(topic, partition),
            probe_offset: None,
            log_time: Timestamp(0),
            rule_version: RULE_VERSION_FIRST,
        }
    }

    /// The offset at which reading resumes: after the last valid record, which the probe confirms. Void
    /// records after it are judged again, because nothing confirms that they are still there: a log that lost
    /// its tail and grew again may have commits there.
    pub fn resume_offset(&self) -> i64 {
        self.probe_offset
            .map_or(0, |offset| offset.saturating_add(1))
    }

    /// Compares the record at [`Checkpoint::probe_offset`], read again, with this checkpoint.
    ///
    /// # Errors
    /// [`ProbeError`] if the record does not show that this is the same log.
    pub fn probe(
        &self,
        offset: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<(), ProbeError> {
        let (topic, partition) = (self.topic.clone(), self.partition);
        let Some(expected) = self.probe_offset else {
            return Err(ProbeError::NothingToProbe { topic, partition });
        };
        if offset != expected {
            return Err(ProbeError::OtherOffset {
                topic,
                partition,
                expected,
                found: offset,
            });
        }
        let found = key
            .zip(value)
            .map(|(key, value)| chain_hash(&self.prev_hash, key, value));
        if found == Some(self.hash) {
            return Ok(());
        }
        Err(ProbeError::OtherRecord {
            topic,
            partition,
            offset,
            expected: hex::encode(self.hash),
            found: found.map_or_else(|| "null".to_owned(), hex::encode),
        })
    }
}

/// Bytes of a fixed length as hex text.
mod fixed_hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[u8; N], D::Error> {
        read(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }

    pub fn read<const N: usize>(text: &str) -> Result<[u8; N], hex::FromHexError> {
        let mut bytes = [0; N];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(bytes)
    }
}

/// An optional hash as hex text.
mod optional_hex {
    use crate::chain::Hash;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub fn serialize<S: Serializer>(hash: &Option<Hash>, serializer: S) -> Result<S::Ok, S::Error> {
        hash.map(hex::encode).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Hash>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| super::fixed_hex::read(&text))
            .transpose()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A checkpoint after one valid record, at offset 5.
    fn taken() -> Checkpoint {
        let start = Checkpoint::start("journal.probe", 2);
        let hash = chain_hash(&start.hash, b"", b"value");
        Checkpoint {
            log_id: Some(hash),
            next_offset: 9,
            prev_hash: start.hash,
            hash,
            probe_offset: Some(5),
            ..start
        }
    }

    #[test]
    fn the_same_record_confirms_the_log() {
        assert_eq!(taken().probe(5, Some(b""), Some(b"value")), Ok(()));
    }

    #[test]
    fn another_record_at_the_probe_offset_is_another_log() {
        for (key, value) in [
            (Some(&b"v"[..]), Some(&b"alue"[..])),
            (Some(&b""[..]), Some(&b"values"[..])),
            (None, Some(&b"value"[..])),
            (Some(&b""[..]), None),
        ] {
            let probed = taken().probe(5, key, value);
            assert!(
                matches!(probed, Err(ProbeError::OtherRecord { .. })),
                "{probed:?} instead of OtherRecord"
            );
        }
    }

    #[test]
    fn a_probe_of_another_offset_is_an_error() {
        let probed = taken().probe(6, Some(b""), Some(b"value"));
        assert!(
            matches!(
                probed,
                Err(ProbeError::OtherOffset {
                    expected: 5,
                    found: 6,
                    ..
                })
            ),
            "{probed:?} instead of OtherOffset, 6 instead of 5"
        );
        let probed = Checkpoint::start("journal.probe", 2).probe(0, Some(b""), Some(b"value"));
        assert!(
            matches!(probed, Err(ProbeError::NothingToProbe { .. })),
            "{probed:?} instead of NothingToProbe"
        );
    }

    #[test]
    fn text_round_trips() {
        for checkpoint in [taken(), Checkpoint::start("journal.other", 0)] {
            let text = serde_json::to_string(&checkpoint).unwrap();
            let read: Checkpoint = serde_json::from_str(&text).unwrap();
            assert_eq!(read, checkpoint);
        }
    }

    #[test]
    fn a_field_of_a_later_release_is_ignored() {
        let text = serde_json::to_string(&taken()).unwrap();
        let later = text.replacen('{', r#"{"of_a_later_release": {"any": [1]}, "#, 1);
        assert_eq!(serde_json::from_str::<Checkpoint>(&later).unwrap(), taken());
    }

    #[test]
    fn the_text_omits_the_first_rule_version_and_names_later_ones() {
        let of_version = |rule_version| Checkpoint {
            rule_version,
            ..taken()
        };
        let text = |version| serde_json::to_string(&of_version(version)).unwrap();
        assert!(
            !text(1).contains("rule_version"),
            "\"rule_version\" in: {}",
            text(1)
        );
        let read: Checkpoint = serde_json::from_str(&text(2)).unwrap();
        assert_eq!(read, of_version(2));
    }

    #[test]
    fn text_with_a_truncated_hash_is_an_error() {
        let text = serde_json::to_string(&taken()).unwrap();
        let torn = text.replace(&hex::encode(taken().hash), "00");
        serde_json::from_str::<Checkpoint>(&torn).unwrap_err();
    }
}
