//! The steps of the protocol that a mutation may replace, and the protocol of production.
//!
//! Mutation testing shows that the simulator notices a wrong protocol. A mutation is a *type*:
//! `journal-simulator` implements [`RuleProtocol`], [`OwnerProtocol`] or [`SharingProtocol`] for a type of its own and
//! overrides one step. Every default body is the correct step, and [`CorrectProtocol`], which overrides
//! none, is the default type parameter of [`Rule`](crate::rule::Rule), [`Reader`](crate::Reader),
//! [`SharedReader`](crate::SharedReader) and [`Owner`](crate::owner::Owner).
//!
//! We chose types over a cargo feature because cargo unifies features: `cargo build --workspace` would
//! have compiled the mutated branches into the `daybook` binary. Here the overriding bodies are in a
//! crate that the binary does not depend on, and no setting selects a protocol. The few methods of
//! [`ReportSteps`] and [`TakeOverSteps`] that only mutations call belong to generic code, so a binary
//! without a mutation contains no instance of them.

use crate::{
    chain::Hash,
    checkpoint::Checkpoint,
    rule_version::{RULE_VERSION_ANNOUNCED, RULE_VERSION_KNOWN},
};
use kafka::Report;
use schemas::Timestamp;
use std::{fmt::Debug, future::Future};

/// Steps of the void rule.
pub trait RuleProtocol: Debug + Clone + PartialEq + Send + Sync + 'static {
    /// Whether an announcement of epoch `found`, which is above `current`, begins the next term.
    fn begins_next_term(current: i64, found: i64) -> bool {
        follows(current, found)
    }

    /// Whether a commit's `prev` is the chain's hash.
    fn continues_chain(prev: &Hash, hash: &Hash) -> bool {
        prev == hash
    }

    /// Whether a record that would be void carries the chain's hash as its `prev`, and so was altered.
    fn was_altered(prev: &Hash, hash: &Hash) -> bool {
        prev == hash
    }

    /// The latest version of the rule that this reader supports.
    fn known_rule_version() -> i32 {
        RULE_VERSION_KNOWN
    }
}

/// Steps of the owner.
pub trait OwnerProtocol: RuleProtocol {
    /// The version of the rule that this owner announces.
    fn announced_rule_version() -> i32 {
        RULE_VERSION_ANNOUNCED
    }

    /// The checkpoint from which an owner resumes, computed from its state store's checkpoint.
    fn resume(stored: Checkpoint) -> Checkpoint {
        stored
    }

    /// Whether an owner folds a valid record that it reads. `is_foreign`: the record belongs to another
    /// term than the one in force when reading started. `commands_wait`: a barrier left commands to be
    /// decided again.
    fn folds_record(_is_foreign: bool, _commands_wait: bool) -> bool {
        true
    }

    /// Whether an owner folds the answer of a decision that it reads, in addition to the aggregate's state.
    fn folds_answers() -> bool {
        true
    }

    /// Waits until the owner's own announcement is the last record read. `sent` is the number of the
    /// announcement that was just appended; `None` if an earlier one was read already.
    fn confirm_announcement<S: TakeOverSteps>(
        steps: &mut S,
        _sent: Option<u64>,
    ) -> impl Future<Output = Result<(), S::Failure>> + Send {
        steps.read_announcement()
    }

    /// Takes the delivery report of a record of the current term.
    ///
    /// # Errors
    /// The outcome of the append is unknown.
    fn take_report(steps: &mut impl ReportSteps, report: &Report) -> Result<(), Barrier> {
        steps.prove_or_raise_barrier(report)
    }

    /// Whether an answer without a commit of its own is given before a record of the term, appended
    /// after the command arrived, is proved.
    fn answers_without_proof() -> bool {
        false
    }

    /// Whether commands are still decided on unproved commits after a barrier.
    fn keeps_overlay_at_barrier() -> bool {
        false
    }

    /// The time by which answers expire.
    fn expiry_time(log_time: Timestamp, _now: Timestamp) -> Timestamp {
        log_time
    }

    /// The time that a commit carries. `by_broker` is the broker's timestamp of the announcement plus
    /// the monotonic time since then; `None` before the announcement was read.
    fn commit_time(
        by_broker: Option<Timestamp>,
        by_machine: impl FnOnce() -> Timestamp,
    ) -> Timestamp {
        by_broker.unwrap_or_else(by_machine)
    }
}

/// Steps of shared reading.
pub trait SharingProtocol: RuleProtocol {
    /// Whether a subscriber that has all records before `own` misses none if it takes the records that the
    /// shared reader reads from `shared` on.
    fn reaches(own: i64, shared: i64) -> bool {
        own >= shared
    }

    /// The offset from which a subscriber that has all records before `own` takes a batch that begins at
    /// `from`; `None` if records between the two are missing.
    fn takes_from(own: i64, from: i64) -> Option<i64> {
        (from <= own).then_some(own)
    }

    /// Whether a subscriber falls back to its own reader for batches that were dropped before it took them.
    fn falls_back() -> bool {
        true
    }

    /// Whether the shared reader continues to read. `is_awaited`: a subscriber has taken all entries and waits.
    fn reads_on(is_full: bool, is_awaited: bool) -> bool {
        !is_full || is_awaited
    }

    /// Whether a batch that is read while the window is full is kept.
    fn keeps_batch(_is_full: bool) -> bool {
        true
    }

    /// Whether the oldest batches of a full window are dropped.
    fn drops_oldest() -> bool {
        true
    }

    /// Whether subscribers learn that a partition is halted.
    fn passes_halts_on() -> bool {
        true
    }
}

/// The unproved commits of a term, for [`OwnerProtocol::take_report`].
pub trait ReportSteps {
    /// Proves the first unproved commit if the report has exactly the next offset.
    ///
    /// # Errors
    /// The report proves nothing.
    fn prove_or_raise_barrier(&mut self, report: &Report) -> Result<(), Barrier>;

    /// Whether the report belongs to the first unproved commit.
    fn is_of_first_unproved(&self, report: &Report) -> bool;

    /// The offset that proves the first unproved commit.
    fn expected_offset(&self) -> i64;

    /// Treats the first unproved commit as proved at `offset`.
    fn prove_first(&mut self, offset: i64);

    /// Leaves the first unproved commit, reported at `offset`, to the next barrier, and expects the commit
    /// after it at the next offset. Only a mutation calls this.
    fn set_first_aside(&mut self, offset: i64);

    /// Withdraws the first unproved commit and decides its command again in the same term. Only a
    /// mutation calls this.
    fn decide_first_again(&mut self);
}

/// An owner that has announced itself, for [`OwnerProtocol::confirm_announcement`].
pub trait TakeOverSteps: Send {
    /// Why a take-over failed.
    type Failure: Send;

    /// Reads up to the owner's announcement, and sets the clock of the term by its timestamp.
    fn read_announcement(&mut self) -> impl Future<Output = Result<(), Self::Failure>> + Send;

    /// The next delivery report; `None` if none comes within the time that an announcement may take. Only a
    /// mutation calls this.
    fn next_report(&mut self) -> impl Future<Output = Option<Report>> + Send;

    /// Treats the announcement, delivered at `offset`, as read. Only a mutation calls this.
    fn accept_announcement(&mut self, offset: i64);

    /// A failure after which the owner makes another attempt. Only a mutation calls this.
    fn retriable(reason: String) -> Self::Failure;
}

/// The outcome of an append is unknown, so the owner takes over again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("barrier: {reason}")]
pub struct Barrier {
    /// Why the delivery report proves nothing.
    pub reason: String,
}

/// The protocol of production: every step is the default one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CorrectProtocol {}

impl RuleProtocol for CorrectProtocol {}

impl OwnerProtocol for CorrectProtocol {}

impl SharingProtocol for CorrectProtocol {}

/// Whether `found` is the number after `last`; nothing follows the greatest number.
pub(crate) fn follows(last: i64, found: i64) -> bool {
    last.checked_add(1) == Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No log reaches this number, but a checkpoint may contain any number.
    #[test]
    fn nothing_follows_the_greatest_number() {
        assert!(follows(i64::MAX - 1, i64::MAX));
        assert!(!follows(i64::MAX, i64::MIN));
        assert!(!follows(i64::MAX, i64::MAX));
    }
}
