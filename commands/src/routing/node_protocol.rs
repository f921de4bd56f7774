//! The protocol between nodes: one line per command, and one line per reply, in the same order.
//!
//! A node rejects a line with an unknown member, because the member may be a condition that the client has set, such
//! as `If-Match`. While nodes of different versions disagree on this form, a node answers 503 for partitions that
//! other nodes own.

use crate::envelope::CommandEnvelope;
use journal::owner::{Answer, Refusal};
use schemas::{
    Outcome, OutcomeKind,
    owners::{self, Entry},
    topics::TopicPartition,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The path at which a node takes commands from other nodes.
pub const PATH: &str = "/internal/v1/commands";
/// The path at which a node lists the partitions that it serves.
pub const OWNERS_PATH: &str = "/internal/v1/owners";

/// A command for the owner on another node.
#[derive(Debug, Serialize)]
pub struct Forward<'a> {
    /// Time that the client still waits, in milliseconds.
    pub within_ms: u64,
    /// The fingerprint of the sender's hash key.
    pub hash_key: &'a str,
    /// The command.
    pub command: &'a CommandEnvelope,
}

/// A [`Forward`], received.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forwarded {
    /// See [`Forward::within_ms`].
    pub within_ms: u64,
    /// See [`Forward::hash_key`].
    pub hash_key: String,
    /// See [`Forward::command`].
    pub command: CommandEnvelope,
}

/// The reply to a forwarded command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The owner's answer.
    Answer {
        /// See [`Answer`], here and below.
        partition: i32,
        /// The offset of the commit, or of the record that proved the answer.
        offset: i64,
        /// The aggregate's version.
        version: i64,
        /// The number of events.
        events: usize,
        /// `None` if the command was accepted.
        outcome: Option<StoredOutcome>,
        /// Whether an earlier command with the same id got this answer first.
        replayed: bool,
    },
    /// See [`Refusal`], here and below.
    KeyReused,
    /// The version differs from the one in `If-Match`.
    VersionMismatch {
        /// The aggregate's version.
        current: i64,
        /// The version in `If-Match`.
        expected: i64,
    },
    /// The commit is too large.
    TooLarge {
        /// The commit's size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The brokers refuse the owner's records.
    Forbidden(String),
    /// A bug.
    Unencodable(String),
    /// Too many commands of the aggregate wait.
    Busy(String),
    /// The command had no effect, or its outcome is unknown.
    Unavailable(String),
    /// The receiver hashes commands with another key, so it can't tell a retry from another command.
    OtherHashKey {
        /// The fingerprint of the receiver's key.
        hash_key: String,
    },
    /// The receiver does not own the partition (421 in HTTP).
    NotOwner {
        /// The reason, as text for people.
        reason: String,
        /// Whether the command was submitted to an owner there, so that it may be in the log.
        was_submitted: bool,
        /// The owner according to the receiver's directory.
        owner: Option<Entry>,
    },
}

/// A stored outcome. Its detail is JSON text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredOutcome {
    kind: OutcomeKind,
    code: String,
    detail: String,
}

impl Reply {
    /// The reply to a command that was submitted to an owner; `owner` is the directory's entry.
    pub fn to_submitted(answered: Result<Answer, Refusal>, owner: Option<Entry>) -> Self {
        let refusal = match answered {
            Ok(answer) => return Self::from(answer),
            Err(refusal) => refusal,
        };
        match refusal {
            Refusal::KeyReused => Self::KeyReused,
            Refusal::VersionMismatch { current, expected } => {
                Self::VersionMismatch { current, expected }
            }
            Refusal::TooLarge { bytes, bytes_max } => Self::TooLarge { bytes, bytes_max },
            Refusal::Forbidden(reason) => Self::Forbidden(reason),
            Refusal::Unencodable(reason) => Self::Unencodable(reason),
            Refusal::Busy(reason) => Self::Busy(reason),
            Refusal::Unavailable(reason) => Self::Unavailable(reason),
            Refusal::NotOwner(reason) => Self::NotOwner {
                reason,
                was_submitted: true,
                owner,
            },
        }
    }

    /// The owner's answer or refusal.
    ///
    /// # Errors
    /// [`Refusal`]: the owner or its node refused the command.
    pub fn into_result(self) -> Result<Answer, Refusal> {
        Err(match self {
            Self::Answer {
                partition,
                offset,
                version,
                events,
                outcome,
                replayed,
            } => {
                return Ok(Answer {
                    partition,
                    offset,
                    version,
                    events,
                    outcome: outcome.map(|stored| Outcome {
                        kind: stored.kind,
                        code: stored.code,
                        detail: stored.detail.into_bytes(),
                    }),
                    replayed,
                });
            }
            Self::KeyReused => Refusal::KeyReused,
            Self::VersionMismatch { current, expected } => {
                Refusal::VersionMismatch { current, expected }
            }
            Self::TooLarge { bytes, bytes_max } => Refusal::TooLarge { bytes, bytes_max },
            Self::Forbidden(reason) => Refusal::Forbidden(reason),
            Self::Unencodable(reason) => Refusal::Unencodable(reason),
            Self::Busy(reason) => Refusal::Busy(reason),
            Self::Unavailable(reason) => Refusal::Unavailable(reason),
            Self::OtherHashKey { hash_key } => Refusal::Unavailable(format!(
                "the owner's node has another hash key (fingerprint {hash_key}); commands.hash_key_file \
                 must hold the same key on every node"
            )),
            Self::NotOwner { reason, .. } => Refusal::NotOwner(reason),
        })
    }
}

/// The partitions that a node serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedPartitions {
    serving: Vec<ServedPartition>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ServedPartition {
    /// The same text as the key of an entry in `journal.owners`.
    partition: String,
    epoch: i64,
}

impl ServedPartitions {
    /// The answer of a node that serves these partitions in these epochs.
    pub fn new(serving: impl IntoIterator<Item = (TopicPartition, i64)>) -> Self {
        let serving = serving
            .into_iter()
            .map(|(partition, epoch)| ServedPartition {
                partition: owners::key(partition),
                epoch,
            });
        Self {
            serving: serving.collect(),
        }
    }

    /// The partitions and their epochs. A partition that this program does not know is left out.
    pub fn into_partitions(self) -> BTreeMap<TopicPartition, i64> {
        let serving = self.serving.into_iter();
        serving
            .filter_map(|served| {
                Some((
                    owners::parse_key(served.partition.as_bytes())?,
                    served.epoch,
                ))
            })
            .collect()
    }
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Answer {
            partition: answer.partition,
            offset: answer.offset,
            version: answer.version,
            events: answer.events,
            outcome: answer.outcome.map(|outcome| StoredOutcome {
                kind: outcome.kind,
                code: outcome.code,
                detail: String::from_utf8_lossy(&outcome.detail).into_owned(),
            }),
            replayed: answer.replayed,
        }
    }
}

/// A command or reply as a line.
pub fn line(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(value).expect("commands and replies are JSON");
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{contexts, identity::Principal};
    use schemas::{Timestamp, ids::CommandId};

    #[test]
    fn the_line_of_a_forwarded_command_is_golden() {
        let body = br#"{"sku":"LAMP-1","price":{"amount":5,"currency":"GBP"}}"#;
        let body = contexts::command("ChangePrice")
            .unwrap()
            .read(body)
            .unwrap();
        let command = CommandEnvelope {
            id: CommandId([7; 16]),
            keyed: true,
            received_at: Timestamp(1_291_191_960_000_000),
            expected_version: Some(3),
            ..CommandEnvelope::new(&Principal::import(), None, body)
        };
        let forward = |command: &CommandEnvelope| {
            let forward = Forward {
                within_ms: 15_000,
                hash_key: "0011223344556677",
                command,
            };
            String::from_utf8(line(&forward)).unwrap()
        };
        let expected = concat!(
            r#"{"within_ms":15000,"hash_key":"0011223344556677","#,
            r#""command":{"id":"07070707070707070707070707070707","keyed":true,"#,
            r#""received_at":1291191960000000,"actor":"service:import","expected_version":3,"#,
            r#""traceparent":null,"call":{"name":"ChangePrice","body":{"sku":"LAMP-1","#,
            r#""price":{"amount":5,"currency":"GBP"}}}}}"#,
            "\n"
        );
        assert_eq!(forward(&command), expected);
        let read: Forwarded = serde_json::from_str(expected).unwrap();
        assert_eq!(
            (read.within_ms, forward(&read.command).as_str()),
            (15_000, expected)
        );
    }

    #[test]
    fn a_reply_carries_every_answer_and_refusal_unchanged() {
        let outcome = Outcome {
            kind: OutcomeKind::Conflict,
            code: "PRODUCT_EXISTS".into(),
            detail: br#"{"detail":"\u00e9"}"#.to_vec(),
        };
        let answer = Answer {
            partition: 3,
            offset: 17,
            version: 2,
            events: 0,
            outcome: Some(outcome),
            replayed: true,
        };
        let accepted = Answer {
            outcome: None,
            ..answer.clone()
        };
        for answered in [
            Ok(answer),
            Ok(accepted),
            Err(Refusal::KeyReused),
            Err(Refusal::VersionMismatch {
                current: 2,
                expected: 1,
            }),
            Err(Refusal::TooLarge {
                bytes: 2,
                bytes_max: 1,
            }),
            Err(Refusal::Forbidden("x".into())),
            Err(Refusal::Unencodable("x".into())),
            Err(Refusal::Busy("x".into())),
            Err(Refusal::Unavailable("x".into())),
            Err(Refusal::NotOwner("x".into())),
        ] {
            let text = line(&Reply::to_submitted(answered.clone(), None));
            let reply: Reply = serde_json::from_slice(&text).unwrap();
            assert_eq!(reply.into_result(), answered);
        }
    }

    #[test]
    fn the_line_of_a_reply_by_a_node_that_is_not_the_owner_is_golden() {
        let reply = Reply::NotOwner {
            reason: "stepped down".into(),
            was_submitted: true,
            owner: Some(Entry::new(7, "05", "http://b:1")),
        };
        let expected = concat!(
            r#"{"not_owner":{"reason":"stepped down","was_submitted":true,"#,
            r#""owner":{"epoch":7,"term":"05","url":"http://b:1"}}}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(line(&reply)).unwrap(), expected);
    }

    #[test]
    fn the_answer_about_served_partitions_is_golden() {
        let partition = |topic, partition| TopicPartition { topic, partition };
        let served = [
            (partition("journal.catalog", 0), 3),
            (partition("journal.orders", 12), 4),
        ];
        let expected = concat!(
            r#"{"serving":[{"partition":"journal.catalog/0","epoch":3},"#,
            r#"{"partition":"journal.orders/12","epoch":4}]}"#,
        );
        let text = serde_json::to_string(&ServedPartitions::new(served)).unwrap();
        assert_eq!(text, expected);
        let read: ServedPartitions = serde_json::from_str(expected).unwrap();
        assert_eq!(read.into_partitions(), served.into());
    }

    #[test]
    fn another_hash_key_is_a_refusal_that_names_the_setting() {
        let reply = Reply::OtherHashKey {
            hash_key: "8899aabbccddeeff".into(),
        };
        let text = String::from_utf8(line(&reply)).unwrap();
        assert_eq!(
            text,
            "{\"other_hash_key\":{\"hash_key\":\"8899aabbccddeeff\"}}\n"
        );
        let result = reply.into_result();
        let Err(Refusal::Unavailable(reason)) = &result else {
            panic!("{result:?} instead of Unavailable");
        };
        assert!(
            reason.contains("8899aabbccddeeff"),
            "no \"8899aabbccddeeff\" in: {reason}"
        );
        assert!(
            reason.contains("commands.hash_key_file"),
            "no \"commands.hash_key_file\" in: {reason}"
        );
    }
}
