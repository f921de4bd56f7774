//! The commands, answers and refusals of an owner, and the business rules that it applies.

use schemas::{ContextEvent, Origin, Outcome, OutcomeKind, Timestamp, ids::CommandId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The business rules of one context's aggregates; `commands` builds it from deciders.
pub trait Machine: Send + 'static {
    /// Raise it with every change of the state that a log folds to: a state's fields, their order, or
    /// [`Machine::evolve`]. State stores of another version are rebuilt from the log.
    const FOLD_VERSION: u32;
    /// The context's events.
    type Event: ContextEvent;
    /// The state of one aggregate.
    type State: Clone + Send + Sync + Serialize + DeserializeOwned + 'static;
    /// The context's commands.
    type Command: Send + 'static;

    /// The state of an aggregate that does not exist yet; `None` if the context has no aggregate of that type.
    fn blank(&self, aggregate_type: &str) -> Option<Self::State>;

    /// The events to record (none: already so), or the rejection.
    fn decide(
        &self,
        state: &Self::State,
        command: &Self::Command,
    ) -> Result<Vec<Self::Event>, Outcome>;

    /// Applies an event. It accepts every event in every state.
    fn evolve(&self, state: Self::State, event: &Self::Event) -> Self::State;
}

/// One command, with all fields that its commit records.
#[derive(Debug, Clone)]
pub struct Request<C> {
    /// The record's key, `<aggregate type>_<aggregate id>`.
    pub key: String,
    /// The command itself.
    pub command: C,
    /// The id that makes a retry the same command.
    pub id: CommandId,
    /// Keyed hash of the canonical command.
    pub hash: [u8; 16],
    /// The origin of the id.
    pub origin: Origin,
    /// Opaque id of the principal.
    pub actor: String,
    /// Identifies all commands and events that one request caused.
    pub correlation_id: [u8; 16],
    /// The event that caused this command, if one did.
    pub causation_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// The id of its trace, for log lines.
    pub trace_id: Option<String>,
    /// The aggregate must have this version (`If-Match`).
    pub expected_version: Option<i64>,
    /// The time at which the client's node received it, by that node's clock. It is forwarded with the command, so
    /// that an owner can detect that the command is late.
    pub received_at: Timestamp,
}

/// Longest time between the receipt of a command and its decision, in microseconds of log time. It is shorter than
/// any answer is kept, so the deciding owner still has the answer of an earlier decision.
pub const DECIDED_WITHIN_US: i64 = 5 * 60 * 1_000_000;
/// How far the clock of the receiving node may be ahead of log time, in microseconds. This and
/// [`DECIDED_WITHIN_US`] together are less than any answer is kept.
pub const RECEIVED_AHEAD_US_MAX: i64 = 60 * 1_000_000;

impl<C> Request<C> {
    /// Logs a refusal with its trace; at level error if it is a bug.
    pub(super) fn log_refusal(&self, topic: &str, partition: i32, refusal: &Refusal) {
        let trace_id = self.trace_id.as_deref();
        match refusal {
            Refusal::Unencodable(_) => {
                let command_id = hex::encode(self.id.0);
                tracing::error!(topic, partition, command_id, trace_id, %refusal, "command refused");
            }
            Refusal::KeyReused
            | Refusal::VersionMismatch { .. }
            | Refusal::TooLarge { .. }
            | Refusal::Forbidden(_)
            | Refusal::Busy(_)
            | Refusal::NotOwner(_)
            | Refusal::Unavailable(_) => {
                tracing::debug!(topic, partition, trace_id, %refusal, "command refused");
            }
        }
    }

    /// Checks that the command may be decided at `now`, in a term that began at `since`.
    ///
    /// If log time is ahead of the clock (a broker's clock was wrong once), log time does not advance until the clock
    /// has caught up, and no answer expires until then. Some answers may have expired when log time jumped, which was
    /// before this term. So commands received a minute or more after the term began are decided, too.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`]: an earlier decision of the command may have been forgotten by now.
    pub(super) fn check_age(
        &self,
        now: Timestamp,
        log_time: Timestamp,
        since: Timestamp,
    ) -> Result<(), Refusal> {
        let received_us = self.received_at.0;
        let ahead_us = received_us.saturating_sub(now.0);
        let age_us = now.max(log_time).0.saturating_sub(received_us);
        let is_of_this_term = received_us.saturating_sub(since.0) >= RECEIVED_AHEAD_US_MAX;
        let reason = if ahead_us > RECEIVED_AHEAD_US_MAX {
            let ahead = ahead_us / 1_000_000;
            format!("the clock of the node that received the command is {ahead} s ahead")
        } else if age_us <= DECIDED_WITHIN_US || (log_time > now && is_of_this_term) {
            return Ok(());
        } else {
            let age = age_us / 1_000_000;
            format!(
                "the command was received {age} s of log time ago, which is too long; send it again"
            )
        };
        Err(Refusal::Unavailable(reason))
    }
}

/// The answer to a command. Given only once it is proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The journal's partition.
    pub partition: i32,
    /// The commit's offset; for an answer without a commit of its own, the offset of the record that
    /// proved it: a reader at that offset has read all records that the answer depends on.
    pub offset: i64,
    /// The aggregate's version after it.
    pub version: i64,
    /// Number of events recorded.
    pub events: usize,
    /// `None`: accepted. Otherwise the rejection, or "already so".
    pub outcome: Option<Outcome>,
    /// Whether it is the stored answer of an earlier command with the same id.
    pub replayed: bool,
}

/// Why a command has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An earlier command with the same id had other content.
    #[error("the idempotency key was used for another command before; send a new key")]
    KeyReused,
    /// `If-Match` named another version.
    #[error("the version is {current}, not {expected}")]
    VersionMismatch {
        /// The aggregate's version.
        current: i64,
        /// The expected one.
        expected: i64,
    },
    /// One commit is one record, which has a limit.
    #[error(
        "the command's record would have {bytes} bytes, and the journal takes {bytes_max}: send a smaller command"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The brokers take no record of this node in the journal. The command had no effect.
    #[error("the brokers refuse writes to the journal; an operator must allow them: {0}")]
    Forbidden(String),
    /// The commit can't be encoded, which is a bug.
    #[error("the commit can't be encoded: {0}")]
    Unencodable(String),
    /// Too many commands of this aggregate wait. This one had no effect.
    #[error("the aggregate is too busy: {0}")]
    Busy(String),
    /// Another node owns the partition. The command had no effect, or its effect is unknown; the owner
    /// knows it by the command's id.
    #[error("this node does not own the partition: {0}")]
    NotOwner(String),
    /// The command had no effect, or its effect is unknown; sending it again is safe.
    #[error("the journal is not available: {0}")]
    Unavailable(String),
}

/// The outcome of a command that changed nothing, because the state is already as requested.
pub(crate) fn already_so() -> Outcome {
    Outcome {
        kind: OutcomeKind::AlreadySo,
        code: "ALREADY_SO".into(),
        detail: b"{}".to_vec(),
    }
}
