//! What nodes say to each other: a line for a command, a line for what it came to.
//!
//! A node takes no line that it can't read as a whole: a member that it does not know may be a condition
//! of the client's. So while versions differ in this form, a node answers 503 for what another owns.

use crate::call::Command;
use journal::owner::{Answer, Refusal};
use schemas::{Outcome, owners::Entry};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A command on its way to its owner.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forwarded<'a> {
    /// How long its client still waits, in milliseconds.
    pub within_ms: u64,
    /// The command.
    pub command: Cow<'a, Command>,
}

/// What a forwarded command came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The owner's answer.
    Answer {
        /// See [`Answer`], here and below.
        partition: i32,
        /// Of the commit, or of what proved the answer.
        offset: i64,
        /// The aggregate's.
        version: i64,
        /// How many.
        events: usize,
        /// `None`: accepted.
        outcome: Option<StoredOutcome>,
        /// Whether an earlier command got it first.
        replayed: bool,
    },
    /// See [`Refusal`], here and below.
    KeyReused,
    /// `If-Match` named another version.
    VersionMismatch {
        /// The aggregate's.
        current: i64,
        /// The one asked for.
        expected: i64,
    },
    /// The commit is too large.
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A mistake in the code.
    Unencodable(String),
    /// Too much of something waits.
    Busy(String),
    /// No effect, or that is unknown.
    Unavailable(String),
    /// HTTP would say 421: the receiver does not own the partition.
    NotOwner {
        /// Why not.
        reason: String,
        /// Whether the command was handed to an owner there, so that it may stand in the log.
        is_tried: bool,
        /// Whom the receiver takes for the owner.
        owner: Option<Entry>,
    },
}

/// A stored outcome. Its detail is JSON text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredOutcome {
    status: i32,
    code: String,
    detail: String,
}

impl Reply {
    /// The reply to a command that was handed to an owner; `owner` is whom the directory names.
    pub fn to_tried(answered: Result<Answer, Refusal>, owner: Option<Entry>) -> Self {
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
            Refusal::Unencodable(reason) => Self::Unencodable(reason),
            Refusal::Busy(reason) => Self::Busy(reason),
            Refusal::Unavailable(reason) => Self::Unavailable(reason),
            Refusal::NotOwner(reason) => Self::NotOwner {
                reason,
                is_tried: true,
                owner,
            },
        }
    }

    /// What the owner said.
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
                        status: stored.status,
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
            Self::Unencodable(reason) => Refusal::Unencodable(reason),
            Self::Busy(reason) => Refusal::Busy(reason),
            Self::Unavailable(reason) => Refusal::Unavailable(reason),
            Self::NotOwner { reason, .. } => Refusal::NotOwner(reason),
        })
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
                status: outcome.status,
                code: outcome.code,
                detail: String::from_utf8_lossy(&outcome.detail).into_owned(),
            }),
            replayed: answer.replayed,
        }
    }
}

/// A value as a line.
pub fn line(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(value).expect("commands and replies are JSON");
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        call::{Call, PriceChange},
        wire::MoneyBody,
    };
    use schemas::{Timestamp, ids::CommandId};

    #[test]
    fn a_forwarded_command_looks_so() {
        let price = MoneyBody {
            amount: 5,
            currency: "GBP".into(),
        };
        let sku = "LAMP-1".into();
        let command = Command {
            id: CommandId([7; 16]),
            keyed: true,
            received_at: Timestamp(1_291_191_960_000_000),
            actor: "service:import".into(),
            expected_version: Some(3),
            traceparent: None,
            call: Call::ChangePrice(PriceChange { sku, price }),
        };
        let text = line(&Forwarded {
            within_ms: 15_000,
            command: Cow::Owned(command),
        });
        let text = String::from_utf8(text).unwrap();
        let expected = concat!(
            r#"{"within_ms":15000,"command":{"id":"07070707070707070707070707070707","keyed":true,"#,
            r#""received_at":1291191960000000,"actor":"service:import","expected_version":3,"#,
            r#""traceparent":null,"call":{"name":"ChangePrice","body":{"sku":"LAMP-1","#,
            r#""price":{"amount":5,"currency":"GBP"}}}}}"#,
            "\n"
        );
        assert_eq!(text, expected);
        let again: Forwarded = serde_json::from_str(&text).unwrap();
        assert_eq!(line(&again), text.as_bytes());
    }

    #[test]
    fn what_an_owner_says_arrives_as_it_was() {
        let outcome = Outcome {
            status: 409,
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
        for said in [
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
            Err(Refusal::Unencodable("x".into())),
            Err(Refusal::Busy("x".into())),
            Err(Refusal::Unavailable("x".into())),
            Err(Refusal::NotOwner("x".into())),
        ] {
            let text = line(&Reply::to_tried(said.clone(), None));
            let heard: Reply = serde_json::from_slice(&text).unwrap();
            assert_eq!(heard.into_result(), said);
        }
    }
}
