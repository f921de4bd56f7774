//! A state store keeps states as bytes, so a change of a state's layout or of its fold needs a new
//! `FOLD_VERSION`. These tests fold each context's golden events and compare the bytes with
//! `golden/<context>/fold_v<FOLD_VERSION>.txt`, and the states after each pair of events with
//! `fold_v<FOLD_VERSION>_pairs.txt`. `UPDATE_GOLDEN=1 cargo test -p commands` writes a missing file, but
//! never changes one: raise `FOLD_VERSION` instead.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use commands::contexts::machines;
use journal::owner::Machine;
use schemas::{Body, Commit, ContextEvent};
use std::{collections::BTreeMap, fmt::Write, fs, path::PathBuf};

macro_rules! check_folds {
    ($($context:ident { $($module:ident :: $aggregate:ident),+ $(,)? })+) => {
        $(
            #[test]
            fn $context() {
                check(&machines::$context::Context);
            }
        )+
    };
}

domain::contexts!(check_folds);

/// The golden record of each event, of the newest version of the journal's schema.
fn golden_events<E: ContextEvent>() -> Vec<E> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../schemas/golden")
        .join(E::CONTEXT.topic);
    let versions = (1..).map(|version| folder.join(format!("v{version}")));
    let newest = versions.take_while(|folder| folder.is_dir()).last();
    let newest = newest.unwrap_or_else(|| panic!("{folder:?} has no golden records"));
    let schema = fs::read_to_string(newest.join("schema.avsc")).unwrap();
    let schema: serde_avro_fast::Schema = schema.parse().unwrap();
    let read = |name: &&str| {
        let text = fs::read_to_string(newest.join(format!("{name}.hex"))).unwrap();
        let bytes = hex::decode(text.trim()).unwrap();
        let commit: Commit<E> = serde_avro_fast::from_datum_slice(&bytes, &schema).unwrap();
        let Body::Decision(decision) = commit.body else {
            panic!("{name}.hex is not a decision");
        };
        decision.events
    };
    E::NAMES.iter().flat_map(read).collect()
}

fn check<M: Machine>(machine: &M) {
    let events = golden_events::<M::Event>();
    let mut states = BTreeMap::new();
    let mut text = String::new();
    for event in &events {
        let aggregate_type = event.aggregate_type();
        let state = states.remove(aggregate_type);
        let state = state.unwrap_or_else(|| machine.blank(aggregate_type).unwrap());
        let state = machine.evolve(state, event);
        let bytes = bytes(&state);
        writeln!(text, "{aggregate_type} after {}: {bytes}", event.name()).unwrap();
        states.insert(aggregate_type, state);
    }
    assert_golden::<M>("", &text);
    assert_golden::<M>("_pairs", &pairs(machine, &events));
}

/// The state after each ordered pair of events of an aggregate, and of an event twice: `evolve` may depend on
/// the earlier state.
fn pairs<M: Machine>(machine: &M, events: &[M::Event]) -> String {
    let mut text = String::new();
    for first in events {
        let aggregate_type = first.aggregate_type();
        let of_same = |event: &&M::Event| event.aggregate_type() == aggregate_type;
        for second in events.iter().filter(of_same) {
            let state = machine.blank(aggregate_type).unwrap();
            let state = machine.evolve(machine.evolve(state, first), second);
            let (first, second, bytes) = (first.name(), second.name(), bytes(&state));
            writeln!(text, "{aggregate_type} after {first}, {second}: {bytes}").unwrap();
        }
    }
    text
}

fn bytes(state: &impl serde::Serialize) -> String {
    hex::encode(postcard::to_stdvec(state).unwrap())
}

fn assert_golden<M: Machine>(suffix: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(M::Event::CONTEXT.name)
        .join(format!("fold_v{}{suffix}.txt", M::FOLD_VERSION));
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    assert_eq!(
        golden, text,
        "the fold has changed: raise FOLD_VERSION of the context"
    );
}
