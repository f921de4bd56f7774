//! What an owner and a reader must never do, as constants that are all false in [`Sound`]. The
//! simulator breaks one after the other, to show that each would be found out. They are types and not
//! settings: no process that serves can be told to do any of this.

use std::fmt::Debug;

/// The mistakes.
pub trait Protocol: Debug + Clone + PartialEq + Send + Sync + 'static {
    /// Answers as soon as the broker reports a record, wherever it stands.
    const ANSWERS_ON_BARE_DELIVERY: bool = false;
    /// Takes a commit for proved if it stands right behind the record that was reported before it,
    /// though that one is not proved itself.
    const CONTIGUITY_IS_NOT_INDUCTIVE: bool = false;
    /// Takes a report for a proof whose offset is none that the log can have given.
    const OFFSETS_OF_DUPLICATES_PROVE: bool = false;
    /// After an unknown outcome, decides the command again in the same term.
    const NO_BARRIER: bool = false;
    /// At a barrier, folds what it finds of its own, and not what another owner wrote meanwhile.
    const BARRIER_ABOVE_FOREIGN_TERM: bool = false;
    /// Serves once its announcement is delivered, before it has read up to it.
    const SERVES_BEFORE_READING: bool = false;
    /// Does not fold answers from the log, only state.
    const ANSWERS_NOT_FOLDED: bool = false;
    /// Gives refusals and repeated answers without a proof of being in office.
    const REFUSES_WITHOUT_PROOF: bool = false;
    /// Keeps deciding on unproved commits that a barrier found void.
    const OVERLAY_SURVIVES_BARRIER: bool = false;
    /// Forgets answers by its own clock.
    const ANSWERS_EXPIRE_BY_CLOCK: bool = false;
    /// Starts from a stored checkpoint as if no term were in force.
    const CHECKPOINT_WITHOUT_EPOCH: bool = false;
    /// The rule takes an announcement of any later epoch.
    const ANY_LATER_EPOCH: bool = false;
    /// The rule does not look at `prev`.
    const PREV_UNCHECKED: bool = false;
}

/// None of the mistakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sound {}

impl Protocol for Sound {}
