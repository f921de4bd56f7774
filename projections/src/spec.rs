//! Given/when/then for any table of a view: `given([..]).when(event).then([..])`.
//!
//! An event is given with its record's key; versions and offsets are counted automatically. The events are applied
//! one per batch and all in one batch, and both must give the same rows.

use crate::{
    fold::{Plan, Stored},
    recorded::{FoldError, Recorded},
    view::{Table, ViewEvent},
};
use schemas::Timestamp;
use std::{collections::BTreeMap, fmt::Debug};

/// An event with its record's key.
pub type Keyed<Event> = (&'static str, Event);

pub struct Given<T: Table>(Vec<Keyed<T::Event>>);

pub struct When<T: Table>(Result<Rows<T>, FoldError>);

type Rows<T> = BTreeMap<<T as Table>::Key, <T as Table>::Row>;

pub fn given<T: Table>(history: impl IntoIterator<Item = Keyed<T::Event>>) -> Given<T> {
    Given(history.into_iter().collect())
}

impl<T: Table<Key: Debug, Row: Debug>> Given<T> {
    #[track_caller]
    pub fn when(mut self, event: Keyed<T::Event>) -> When<T> {
        self.0.push(event);
        let events = recorded(&self.0);
        let one_by_one = events
            .iter()
            .try_fold(Rows::<T>::new(), |rows, event| apply::<T>(rows, &[*event]));
        let at_once = apply::<T>(Rows::<T>::new(), &events);
        assert_eq!(one_by_one, at_once, "the rows depend on the batches");
        When(at_once)
    }
}

impl<T: Table<Key: Debug, Row: Debug>> When<T> {
    /// The table has these rows, in the order of their keys, and no others.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = T::Row>) {
        let rows = self.0.expect("the events were refused");
        let rows: Vec<_> = rows.into_values().collect();
        assert_eq!(rows, Vec::from_iter(expected));
    }

    #[track_caller]
    pub fn then_refused(self, expected: FoldError) {
        assert_eq!(self.0, Err(expected));
    }
}

/// Log time of the commit at an offset.
pub fn recorded_at(offset: i64) -> Timestamp {
    Timestamp(offset * 1_000_000)
}

/// Offsets count from 10, versions from 1 within each key.
fn recorded<E: ViewEvent>(events: &[Keyed<E>]) -> Vec<Recorded<'_, E>> {
    let mut versions = BTreeMap::new();
    let mut recorded = Vec::new();
    for (offset, (key, event)) in (10..).zip(events) {
        let version = versions.entry(*key).or_insert(0);
        *version += 1;
        recorded.push(Recorded {
            key,
            offset,
            version: *version,
            recorded_at: recorded_at(offset),
            event,
        });
    }
    recorded
}

fn apply<T: Table>(
    mut rows: Rows<T>,
    batch: &[Recorded<'_, T::Event>],
) -> Result<Rows<T>, FoldError> {
    let plan = Plan::<T>::new(batch)?;
    let load = |key: T::Key| {
        let row = rows.get(&key).cloned();
        let stored = Stored {
            row,
            deleted_at: None,
        };
        (key, stored)
    };
    let stored = plan.keys_to_load().into_iter().map(load).collect();
    for change in plan.fold(stored)? {
        match change.after {
            Some(row) => {
                assert_eq!(
                    T::key(&row),
                    change.key,
                    "a row is stored under another key than its own"
                );
                rows.insert(change.key, row)
            }
            None => rows.remove(&change.key),
        };
    }
    Ok(rows)
}
