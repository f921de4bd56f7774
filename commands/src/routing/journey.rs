//! A command on its way to its owner: what it has met so far, and when and where it is tried next.

use crate::call::{Command, Prepared};
use journal::owner::{Answer, Refusal, trace_id};
use schemas::owners::{Entry, Place};
use std::time::Duration;
use tokio::time::Instant;

/// How often a command is tried. Pauses between tries double up to [`PAUSE_MAX`], so that its
/// deadline comes first.
pub const TRIES_MAX: u32 = 64;
/// The first pause between two tries.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// The longest pause between two tries.
pub(super) const PAUSE_MAX: Duration = Duration::from_millis(320);
/// How long a node that could not take a command is left alone by that command, unless the directory
/// says something new.
pub(super) const AVOID_TIME: Duration = Duration::from_millis(300);

/// A command on its way, and what it has met so far.
pub struct Journey {
    pub(super) command: Command,
    /// For a local owner; gone once one has it.
    pub(super) prepared: Option<Prepared>,
    key: String,
    pub(super) place: Place,
    pub(super) deadline: Instant,
    tries: u32,
    /// When it may be tried again. A moment, lest those that come back together and go out one by one
    /// wait one by one.
    pub(super) not_before: Option<Instant>,
    /// Whether an earlier try may have put it into the log.
    may_be_done: bool,
    /// What an unsuccessful try ended with.
    pub(super) trouble: Option<String>,
    /// An entry that led nowhere, and until when it is not followed again.
    pub(super) avoided: Option<(Entry, Instant)>,
    /// What another node takes for the owner.
    pub(super) told: Option<Entry>,
}

/// What one try came to.
pub enum Tried {
    /// That is the command's answer.
    Answered(Result<Answer, Refusal>),
    /// It must be tried again.
    Again(Trouble),
}

/// Why a command must be tried again.
pub struct Trouble {
    pub(super) reason: String,
    pub(super) may_be_done: bool,
    pub(super) avoid: Option<Entry>,
    pub(super) told: Option<Entry>,
}

/// The entry to follow: of the one in the directory and the one that a node told, the greater; but what
/// was told counts more than the entry that led to it, whatever the epochs are: that one may be a stray.
pub(super) fn follow(
    known: Option<Entry>,
    told: Option<Entry>,
    led_nowhere: Option<&Entry>,
    own_url: &str,
) -> Option<Entry> {
    let told = told.filter(|entry| entry.url != own_url);
    let known = known.filter(|entry| told.is_none() || led_nowhere != Some(entry));
    [known, told]
        .into_iter()
        .flatten()
        .max_by_key(|entry| entry.epoch)
        .filter(|entry| entry.url != own_url)
}

impl Journey {
    /// A command that has met nothing yet.
    pub(super) fn new(command: Command, prepared: Prepared, deadline: Instant) -> Self {
        Self {
            command,
            key: prepared.key().to_owned(),
            place: prepared.place(),
            prepared: Some(prepared),
            deadline,
            tries: 0,
            not_before: None,
            may_be_done: false,
            trouble: None,
            avoided: None,
            told: None,
        }
    }

    /// The key of the record that the command would become.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The partition that decides it.
    pub fn place(&self) -> Place {
        self.place
    }

    /// When its answer is due.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The id of the trace that the command is of.
    pub(super) fn trace_id(&self) -> Option<&str> {
        trace_id(self.command.traceparent.as_deref()?)
    }

    /// Takes in what a try came to; gives the answer, if that is one.
    ///
    /// An answer that the log had already is marked as a replay only if it can't be that of an earlier
    /// try of this very journey. Where a client repeats itself just when an outcome gets lost on the
    /// way, both may be true; then the mark is missing.
    pub fn take(&mut self, tried: Tried) -> Option<Result<Answer, Refusal>> {
        match tried {
            Tried::Answered(Ok(answer)) => Some(Ok(Answer {
                replayed: answer.replayed && !self.may_be_done,
                ..answer
            })),
            Tried::Answered(Err(refusal)) => Some(Err(refusal)),
            Tried::Again(trouble) => {
                let (topic, partition) = self.place;
                let (trace_id, reason) = (self.trace_id(), &trouble.reason);
                tracing::debug!(topic, partition, trace_id, reason, "tried again");
                self.tries += 1;
                self.may_be_done |= trouble.may_be_done;
                let until = Instant::now() + AVOID_TIME;
                self.avoided = trouble.avoid.map(|entry| (entry, until));
                self.told = trouble.told;
                self.not_before = Some(Instant::now() + self.pause());
                if self.tries < TRIES_MAX {
                    self.trouble = Some(trouble.reason);
                    return None;
                }
                let reason = format!("given up after {TRIES_MAX} tries: {}", trouble.reason);
                Some(Err(Refusal::Unavailable(reason)))
            }
        }
    }

    /// How long to wait before the next try.
    fn pause(&self) -> Duration {
        let doublings = self.tries.saturating_sub(1).min(16);
        (PAUSE_MIN * (1 << doublings)).min(PAUSE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_told_counts_more_than_the_entry_that_led_to_it() {
        let entry = |epoch, url: &str| Entry {
            epoch,
            term: String::new(),
            url: url.into(),
        };
        let (stray, told, later) = (entry(9, "b"), entry(3, "c"), entry(4, "d"));
        let followed = |known: &Entry, told: Option<&Entry>, led_nowhere| {
            follow(Some(known.clone()), told.cloned(), led_nowhere, "a")
        };
        assert_eq!(followed(&stray, None, None), Some(stray.clone()));
        assert_eq!(
            followed(&stray, Some(&told), Some(&stray)),
            Some(told.clone())
        );
        // What the directory has learned since counts by its epoch.
        assert_eq!(followed(&later, Some(&told), Some(&stray)), Some(later));
        // A node that takes the asking one for the owner has told nothing.
        let asking = entry(3, "a");
        assert_eq!(
            followed(&stray, Some(&asking), Some(&stray)),
            Some(stray.clone())
        );
        assert_eq!(followed(&asking, None, None), None);
    }
}
