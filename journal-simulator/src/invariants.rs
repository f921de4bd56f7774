//! The invariant of state stores: at the end of a run, each store is the fold of a prefix of the log.

use crate::{
    checker::answer_of,
    reference_model::{Decided, ReferenceModel},
    store::SimStore,
};
use journal::{
    checkpoint::Checkpoint,
    store::{EntryKey, STAMP_KEY, Table},
};
use schemas::{Origin, Outcome, Timestamp};
use std::collections::BTreeMap;

/// How long answers are kept, in microseconds of log time.
const KEYED_US: i64 = 24 * 60 * 60 * 1_000_000;
const SERVER_US: i64 = 10 * 60 * 1_000_000;

/// An answer in the store: hash, time, origin, offset, version, events, outcome.
type Stored = (
    [u8; 16],
    Timestamp,
    Origin,
    i64,
    i64,
    usize,
    Option<Outcome>,
);

/// Compares a store with the log. Returns the end of the prefix of the log from which the store was folded.
///
/// # Errors
/// The difference.
pub(super) fn check_store_contents(
    store: &SimStore,
    model: &ReferenceModel,
) -> Result<Option<i64>, String> {
    let entries = store.entries();
    let Some(stamp) = entries.get(&(Table::Meta, STAMP_KEY.to_vec())) else {
        return match entries.is_empty() {
            true => Ok(None),
            false => Err("it has entries and no stamp".into()),
        };
    };
    let stamp: serde_json::Value =
        serde_json::from_slice(stamp).map_err(|error| format!("its stamp is torn: {error}"))?;
    let checkpoint: Checkpoint = serde_json::from_value(stamp["checkpoint"].clone())
        .map_err(|error| format!("its checkpoint is torn: {error}"))?;
    let end = checkpoint.next_offset;
    let index = usize::try_from(end).unwrap_or(usize::MAX);
    if model.states.get(index) != Some(&checkpoint) {
        return Err(format!("its checkpoint at {end} is not the log's"));
    }
    check_aggregates(&entries, model, end)?;
    check_answers(&entries, model, &checkpoint)?;
    Ok(Some(end))
}

fn check_aggregates(
    entries: &BTreeMap<EntryKey, Vec<u8>>,
    model: &ReferenceModel,
    end: i64,
) -> Result<(), String> {
    let mut found = BTreeMap::new();
    for ((_, key), value) in of(entries, Table::Aggregates) {
        let aggregate: (i64, Option<i64>) = postcard::from_bytes(value)
            .map_err(|error| format!("an aggregate can't be read: {error}"))?;
        found.insert(String::from_utf8_lossy(key).into_owned(), aggregate);
    }
    let mut right = BTreeMap::new();
    for (key, steps) in &model.steps {
        if let Some(last) = steps.iter().rfind(|step| step.offset < end) {
            right.insert(key.clone(), (last.version, last.value));
        }
    }
    match found == right {
        true => Ok(()),
        false => Err(format!(
            "at {end} it has {found:?}, the log gives {right:?}"
        )),
    }
}

fn check_answers(
    entries: &BTreeMap<EntryKey, Vec<u8>>,
    model: &ReferenceModel,
    checkpoint: &Checkpoint,
) -> Result<(), String> {
    let end = checkpoint.next_offset;
    let decisions = model.decisions.iter().filter(|one| one.offset < end);
    // The later decision counts for an id that was used again after it expired.
    let right: BTreeMap<[u8; 16], &Decided> = decisions
        .map(|one| (one.decision.command_id, one))
        .collect();
    let mut found = BTreeMap::new();
    for ((_, id), value) in of(entries, Table::Answers) {
        let stored: Stored = postcard::from_bytes(value)
            .map_err(|error| format!("an answer can't be read: {error}"))?;
        found.insert(id.clone(), stored);
    }
    for (id, one) in &right {
        let decision = &one.decision;
        let answer = answer_of(one);
        let stored = (
            decision.command_hash,
            Timestamp(one.recorded_at),
            decision.origin,
            answer.offset,
            answer.version,
            answer.events,
            answer.outcome,
        );
        let kept_us = match decision.origin {
            Origin::Keyed => KEYED_US,
            Origin::Server => SERVER_US,
            Origin::Policy | Origin::Timer | Origin::Unknown => i64::MAX,
        };
        let is_expired = checkpoint.log_time.0 - one.recorded_at > kept_us;
        match found.remove(id.as_slice()) {
            Some(found) if found == stored => {}
            None if is_expired => {}
            other => {
                let offset = one.offset;
                return Err(format!(
                    "at {end} it has {other:?} for the decision at {offset}"
                ));
            }
        }
    }
    match found.len() {
        0 => Ok(()),
        count => Err(format!(
            "at {end} it has {count} answers that no decision gave"
        )),
    }
}

fn of(
    entries: &BTreeMap<EntryKey, Vec<u8>>,
    table: Table,
) -> impl Iterator<Item = (&EntryKey, &Vec<u8>)> {
    entries.iter().filter(move |((of, _), _)| *of == table)
}
