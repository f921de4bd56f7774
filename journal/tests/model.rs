//! The void rule and the owner's proof, checked over every run of a small model (see `partition`):
//! what must hold does, and each way to get it wrong that is listed here is found out.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "tests may panic, and their numbers are small"
)]

mod partition;
mod writer;

use partition::{
    Action, Announcing, Answering, Bounds, Design, Judging, OWNERS, Retrying, State, Worth,
};
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::collections::BTreeSet;

const ANSWERED_IS_VALID: &str = "an answered command is valid exactly once";
const DECIDED_ONCE: &str = "no command is valid twice";
const VERSIONS_JOIN: &str = "versions of valid commits are gapless";
const EPOCHS_JOIN: &str = "epochs of valid announcements are gapless";
const NO_ALARM: &str = "no reader halts";
const NOTHING_IMPOSSIBLE: &str = "no epoch comes before its announcement";
const ZOMBIE_SEEN: &str = "a zombie's commit lands after a take-over";
const ALL_ANSWERED: &str = "both owners answer all their commands";
const DECIDED_AGAIN: &str = "a command is answered that was void at first";

const DESIGN: Design = Design {
    judging: Judging::Rule,
    answering: Answering::Proved,
    announcing: Announcing::AfterReading,
    retrying: Retrying::BehindBarrier,
    bounds: Bounds {
        terms: [2, 1],
        commands: [2, 1],
        duplicates: 1,
        records: 7,
    },
};

/// The same in less time, for variants.
const SMALLER: Design = Design {
    bounds: Bounds {
        records: 6,
        ..DESIGN.bounds
    },
    ..DESIGN
};

/// What nobody may ever see broken, whatever owners announce.
const SAFETY: [&str; 4] = [ANSWERED_IS_VALID, DECIDED_ONCE, VERSIONS_JOIN, NO_ALARM];

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
                let mut decided = state.valid().filter_map(|append| append.decision);
                decided.all(|(command, _)| times_valid(state, command) == 1)
            }),
            Property::always(VERSIONS_JOIN, |_, state: &State| {
                let versions = state.valid().filter_map(|append| append.decision);
                (0..)
                    .zip(versions)
                    .all(|(due, (_, version))| version == due)
            }),
            Property::always(EPOCHS_JOIN, |_, state: &State| {
                let announcements = state.valid().filter(|append| append.decision.is_none());
                (1..)
                    .zip(announcements)
                    .all(|(due, append)| append.draft.epoch == due)
            }),
            Property::always(NO_ALARM, |_, state: &State| !state.has(Worth::Alarm)),
            Property::always(NOTHING_IMPOSSIBLE, |_, state: &State| {
                !state.has(Worth::Impossible)
            }),
            Property::sometimes(ZOMBIE_SEEN, |_, state: &State| {
                let void_commit = state
                    .log
                    .iter()
                    .any(|landed| landed.worth == Worth::Void && landed.append.decision.is_some());
                void_commit && state.owners.iter().all(|owner| !owner.answered.is_empty())
            }),
            Property::sometimes(ALL_ANSWERED, |design: &Design, state: &State| {
                (0..OWNERS).all(|index| {
                    let answered = state.owners[index].answered.len();
                    answered == usize::from(design.bounds.commands[index])
                })
            }),
            Property::sometimes(DECIDED_AGAIN, |_, state: &State| {
                let mut answered = state.owners.iter().flat_map(|owner| &owner.answered);
                answered.any(|command| {
                    let landed = |worth| {
                        state.log.iter().any(|landed| {
                            landed.worth == worth && partition::decides(&landed.append, *command)
                        })
                    };
                    landed(Worth::Valid) && landed(Worth::Void)
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

/// Looks through every run within the bounds.
fn check_all(name: &str, design: Design) -> impl Checker<Design> {
    let checker = design.checker().threads(2).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{name}: {states} states, runs of up to {depth} actions");
    checker
}

/// Looks for a run that breaks the property, and shows it.
#[track_caller]
fn assert_found_out(name: &str, design: Design, property: &'static str) {
    let found = HasDiscoveries::AnyOf(BTreeSet::from([property]));
    let checker = design.checker().finish_when(found).spawn_bfs().join();
    let states = checker.unique_state_count();
    let path = checker
        .discovery(property)
        .unwrap_or_else(|| panic!("{name}: {property:?} holds in {states} states"));
    let actions = path.into_actions();
    println!("{name}: breaks {property:?} after {actions:?}, found in {states} states");
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
    let checker = check_all("three commits against two", design);
    for property in SAFETY {
        checker.assert_no_discovery(property);
    }
}

/// The rule does not lean on owners that read before they announce themselves again.
#[test]
fn the_rule_holds_against_blind_announcements() {
    let design = Design {
        announcing: Announcing::Blindly,
        ..SMALLER
    };
    let checker = check_all("blind announcements", design);
    for property in SAFETY {
        checker.assert_no_discovery(property);
    }
}

/// Why an epoch has to be the next and not just a later one: not for the answers, which hold either
/// way, but so that no epoch is ever missing, by which readers know that nothing was taken out.
#[test]
fn any_later_epoch_would_do_for_answers_and_not_for_audits() {
    let design = Design {
        judging: Judging::AnyLaterEpoch,
        ..SMALLER
    };
    let checker = check_all("any later epoch", design);
    for property in SAFETY {
        checker.assert_no_discovery(property);
    }
    let design = Design {
        announcing: Announcing::Blindly,
        ..design
    };
    assert_found_out("any later epoch, blindly", design, EPOCHS_JOIN);
}

#[test]
fn answering_on_bare_delivery_is_found_out() {
    let design = Design {
        answering: Answering::Delivered,
        ..DESIGN
    };
    assert_found_out("bare delivery", design, ANSWERED_IS_VALID);
}

#[test]
fn answering_what_is_only_adjacent_is_found_out() {
    let design = Design {
        answering: Answering::Adjacent,
        ..DESIGN
    };
    assert_found_out("adjacent, not proved", design, ANSWERED_IS_VALID);
}

#[test]
fn an_epoch_given_twice_is_found_out() {
    let design = Design {
        judging: Judging::SameEpochAgain,
        ..DESIGN
    };
    assert_found_out("same epoch again", design, EPOCHS_JOIN);
    assert_found_out("same epoch again", design, NO_ALARM);
}

#[test]
fn a_gap_in_seq_is_found_out() {
    let design = Design {
        judging: Judging::GapsInSeq,
        ..DESIGN
    };
    assert_found_out("gaps in seq", design, VERSIONS_JOIN);
}

#[test]
fn a_retry_without_barrier_is_found_out() {
    let design = Design {
        retrying: Retrying::InTerm,
        ..DESIGN
    };
    assert_found_out("retry in the term", design, DECIDED_ONCE);
}
