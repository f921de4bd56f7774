//! Folds a batch's events into at most one change per row.

use crate::{
    recorded::{FoldError, Recorded},
    view::{RowFeed, Table},
};
use std::collections::{BTreeMap, btree_map::Entry};

/// A table's events of one batch, by the row that they change.
pub struct Plan<'e, T: Table> {
    events: BTreeMap<T::Key, Vec<&'e Recorded<'e, T::Event>>>,
}

/// The stored row of a key before a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<Row> {
    /// The row.
    pub row: Option<Row>,
    /// The event that deleted the row, if the store records deletions.
    pub deleted_at: Option<DeletedAt>,
}

/// The event that deleted a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletedAt {
    /// The aggregate's version after the event.
    pub version: i64,
    /// Its offset in the journal.
    pub offset: i64,
}

/// The change of one row of a table.
pub type ChangeOf<T> = Change<<T as Table>::Key, <T as Table>::Row>;

/// A row before and after a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<Key, Row> {
    /// The row's key.
    pub key: Key,
    /// The row as it was loaded.
    pub before: Option<Row>,
    /// The row after the batch; `None` if it was deleted or never existed.
    pub after: Option<Row>,
    /// Offset of the last event that was applied.
    pub offset: i64,
    /// The aggregate's version after that event.
    pub version: i64,
}

impl<Row> Default for Stored<Row> {
    /// Neither a row nor a deletion.
    fn default() -> Self {
        Self {
            row: None,
            deleted_at: None,
        }
    }
}

impl<'e, T: Table> Plan<'e, T> {
    /// Groups events by the rows that they change.
    ///
    /// # Errors
    /// [`FoldError`] of the table's `keys`.
    pub fn new(events: &'e [Recorded<'e, T::Event>]) -> Result<Self, FoldError> {
        let mut by_key: BTreeMap<T::Key, Vec<&Recorded<'_, T::Event>>> = BTreeMap::new();
        for event in events {
            for key in T::keys(event)? {
                match by_key.entry(key) {
                    Entry::Vacant(entry) => {
                        entry.insert(vec![event]);
                    }
                    // An event changes a row once, even if `keys` returns the row's key twice.
                    Entry::Occupied(entry) if is_last(entry.get(), event) => {}
                    Entry::Occupied(mut entry) => entry.get_mut().push(event),
                }
            }
        }
        Ok(Self { events: by_key })
    }

    /// The keys whose stored rows [`Plan::fold`] needs. A row that one aggregate feeds has no earlier state if the
    /// batch begins with the aggregate's first event, so its fold does not depend on the stored row.
    pub fn keys_to_load(&self) -> Vec<T::Key> {
        let needs_row = |events: &[&Recorded<'_, T::Event>]| match T::FEED {
            RowFeed::Versioned(_) | RowFeed::OneAggregate => {
                events.first().is_some_and(|first| first.version > 1)
            }
            RowFeed::SeveralAggregates => true,
        };
        let keys = self.events.iter();
        keys.filter(|(_, events)| needs_row(events))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Applies the events to the stored rows. Returns a change for every row that an event was applied to, in
    /// the order of the keys.
    ///
    /// # Errors
    /// [`FoldError`] of the table's `apply`, or for a gap between versions.
    pub fn fold(
        self,
        mut stored: BTreeMap<T::Key, Stored<T::Row>>,
    ) -> Result<Vec<ChangeOf<T>>, FoldError> {
        let mut changes = Vec::with_capacity(self.events.len());
        for (key, events) in self.events {
            let stored = stored.remove(&key).unwrap_or_default();
            changes.extend(fold_row::<T>(key, stored, &events)?);
        }
        Ok(changes)
    }
}

fn is_last<E>(events: &[&Recorded<'_, E>], event: &Recorded<'_, E>) -> bool {
    events.last().is_some_and(|last| std::ptr::eq(*last, event))
}

/// Folds the events of one row. Returns `None` if every event was skipped and the row exists.
fn fold_row<T: Table>(
    key: T::Key,
    stored: Stored<T::Row>,
    events: &[&Recorded<'_, T::Event>],
) -> Result<Option<ChangeOf<T>>, FoldError> {
    let mut row = stored.row.clone();
    let mut version = match (T::FEED, &row) {
        (RowFeed::Versioned(version_of), Some(row)) => Some(version_of(row)),
        (RowFeed::Versioned(_), None) => stored.deleted_at.map(|deleted| deleted.version),
        (RowFeed::OneAggregate | RowFeed::SeveralAggregates, _) => None,
    };
    let mut last_applied = None;
    for event in events {
        if let Some(stored) = version
            && !follows(event, stored)?
        {
            continue;
        }
        row = T::apply(&key, row, event)?;
        if let RowFeed::Versioned(version_of) = T::FEED {
            check_version(event, row.as_ref().map(version_of))?;
            version = Some(event.version);
        }
        last_applied = Some((event.offset, event.version));
    }
    // The projector that stored this deletion may have ended before it deleted the row itself. Then a late write
    // would bring the row back, after a checkpoint that covers the deletion. So the row is deleted once more.
    if let (None, None, Some(deleted)) = (&last_applied, &row, stored.deleted_at) {
        last_applied = Some((deleted.offset, deleted.version));
    }
    Ok(last_applied.map(|(offset, version)| Change {
        key,
        before: stored.row,
        after: row,
        offset,
        version,
    }))
}

/// Whether an event is the next one after a stored version; `false` if it was applied before.
fn follows<E>(event: &Recorded<'_, E>, stored: i64) -> Result<bool, FoldError> {
    if event.version > stored + 1 {
        return Err(FoldError::Gap {
            key: event.key.to_owned(),
            offset: event.offset,
            version: event.version,
            stored,
        });
    }
    Ok(event.version > stored)
}

fn check_version<E>(event: &Recorded<'_, E>, found: Option<i64>) -> Result<(), FoldError> {
    match found {
        Some(found) if found != event.version => Err(FoldError::WrongVersion {
            key: event.key.to_owned(),
            offset: event.offset,
            version: event.version,
            found,
        }),
        Some(_) | None => Ok(()),
    }
}
