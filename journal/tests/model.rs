//! The void rule and the owner's proof, checked over every run of a small model (see `partition`):
//! the properties hold, and each wrong design that is listed here is caught.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "tests may panic, and their numbers are small"
)]

mod partition;
mod writer;

use partition::{
    Action, State, VerdictKind,
    design::{
        Announcing, Answering, Bounds, Design, Judging, Naming, OWNERS, ReadOnlyAnswering, Reading,
        Retrying, Serving, Speculating,
    },
};
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::{collections::BTreeSet, io::Write};

const ANSWERED_IS_VALID: &str = "an answered command is valid exactly once";
const DECIDED_ONCE: &str = "no command is valid twice";
const VERSIONS_JOIN: &str = "versions of valid commits are gapless";
const EPOCHS_JOIN: &str = "epochs of valid announcements are gapless";
const NO_ALARM: &str = "no reader halts";
const READ_THE_LOG: &str =
    "a read-only answer depends on a prefix of the log with all commands answered before";
const ALTERED_HALTS: &str = "a reader of an altered log halts, or reads the same";
const ZOMBIE_SEEN: &str = "a zombie's commit lands after a take-over";
const ALL_ANSWERED: &str = "both owners answer all their commands";
const DECIDED_AGAIN: &str = "a command is answered that was void at first";

const DESIGN: Design = Design {
    judging: Judging::Rule,
    answering: Answering::Proved,
    announcing: Announcing::AfterReading,
    serving: Serving::AfterReading,
    reading: Reading::Everything,
    retrying: Retrying::AfterBarrier,
    speculating: Speculating::Dropped,
    read_only: ReadOnlyAnswering::AfterProof,
    naming: Naming::Fresh,
    bounds: Bounds {
        terms: [2, 1],
        commands: [2, 1],
        duplicates: 1,
        read_only_commands: 0,
        alteration: false,
        records: 7,
    },
};

/// [`DESIGN`] with a smaller bound, so that variants are checked in less time.
const SMALLER: Design = Design {
    bounds: Bounds {
        records: 6,
        ..DESIGN.bounds
    },
    ..DESIGN
};

/// A run with a read-only command.
const READ_ONLY: Design = Design {
    bounds: Bounds {
        commands: [1, 1],
        duplicates: 0,
        read_only_commands: 1,
        ..DESIGN.bounds
    },
    ..DESIGN
};

/// The run ends with an altered log, which may lack records that owners have read.
const ALTERED: Design = Design {
    bounds: Bounds {
        commands: [1, 1],
        alteration: true,
        ..SMALLER.bounds
    },
    ..DESIGN
};

/// The safety properties.
const SAFETY: [&str; 7] = [
    ANSWERED_IS_VALID,
    DECIDED_ONCE,
    VERSIONS_JOIN,
    EPOCHS_JOIN,
    NO_ALARM,
    READ_THE_LOG,
    ALTERED_HALTS,
];

impl Model for Design {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::start(self.bounds)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        state.actions(*self, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.act(*self, action);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ANSWERED_IS_VALID, |_, state: &State| {
                let mut answered = state.owners.iter().flat_map(|owner| &owner.answered);
                answered.all(|command| times_valid(state, *command) == 1)
            }),
            Property::always(DECIDED_ONCE, |_, state: &State| {
                let mut decided = state.decided().into_iter();
                decided.all(|command| times_valid(state, command) == 1)
            }),
            Property::always(VERSIONS_JOIN, |_, state: &State| {
                let versions = state.valid().filter_map(|append| append.decision);
                (0..)
                    .zip(versions)
                    .all(|(due, (_, version))| version == due)
            }),
            Property::always(EPOCHS_JOIN, |_, state: &State| {
                let announcements = state.valid().filter(|append| append.is_announcement());
                (1..)
                    .zip(announcements)
                    .all(|(due, append)| append.draft.epoch == due)
            }),
            Property::always(NO_ALARM, |_, state: &State| !state.has(VerdictKind::Alarm)),
            Property::always(READ_THE_LOG, |_, state: &State| {
                let commands = state.owners.iter().filter_map(|o| o.read_only.as_ref());
                let decided = state.decided();
                commands
                    .filter(|read_only| read_only.is_answered)
                    .all(|read_only| {
                        let mut due = read_only.due.iter();
                        decided.starts_with(&read_only.seen)
                            && due.all(|command| read_only.seen.contains(command))
                    })
            }),
            Property::always(ALTERED_HALTS, |_, state: &State| {
                state.altered.is_none_or(|is_noticed| is_noticed)
            }),
            Property::sometimes(ZOMBIE_SEEN, |_, state: &State| {
                let void_commit = state.log.iter().any(|landed| {
                    landed.verdict == VerdictKind::Void && landed.append.decision.is_some()
                });
                void_commit && state.owners.iter().all(|owner| !owner.answered.is_empty())
            }),
            Property::sometimes(ALL_ANSWERED, |design: &Design, state: &State| {
                let is_unanswered = |o: &partition::Owner| {
                    o.read_only
                        .as_ref()
                        .is_some_and(|read_only| !read_only.is_answered)
                };
                !state.owners.iter().any(is_unanswered)
                    && (0..OWNERS).all(|index| {
                        let answered = state.owners[index].answered.len();
                        answered == usize::from(design.bounds.commands[index])
                    })
            }),
            Property::sometimes(DECIDED_AGAIN, |_, state: &State| {
                let mut answered = state.owners.iter().flat_map(|owner| &owner.answered);
                answered.any(|command| {
                    let landed = |verdict| {
                        state.log.iter().any(|landed| {
                            landed.verdict == verdict
                                && partition::decides(&landed.append, *command)
                        })
                    };
                    landed(VerdictKind::Valid) && landed(VerdictKind::Void)
                })
            }),
        ]
    }
}

fn times_valid(state: &State, command: u8) -> usize {
    state
        .valid()
        .filter(|append| partition::decides(append, command))
        .count()
}

/// Checks every run within the bounds.
fn check_all(name: &str, design: Design) -> impl Checker<Design> {
    let checker = design.checker().threads(2).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    print(&format!(
        "{name}: {states} states, runs of up to {depth} actions"
    ));
    checker
}

/// Checks the safety properties in every run.
#[track_caller]
fn assert_safe(name: &str, design: Design) {
    assert_safe_but(name, design, &[]);
}

/// Checks every run: the properties in `violated` fail, and the other safety properties hold.
#[track_caller]
fn assert_safe_but(name: &str, design: Design, violated: &[&str]) {
    let checker = check_all(name, design);
    for property in SAFETY {
        match violated.contains(&property) {
            true => assert!(checker.discovery(property).is_some(), "{property:?} holds"),
            false => checker.assert_no_discovery(property),
        }
    }
}

/// Finds a run that violates the property, and prints it.
#[track_caller]
fn assert_caught(name: &str, design: Design, property: &'static str) {
    let found = HasDiscoveries::AnyOf(BTreeSet::from([property]));
    let checker = design.checker().finish_when(found).spawn_bfs().join();
    let states = checker.unique_state_count();
    let path = checker
        .discovery(property)
        .unwrap_or_else(|| panic!("{name}: {property:?} holds in {states} states"));
    let actions = path.into_actions();
    print(&format!(
        "{name}: breaks {property:?} after {actions:?}, found in {states} states"
    ));
}

/// Prints a line even if the test passes: the test harness captures only `println!`.
fn print(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn the_design_holds() {
    check_all("two terms against one", DESIGN).assert_properties();
}

#[test]
fn the_design_holds_with_longer_terms() {
    let bounds = Bounds {
        terms: [1, 1],
        commands: [3, 2],
        ..DESIGN.bounds
    };
    let design = Design { bounds, ..DESIGN };
    assert_safe("three commits against two", design);
}

#[test]
fn the_design_holds_with_more_terms() {
    let bounds = Bounds {
        terms: [2, 2],
        commands: [1, 1],
        ..DESIGN.bounds
    };
    let design = Design { bounds, ..DESIGN };
    assert_safe("two terms against two", design);
}

#[test]
fn answers_without_a_commit_match_the_log() {
    check_all("a read-only command", READ_ONLY).assert_properties();
}

#[test]
fn an_altered_log_halts_its_readers() {
    assert_safe("an altered log", ALTERED);
}

/// Announcing without having read halts readers, so it is not a way to take over; it makes no false
/// record valid.
#[test]
fn blind_announcements_are_caught_and_break_no_other_property() {
    let design = Design {
        announcing: Announcing::Blindly,
        ..SMALLER
    };
    assert_safe_but("blind announcements", design, &[NO_ALARM]);
}

#[test]
fn serving_before_the_announcement_is_read_is_caught() {
    let design = Design {
        serving: Serving::AtOnce,
        ..DESIGN
    };
    assert_caught("serving at once", design, NO_ALARM);
}

/// An epoch has to be the next one and not just a later one. The answers hold either way, but readers
/// notice a removed term only if no epoch may be missing.
#[test]
fn any_later_epoch_is_safe_for_answers_and_not_for_readers() {
    let design = Design {
        judging: Judging::AnyLaterEpoch,
        ..SMALLER
    };
    assert_safe("any later epoch", design);
    let blind = Design {
        announcing: Announcing::Blindly,
        ..design
    };
    assert_caught("any later epoch, blindly", blind, EPOCHS_JOIN);
    let altered = Design {
        judging: Judging::AnyLaterEpoch,
        ..ALTERED
    };
    assert_safe("any later epoch, altered", altered);
}

/// At a barrier an owner need not read other owners' records, because its own epoch + 1 leaves no room for
/// them. If it announces above another owner's epoch, it must read all records.
#[test]
fn a_barrier_above_a_foreign_announcement_is_caught() {
    let own_epoch = Design {
        reading: Reading::OwnTerm,
        ..SMALLER
    };
    assert_safe("barrier at the own epoch + 1", own_epoch);
    let above = Design {
        announcing: Announcing::AboveForeign,
        ..own_epoch
    };
    assert_caught("barrier above a foreign epoch", above, VERSIONS_JOIN);
    let read = Design {
        reading: Reading::Everything,
        ..above
    };
    assert_safe("barrier above a foreign epoch, all records read", read);
}

#[test]
fn answering_on_bare_delivery_is_caught() {
    let design = Design {
        answering: Answering::Delivered,
        ..DESIGN
    };
    assert_caught("bare delivery", design, ANSWERED_IS_VALID);
}

#[test]
fn answering_on_unproved_contiguity_is_caught() {
    let design = Design {
        answering: Answering::Adjacent,
        ..DESIGN
    };
    assert_caught("adjacent, not proved", design, ANSWERED_IS_VALID);
}

#[test]
fn answering_on_a_duplicate_report_is_caught() {
    let design = Design {
        answering: Answering::KnownToBroker,
        ..DESIGN
    };
    assert_caught("a duplicate's offset", design, ANSWERED_IS_VALID);
}

#[test]
fn an_epoch_given_twice_is_caught() {
    let design = Design {
        judging: Judging::SameEpochAgain,
        ..DESIGN
    };
    assert_caught("same epoch again", design, EPOCHS_JOIN);
    assert_caught("same epoch again", design, NO_ALARM);
}

#[test]
fn a_gap_in_seq_is_caught() {
    let design = Design {
        judging: Judging::GapsInSeq,
        ..DESIGN
    };
    assert_caught("gaps in seq", design, VERSIONS_JOIN);
}

#[test]
fn an_unchecked_prev_is_caught() {
    let design = Design {
        judging: Judging::AnyPrev,
        ..ALTERED
    };
    assert_caught("prev not checked", design, ALTERED_HALTS);
}

#[test]
fn silence_about_missing_announcements_is_caught() {
    let design = Design {
        judging: Judging::SilentGaps,
        ..ALTERED
    };
    assert_caught("void instead of an alarm", design, ALTERED_HALTS);
}

#[test]
fn a_retry_without_barrier_is_caught() {
    let design = Design {
        retrying: Retrying::InTerm,
        ..DESIGN
    };
    assert_caught("retry in the term", design, DECIDED_ONCE);
}

#[test]
fn an_overlay_kept_over_a_barrier_is_caught() {
    let design = Design {
        speculating: Speculating::Kept,
        ..DESIGN
    };
    assert_caught("overlay kept", design, VERSIONS_JOIN);
}

#[test]
fn an_answer_on_the_overlay_is_caught() {
    let design = Design {
        read_only: ReadOnlyAnswering::OnOverlay,
        ..READ_ONLY
    };
    assert_caught("refusal on the overlay", design, READ_THE_LOG);
}

/// A zombie's state is proved too, but misses all later commits.
#[test]
fn an_answer_without_a_later_proof_is_caught() {
    let design = Design {
        read_only: ReadOnlyAnswering::OnProved,
        ..READ_ONLY
    };
    assert_caught("refusal on old proofs", design, READ_THE_LOG);
}

#[test]
fn two_owners_under_one_term_are_caught() {
    let design = Design {
        naming: Naming::ByEpoch,
        ..DESIGN
    };
    assert_caught("one term for two", design, NO_ALARM);
}
