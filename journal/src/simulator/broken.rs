//! Owners and readers that make one mistake each. A suite that does not catch every one of them has no
//! teeth.

use super::run::{Run, run};
use crate::protocol::{Protocol, Sound};

/// One mistake.
#[derive(Debug, Clone, Copy)]
pub struct Mistake {
    /// What it is called.
    pub name: &'static str,
    /// Runs owners and readers that make it.
    pub run: fn(seed: u64, with_trace: bool) -> Run,
}

/// Those that make no mistake.
pub const SOUND: Mistake = Mistake {
    name: "sound",
    run: run::<Sound>,
};

/// Declares a type per mistake, and the list of them.
macro_rules! mistakes {
    ($($type:ident $constant:ident $name:literal)+) => {
        $(
            #[doc = concat!("Makes the mistake [`Protocol::", stringify!($constant), "`].")]
            #[derive(Debug, Clone, PartialEq)]
            enum $type {}

            impl Protocol for $type {
                const $constant: bool = true;
            }
        )+

        /// All of them.
        pub const MISTAKES: &[Mistake] = &[$(Mistake { name: $name, run: run::<$type> }),+];
    };
}

mistakes! {
    AnswersOnBareDelivery ANSWERS_ON_BARE_DELIVERY "answers-on-bare-delivery"
    ContiguityIsNotInductive CONTIGUITY_IS_NOT_INDUCTIVE "contiguity-is-not-inductive"
    OffsetsOfDuplicatesProve OFFSETS_OF_DUPLICATES_PROVE "offsets-of-duplicates-prove"
    NoBarrier NO_BARRIER "no-barrier"
    BarrierAboveForeignTerm BARRIER_ABOVE_FOREIGN_TERM "barrier-above-foreign-term"
    ServesBeforeReading SERVES_BEFORE_READING "serves-before-reading"
    AnswersNotFolded ANSWERS_NOT_FOLDED "answers-not-folded"
    RefusesWithoutProof REFUSES_WITHOUT_PROOF "refuses-without-proof"
    OverlaySurvivesBarrier OVERLAY_SURVIVES_BARRIER "overlay-survives-barrier"
    AnswersExpireByClock ANSWERS_EXPIRE_BY_CLOCK "answers-expire-by-clock"
    CheckpointWithoutEpoch CHECKPOINT_WITHOUT_EPOCH "checkpoint-without-epoch"
    AnyLaterEpoch ANY_LATER_EPOCH "any-later-epoch"
    PrevUnchecked PREV_UNCHECKED "prev-unchecked"
}
