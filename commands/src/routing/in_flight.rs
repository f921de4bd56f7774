//! A command between its arrival and its answer: the results of its attempts so far, and the time and the
//! target of the next one.

use crate::{envelope::CommandEnvelope, owners::TypedCommand};
use backoff::Backoff;
use journal::owner::{Answer, Refusal};
use schemas::{owners::Entry, topics::TopicPartition};
use service::{budget::Share, trace};
use std::time::Duration;
use tokio::time::Instant;

/// Longest time from a command's arrival to its answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum number of attempts for one command. The pauses between them double up to [`PAUSE_MAX`], so the
/// command's deadline comes first.
pub const ATTEMPTS_MAX: u32 = 64;
/// The first pause between two attempts.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// The longest pause between two attempts.
pub(super) const PAUSE_MAX: Duration = Duration::from_millis(320);
/// Time during which a command is not sent again to a node that could not accept it, unless the directory
/// reads another entry meanwhile.
pub(super) const BACKOFF_TIME: Duration = Duration::from_millis(300);

/// A command without an answer yet, and the results of its attempts.
pub struct InFlightCommand {
    pub(super) command: CommandEnvelope,
    /// The command for an owner on this node; `None` once it was submitted.
    pub(super) typed: Option<TypedCommand>,
    key: String,
    pub(super) target: TopicPartition,
    pub(super) deadline: Instant,
    attempts: u32,
    /// The pauses between attempts.
    pauses: Backoff,
    /// The earliest time of the next attempt. It is a point in time, so that commands that are dispatched one
    /// after the other wait concurrently.
    pub(super) not_before: Option<Instant>,
    /// Whether an earlier attempt may have put it into the log.
    maybe_committed: bool,
    /// Why the last attempt failed.
    pub(super) last_error: Option<String>,
    /// The owner that could not accept the command, and the time until which it gets no further attempt.
    pub(super) backoff_owner: Option<(Entry, Instant)>,
    /// The owner that another node named.
    pub(super) owner_hint: Option<Entry>,
    /// Its share of the process's budget, until it is answered.
    _share: Option<Share>,
}

/// The outcome of one attempt.
pub enum AttemptOutcome {
    /// The command's answer.
    Answered(Result<Answer, Refusal>),
    /// The command needs another attempt.
    Retry(RetryReason),
}

/// Why a command needs another attempt.
pub struct RetryReason {
    /// The reason, as text for people.
    pub(super) reason: String,
    /// Whether this attempt may have put the command into the log.
    pub(super) maybe_committed: bool,
    /// The owner that gets no further attempt for [`BACKOFF_TIME`].
    pub(super) backoff_owner: Option<Entry>,
    /// The owner that the other node named.
    pub(super) owner_hint: Option<Entry>,
}

/// The owner to send a command to: the entry of the greater epoch among `known`, the directory's, and `hint`,
/// which another node named. If `known` is the entry that `failed` and led to the hint, it may be stale, so
/// the hint is used regardless of the epochs.
pub(super) fn choose_owner(
    known: Option<Entry>,
    hint: Option<Entry>,
    failed: Option<&Entry>,
    own_url: &str,
) -> Option<Entry> {
    let hint = hint.filter(|entry| entry.url != own_url);
    let known = known.filter(|entry| hint.is_none() || failed != Some(entry));
    [known, hint]
        .into_iter()
        .flatten()
        .max_by_key(|entry| entry.epoch)
        .filter(|entry| entry.url != own_url)
}

impl InFlightCommand {
    /// A command before its first attempt.
    pub(super) fn new(command: CommandEnvelope, typed: TypedCommand, deadline: Instant) -> Self {
        Self {
            command,
            key: typed.key().to_owned(),
            target: typed.target(),
            typed: Some(typed),
            deadline,
            attempts: 0,
            pauses: Backoff::doubling(PAUSE_MIN, PAUSE_MAX),
            not_before: None,
            maybe_committed: false,
            last_error: None,
            backoff_owner: None,
            owner_hint: None,
            _share: None,
        }
    }

    /// The command with its share of the process's budget, which it holds until it is answered.
    #[must_use]
    pub fn with_share(self, share: Share) -> Self {
        Self {
            _share: Some(share),
            ..self
        }
    }

    /// The command's name.
    pub fn name(&self) -> &'static str {
        self.command.name()
    }

    /// The aggregate's id as clients know it: the id that they gave, else the record's key.
    pub fn subject(&self) -> &str {
        self.command.subject(&self.key)
    }

    /// The key of the command's record.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The partition whose owner decides it.
    pub fn target(&self) -> TopicPartition {
        self.target
    }

    /// When its answer is due.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The id of the trace that the command belongs to.
    pub(super) fn trace_id(&self) -> Option<String> {
        trace::trace_id(self.command.traceparent.as_deref()?)
    }

    /// Records the outcome of an attempt; returns the answer, if there is one now.
    ///
    /// An answer that was already in the log is marked as a replay only if no earlier attempt of this request
    /// can have put it there. If the client repeats a command and an outcome is also lost between nodes, the
    /// mark may be missing.
    pub fn record_outcome(&mut self, outcome: AttemptOutcome) -> Option<Result<Answer, Refusal>> {
        match outcome {
            AttemptOutcome::Answered(Ok(answer)) => Some(Ok(Answer {
                replayed: answer.replayed && !self.maybe_committed,
                ..answer
            })),
            AttemptOutcome::Answered(Err(refusal)) => Some(Err(refusal)),
            AttemptOutcome::Retry(retry) => self.record_retry(retry),
        }
    }

    fn record_retry(&mut self, retry: RetryReason) -> Option<Result<Answer, Refusal>> {
        let TopicPartition { topic, partition } = self.target;
        let (trace_id, reason) = (self.trace_id(), &retry.reason);
        tracing::debug!(
            topic,
            partition,
            trace_id,
            reason,
            "command needs another attempt"
        );
        self.attempts += 1;
        self.maybe_committed |= retry.maybe_committed;
        let until = Instant::now() + BACKOFF_TIME;
        self.backoff_owner = retry.backoff_owner.map(|owner| (owner, until));
        self.owner_hint = retry.owner_hint;
        self.not_before = Some(Instant::now() + self.pauses.wait());
        if self.attempts < ATTEMPTS_MAX {
            self.last_error = Some(retry.reason);
            return None;
        }
        let reason = format!("no answer after {ATTEMPTS_MAX} attempts: {}", retry.reason);
        Some(Err(Refusal::Unavailable(reason)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_overrides_the_stale_entry_that_led_to_it() {
        let entry = |epoch, url: &str| Entry::new(epoch, "", url);
        let (stale, hint, later) = (entry(9, "b"), entry(3, "c"), entry(4, "d"));
        let chosen = |known: &Entry, hint: Option<&Entry>, failed| {
            choose_owner(Some(known.clone()), hint.cloned(), failed, "a")
        };
        assert_eq!(chosen(&stale, None, None), Some(stale.clone()));
        assert_eq!(
            chosen(&stale, Some(&hint), Some(&stale)),
            Some(hint.clone())
        );
        // An entry that the directory has read since is compared by its epoch.
        assert_eq!(chosen(&later, Some(&hint), Some(&stale)), Some(later));
        // A hint that names this node itself is ignored.
        let own = entry(3, "a");
        assert_eq!(
            chosen(&stale, Some(&own), Some(&stale)),
            Some(stale.clone())
        );
        assert_eq!(chosen(&own, None, None), None);
    }
}
