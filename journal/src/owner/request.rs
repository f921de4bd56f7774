//! What an owner is asked, what it answers, and the rules it decides by.

use schemas::{ContextEvent, Origin, Outcome, Timestamp, ids::CommandId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The rules of one context's aggregates; `commands` makes it from deciders.
pub trait Machine: Send + 'static {
    /// Changes with whatever changes what a log folds to: a state's fields, their order, or
    /// [`Machine::evolve`]. State stores of another version are made again from the log.
    const FOLD_VERSION: u32;
    /// The context's facts.
    type Event: ContextEvent;
    /// What is known of one aggregate.
    type State: Clone + Send + Sync + Serialize + DeserializeOwned + 'static;
    /// What may be asked.
    type Command: Send + 'static;

    /// The state of an aggregate that does not exist yet.
    fn blank(&self, aggregate_type: &str) -> Self::State;

    /// The facts to record (none: already so), or the business's refusal.
    fn decide(
        &self,
        state: &Self::State,
        command: &Self::Command,
    ) -> Result<Vec<Self::Event>, Outcome>;

    /// Applies a fact. Total.
    fn evolve(&self, state: Self::State, event: &Self::Event) -> Self::State;
}

/// One command, with everything that its commit will say of it.
#[derive(Debug, Clone)]
pub struct Request<C> {
    /// The record's key, `<aggregate type>_<aggregate id>`.
    pub key: String,
    /// What is asked.
    pub command: C,
    /// The id that makes a retry the same command.
    pub id: CommandId,
    /// Keyed hash of the canonical command.
    pub hash: [u8; 16],
    /// Where the id comes from.
    pub origin: Origin,
    /// Opaque id of the principal.
    pub actor: String,
    /// Joins everything that one request set going.
    pub correlation_id: [u8; 16],
    /// The event that caused this command, if one did.
    pub causation_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// The aggregate must have this version (`If-Match`).
    pub expected_version: Option<i64>,
    /// When the process that the client asked took it, by that process's clock. It travels with the
    /// command: whoever decides it late must know that.
    pub received_at: Timestamp,
}

/// How much later than it was received a command may be decided, in log time. Less than any answer is
/// kept: so whoever decides it, wherever it was before, would still know of an earlier decision.
pub const DECIDED_WITHIN_US: i64 = 5 * 60 * 1_000_000;
/// How far the clock of whoever received a command may be ahead of log time. Both together are less
/// than any answer is kept.
pub const RECEIVED_AHEAD_US_MAX: i64 = 60 * 1_000_000;

/// The trace's id in a `traceparent`, which is `<version>-<trace id>-<span id>-<flags>`.
pub fn trace_id(traceparent: &str) -> Option<&str> {
    traceparent.split('-').nth(1)
}

impl<C> Request<C> {
    /// The id of the trace that it is of.
    pub fn trace_id(&self) -> Option<&str> {
        trace_id(self.traceparent.as_deref()?)
    }

    /// Says that it is refused, for whoever follows its trace; aloud where it is a mistake of ours.
    pub(super) fn log_refusal(&self, topic: &str, partition: i32, refusal: &Refusal) {
        let trace_id = self.trace_id();
        match refusal {
            Refusal::Unencodable(_) => {
                let command_id = hex::encode(self.id.0);
                tracing::error!(topic, partition, command_id, trace_id, %refusal);
            }
            Refusal::KeyReused
            | Refusal::VersionMismatch { .. }
            | Refusal::TooLarge { .. }
            | Refusal::Busy(_)
            | Refusal::NotOwner(_)
            | Refusal::Unavailable(_) => {
                tracing::debug!(topic, partition, trace_id, %refusal);
            }
        }
    }

    /// Whether it may be decided at `now`, in a term that began at `since`.
    ///
    /// Where log time is ahead (a broker's clock was wrong once), it stands still until the clock has
    /// come up to it, and no answer expires meanwhile. Some may have when it leapt, which was before
    /// this term; so what was received since is decided too.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`]: a decision of it may have been forgotten by now.
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
            format!("the clock of the process that received the command is {ahead} s ahead")
        } else if age_us <= DECIDED_WITHIN_US || (log_time > now && is_of_this_term) {
            return Ok(());
        } else {
            let age = age_us / 1_000_000;
            format!("the command was received {age} s of log time ago")
        };
        Err(Refusal::Unavailable(reason))
    }
}

/// What a command came to. Given only when it is proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The journal's partition.
    pub partition: i32,
    /// The commit's offset; for an answer without a commit of its own, that of the record that proved
    /// it: whoever has read so far has read all that the answer rests on.
    pub offset: i64,
    /// The aggregate's version after it.
    pub version: i64,
    /// How many events were recorded.
    pub events: usize,
    /// `None`: accepted. Else the business's refusal, or "already so".
    pub outcome: Option<Outcome>,
    /// Whether an earlier command of the same id got it first.
    pub replayed: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The same id came with another command before.
    #[error("the idempotency key was used for another command before")]
    KeyReused,
    /// `If-Match` named another version.
    #[error("the version is {current}, not {expected}")]
    VersionMismatch {
        /// The aggregate's version.
        current: i64,
        /// The one asked for.
        expected: i64,
    },
    /// One commit is one record, which has a limit.
    #[error("the commit would have {bytes} bytes, more than {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The commit can't be encoded, which is a mistake in the code.
    #[error("the commit can't be encoded: {0}")]
    Unencodable(String),
    /// So many commands of this aggregate wait that one more has no room. It had no effect.
    #[error("the aggregate is too busy: {0}")]
    Busy(String),
    /// Somebody else owns the partition. Whether the command took effect is unknown or it did not; the
    /// owner knows it by its id.
    #[error("this process does not own the partition: {0}")]
    NotOwner(String),
    /// Whether the command took effect is unknown or it did not; trying again is safe.
    #[error("the journal is not available: {0}")]
    Unavailable(String),
}

/// The outcome of a command that changed nothing, for what it asks is so already.
pub(crate) fn already_so() -> Outcome {
    Outcome {
        status: 200,
        code: "ALREADY_SO".into(),
        detail: b"{}".to_vec(),
    }
}
