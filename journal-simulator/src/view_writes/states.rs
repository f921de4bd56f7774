//! The right rows: the row of every counter after each of its versions, by the pure fold.

use super::{
    replica::Cell,
    table::{Counters, Row},
};
use journal::probe::Event;
use projections::{Recorded, Table};
use schemas::Timestamp;
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

/// A counter after one of its versions.
#[derive(Debug, Clone)]
struct State {
    /// The commit's offset; `None` before the first event.
    offset: Option<i64>,
    row: Option<Row>,
}

/// The history of one counter, by version.
#[derive(Debug, Clone)]
struct History {
    partition: i32,
    states: Vec<State>,
}

/// The histories of all counters, by key.
#[derive(Debug, Default)]
pub(super) struct States(Mutex<BTreeMap<String, History>>);

impl States {
    /// The version of a counter, in `partition`: its number of events.
    pub fn version(&self, partition: i32, key: &str) -> i64 {
        let mut histories = self.lock();
        let history = histories.entry(key.to_owned()).or_insert(History {
            partition,
            states: vec![State {
                offset: None,
                row: None,
            }],
        });
        i64::try_from(history.states.len() - 1).expect("a few")
    }

    /// Adds the events of the commit at an offset.
    pub fn add(&self, key: &str, offset: i64, events: &[Event]) {
        let mut histories = self.lock();
        let history = histories.get_mut(key).expect("its version was read");
        for event in events {
            let before = history.states.last().and_then(|state| state.row.clone());
            let version = i64::try_from(history.states.len()).expect("a few");
            let recorded = Recorded {
                key,
                offset,
                version,
                recorded_at: Timestamp::default(),
                event,
            };
            let row = Counters::apply(&key.to_owned(), before, &recorded);
            history.states.push(State {
                offset: Some(offset),
                row: row.expect("every event can be applied"),
            });
        }
    }

    /// The keys of the counters of a partition.
    pub fn keys(&self, partition: i32) -> Vec<String> {
        let histories = self.lock();
        let of_partition = histories.iter();
        of_partition
            .filter(|(_, history)| history.partition == partition)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Checks that a row is the fold of its counter's history up to the row's version.
    ///
    /// # Errors
    /// The difference.
    pub fn check_row(&self, row: &Row) -> Result<(), String> {
        let histories = self.lock();
        let states = &histories[&row.key].states;
        let state = usize::try_from(row.version)
            .ok()
            .and_then(|version| states.get(version));
        let right = state.and_then(|state| state.row.as_ref());
        match right == Some(row) {
            true => Ok(()),
            false => Err(format!(
                "a replica has {row:?}, the history gives {right:?}"
            )),
        }
    }

    /// Checks that a quorum's row has a version that includes all events before an offset.
    ///
    /// # Errors
    /// The difference.
    pub fn check_applied(&self, key: &str, cell: Option<&Cell>, before: i64) -> Result<(), String> {
        let histories = self.lock();
        let states = &histories[key].states;
        let is_due = |state: &State| state.offset.is_none_or(|offset| offset < before);
        let first = states.iter().rposition(is_due).unwrap_or(0);
        let found = cell.and_then(|cell| cell.row.as_ref());
        match states[first..]
            .iter()
            .any(|state| state.row.as_ref() == found)
        {
            true => Ok(()),
            false => Err(format!(
                "the checkpoint is at {before}, and a quorum has {cell:?} of {key} instead of {:?} or a later row",
                states[first]
            )),
        }
    }

    /// Checks that a quorum's row is the last one.
    ///
    /// # Errors
    /// The difference.
    pub fn check_last(&self, key: &str, cell: Option<&Cell>) -> Result<(), String> {
        let histories = self.lock();
        let last = histories[key].states.last();
        let right = last.and_then(|state| state.row.as_ref());
        match cell.and_then(|cell| cell.row.as_ref()) == right {
            true => Ok(()),
            false => Err(format!(
                "in the end a quorum has {cell:?} of {key} instead of {right:?}"
            )),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, History>> {
        self.0.lock().expect("no holder panics")
    }
}
