//! Mutations of the protocols: each overrides one step with a wrong one. A suite that does not catch one of them
//! checks too little.
//!
//! A mutation is a type, and its wrong step is a method of this crate: see [`journal::protocol`] for the
//! reason.

use crate::{
    reading,
    run::{Run, run},
    view_writes::{self, CorrectWrites, WriteProtocol},
};
use journal::{
    Checkpoint,
    protocol::{
        Barrier, CorrectProtocol, OwnerProtocol, ReportSteps, RuleProtocol, SharingProtocol,
        TakeOverSteps,
    },
    rule::Hash,
};
use kafka::Report;
use schemas::Timestamp;

/// One mutation.
#[derive(Debug, Clone, Copy)]
pub struct Mutation {
    /// Its name.
    pub name: &'static str,
    /// Runs owners and readers with this mutation.
    pub run: fn(seed: u64, with_trace: bool) -> Run,
}

/// The protocol of production, without a mutation.
pub static CORRECT: Mutation = Mutation {
    name: "correct",
    run: run::<CorrectProtocol>,
};

/// The protocol of production for subscribers of a shared reader, which have runs of their own.
pub static CORRECT_READING: Mutation = Mutation {
    name: "correct-reading",
    run: reading::run::<CorrectProtocol>,
};

/// The steps of production for the writes of views, which have runs of their own.
pub static CORRECT_VIEW_WRITES: Mutation = Mutation {
    name: "correct-view-writes",
    run: view_writes::run::<CorrectWrites>,
};

/// All mutations. This is a static, because each crate that uses a constant would compile every mutated owner once
/// more.
pub static MUTATIONS: &[Mutation] = &[
    mutation::<AnswersOnBareDelivery>("answers-on-bare-delivery"),
    mutation::<ContiguityIsNotInductive>("contiguity-is-not-inductive"),
    mutation::<OffsetsOfDuplicatesProve>("offsets-of-duplicates-prove"),
    mutation::<NoBarrier>("no-barrier"),
    mutation::<BarrierAboveForeignTerm>("barrier-above-foreign-term"),
    mutation::<ServesBeforeReading>("serves-before-reading"),
    mutation::<AnswersNotFolded>("answers-not-folded"),
    mutation::<RefusesWithoutProof>("refuses-without-proof"),
    mutation::<OverlaySurvivesBarrier>("overlay-survives-barrier"),
    mutation::<AnswersExpireByClock>("answers-expire-by-clock"),
    mutation::<CheckpointWithoutEpoch>("checkpoint-without-epoch"),
    mutation::<AnyLaterEpoch>("any-later-epoch"),
    mutation::<PrevUnchecked>("prev-unchecked"),
    sharing_mutation::<JoinsOneOffsetEarly>("joins-one-offset-early"),
    sharing_mutation::<JoinsOneOffsetLate>("joins-one-offset-late"),
    sharing_mutation::<TakesWholeBatches>("takes-whole-batches"),
    sharing_mutation::<ForgetsFallBack>("forgets-fall-back"),
    sharing_mutation::<DropsWhenFull>("drops-when-full"),
    sharing_mutation::<WaitsForTheSlowest>("waits-for-the-slowest"),
    sharing_mutation::<HoldsEverything>("holds-everything"),
    sharing_mutation::<KeepsHaltsBack>("keeps-halts-back"),
    write_mutation::<TimestampsOfArrival>("timestamps-of-arrival"),
    write_mutation::<OneAcknowledgement>("one-acknowledgement"),
    write_mutation::<ReadsOneReplica>("reads-one-replica"),
    write_mutation::<ReadsWithoutRepair>("reads-without-repair"),
    write_mutation::<FoldsFromNothing>("folds-from-nothing"),
    write_mutation::<ForgetsDeletions>("forgets-deletions"),
    write_mutation::<RecordsDeletionsLast>("records-deletions-last"),
    write_mutation::<KeepsUnknownRows>("keeps-unknown-rows"),
    write_mutation::<CheckpointFirst>("checkpoint-first"),
    write_mutation::<CheckpointUncompared>("checkpoint-uncompared"),
];

const fn mutation<P: OwnerProtocol>(name: &'static str) -> Mutation {
    Mutation {
        name,
        run: run::<P>,
    }
}

const fn sharing_mutation<P: SharingProtocol>(name: &'static str) -> Mutation {
    Mutation {
        name,
        run: reading::run::<P>,
    }
}

const fn write_mutation<P: WriteProtocol>(name: &'static str) -> Mutation {
    Mutation {
        name,
        run: view_writes::run::<P>,
    }
}

/// Declares mutations of the owner, whose rule is the correct one.
macro_rules! owner_mutations {
    ($($(#[$doc:meta])* $name:ident { $($step:tt)* })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        enum $name {}

        impl RuleProtocol for $name {}

        impl OwnerProtocol for $name { $($step)* }
    )+};
}

/// Declares mutations of the rule, whose owner is the correct one.
macro_rules! rule_mutations {
    ($($(#[$doc:meta])* $name:ident { $($step:tt)* })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        enum $name {}

        impl RuleProtocol for $name { $($step)* }

        impl OwnerProtocol for $name {}
    )+};
}

/// Declares mutations of shared reading, whose rule is the correct one.
macro_rules! sharing_mutations {
    ($($(#[$doc:meta])* $name:ident { $($step:tt)* })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        enum $name {}

        impl RuleProtocol for $name {}

        impl SharingProtocol for $name { $($step)* }
    )+};
}

/// Declares mutations of the writes of views.
macro_rules! write_mutations {
    ($($(#[$doc:meta])* $name:ident { $($step:tt)* })+) => {$(
        $(#[$doc])*
        enum $name {}

        impl WriteProtocol for $name { $($step)* }
    )+};
}

owner_mutations! {
    /// Answers as soon as the broker reports a record, at any offset.
    AnswersOnBareDelivery {
        fn take_report(steps: &mut impl ReportSteps, report: &Report) -> Result<(), Barrier> {
            match report.result {
                Ok(offset) if is_above(steps, report, offset) => {
                    steps.prove_first(offset);
                    Ok(())
                }
                _ => steps.prove_or_raise_barrier(report),
            }
        }
    }

    /// Treats a commit as proved if it directly follows the record that was reported before it, although that record is
    /// not proved itself.
    ContiguityIsNotInductive {
        fn take_report(steps: &mut impl ReportSteps, report: &Report) -> Result<(), Barrier> {
            match report.result {
                Ok(offset) if is_above(steps, report, offset) => {
                    steps.set_first_aside(offset);
                    Ok(())
                }
                _ => steps.prove_or_raise_barrier(report),
            }
        }
    }

    /// Treats a report as a proof although its offset is impossible in the log.
    OffsetsOfDuplicatesProve {
        fn take_report(steps: &mut impl ReportSteps, report: &Report) -> Result<(), Barrier> {
            let expected = steps.expected_offset();
            match report.result {
                Ok(offset) if steps.is_of_first_unproved(report) && offset < expected => {
                    steps.prove_first(expected);
                    Ok(())
                }
                _ => steps.prove_or_raise_barrier(report),
            }
        }
    }

    /// After an unknown outcome, decides the command again in the same term.
    NoBarrier {
        fn take_report(steps: &mut impl ReportSteps, report: &Report) -> Result<(), Barrier> {
            if report.result.is_ok() {
                return steps.prove_or_raise_barrier(report);
            }
            if steps.is_of_first_unproved(report) {
                steps.decide_first_again();
            }
            Ok(())
        }
    }

    /// At a barrier, folds its own records, but not the records that another owner wrote meanwhile.
    BarrierAboveForeignTerm {
        fn folds_record(is_foreign: bool, commands_wait: bool) -> bool {
            !(is_foreign && commands_wait)
        }
    }

    /// Serves once its announcement is delivered, before it has read up to it.
    ServesBeforeReading {
        async fn confirm_announcement<S: TakeOverSteps>(
            steps: &mut S,
            sent: Option<u64>,
        ) -> Result<(), S::Failure> {
            let Some(number) = sent else { return Ok(()) };
            // The first report may belong to a record of the last term.
            for _ in 0..2 {
                match steps.next_report().await {
                    Some(report) if report.number == number => {
                        let offset = report.result.map_err(|error| S::retriable(error.to_string()))?;
                        steps.accept_announcement(offset);
                        return Ok(());
                    }
                    Some(_) => {}
                    None => break,
                }
            }
            Err(S::retriable("no report".into()))
        }
    }

    /// Folds state from the log, but not answers.
    AnswersNotFolded {
        fn folds_answers() -> bool {
            false
        }
    }

    /// Gives refusals and repeated answers without a proof that it owns the partition.
    RefusesWithoutProof {
        fn answers_without_proof() -> bool {
            true
        }
    }

    /// Keeps deciding on unproved commits that a barrier found void.
    OverlaySurvivesBarrier {
        fn keeps_overlay_at_barrier() -> bool {
            true
        }
    }

    /// Forgets answers by its own clock.
    AnswersExpireByClock {
        fn expiry_time(_: Timestamp, now: Timestamp) -> Timestamp {
            now
        }

        fn commit_time(_: Option<Timestamp>, by_machine: impl FnOnce() -> Timestamp) -> Timestamp {
            by_machine()
        }
    }

    /// Resumes from a stored checkpoint as if no term were in force.
    CheckpointWithoutEpoch {
        fn resume(stored: Checkpoint) -> Checkpoint {
            Checkpoint {
                epoch: 0,
                term: [0; 16],
                seq: 0,
                ..stored
            }
        }
    }
}

rule_mutations! {
    /// Accepts an announcement of any later epoch.
    AnyLaterEpoch {
        fn begins_next_term(current: i64, found: i64) -> bool {
            found > current
        }
    }

    /// Does not check `prev`.
    PrevUnchecked {
        fn continues_chain(_: &Hash, _: &Hash) -> bool {
            true
        }

        fn was_altered(_: &Hash, _: &Hash) -> bool {
            false
        }
    }
}

sharing_mutations! {
    /// Joins although the record before the shared reader's position is missing.
    JoinsOneOffsetEarly {
        fn reaches(own: i64, shared: i64) -> bool {
            own + 1 >= shared
        }

        fn takes_from(own: i64, _: i64) -> Option<i64> {
            Some(own)
        }
    }

    /// Leaves out the first offset of the shared reader's first batch.
    JoinsOneOffsetLate {
        fn takes_from(own: i64, from: i64) -> Option<i64> {
            (from <= own).then_some(own + i64::from(from < own))
        }
    }

    /// Takes a whole batch, although it already has the first part.
    TakesWholeBatches {
        fn takes_from(own: i64, from: i64) -> Option<i64> {
            (from <= own).then_some(from)
        }
    }

    /// Continues with the oldest batch that is left.
    ForgetsFallBack {
        fn falls_back() -> bool {
            false
        }

        fn takes_from(own: i64, _: i64) -> Option<i64> {
            Some(own)
        }
    }

    /// Drops the batch that a full window has no room for.
    DropsWhenFull {
        fn keeps_batch(is_full: bool) -> bool {
            !is_full
        }

        fn takes_from(own: i64, _: i64) -> Option<i64> {
            Some(own)
        }
    }

    /// Does not read on before the slowest subscriber has made room.
    WaitsForTheSlowest {
        fn reads_on(is_full: bool, _: bool) -> bool {
            !is_full
        }
    }

    /// Holds all batches that the slowest subscriber has not taken, without a bound.
    HoldsEverything {
        fn drops_oldest() -> bool {
            false
        }
    }

    /// Does not report to subscribers that a partition was altered.
    KeepsHaltsBack {
        fn passes_halts_on() -> bool {
            false
        }
    }
}

write_mutations! {
    /// Orders writes by their arrival instead of by the log.
    TimestampsOfArrival {
        fn timestamp(_: i64, by_arrival: i64) -> i64 {
            by_arrival
        }
    }

    /// Waits for the acknowledgement of one replica only.
    OneAcknowledgement {
        fn acknowledgements() -> usize {
            1
        }
    }

    /// Reads rows from one replica only.
    ReadsOneReplica {
        fn replicas_per_read() -> usize {
            1
        }
    }

    /// Finds a row that too few replicas have, and does not repair it.
    ReadsWithoutRepair {
        fn repairs_reads() -> bool {
            false
        }
    }

    /// Folds a batch without the rows before it.
    FoldsFromNothing {
        fn loads_rows() -> bool {
            false
        }
    }

    /// Does not record the version of a deleted row.
    ForgetsDeletions {
        fn records_deletions() -> bool {
            false
        }
    }

    /// Records the version of a deleted row after the row is deleted.
    RecordsDeletionsLast {
        fn records_deletions_last() -> bool {
            true
        }
    }

    /// Does not delete a row that it did not find, although a late write may bring the row back.
    KeepsUnknownRows {
        fn deletes_unknown_rows() -> bool {
            false
        }
    }

    /// Stores the checkpoint before the rows that it covers.
    CheckpointFirst {
        fn moves_checkpoint_first() -> bool {
            true
        }
    }

    /// Moves the checkpoint also if another projector has moved it.
    CheckpointUncompared {
        fn compares_checkpoint() -> bool {
            false
        }
    }
}

/// Whether the first unproved commit was reported above the offset that proves it.
fn is_above(steps: &impl ReportSteps, report: &Report, offset: i64) -> bool {
    steps.is_of_first_unproved(report) && offset > steps.expected_offset()
}
