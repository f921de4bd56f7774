//! A replica of the CQL store: of two writes of a row, the one with the greater timestamp wins, in any order.

use super::table::Row;
use std::collections::BTreeMap;

/// A row of the view's table, or its deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub key: String,
    /// `None`: the row is deleted.
    pub row: Option<Row>,
    pub timestamp: i64,
}

/// A row of the table of deleted rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeletionCell {
    pub key: String,
    pub version: i64,
    pub timestamp: i64,
}

/// A value that replicas store under a key.
pub(super) trait Versioned: Clone + PartialEq + std::fmt::Debug + Send + 'static {
    fn key(&self) -> &str;
    fn timestamp(&self) -> i64;
    fn of(replica: &Replica) -> &BTreeMap<String, Self>;
    fn of_mut(replica: &mut Replica) -> &mut BTreeMap<String, Self>;
}

/// The stored values of one replica.
#[derive(Debug, Default)]
pub(super) struct Replica {
    rows: BTreeMap<String, Cell>,
    deletions: BTreeMap<String, DeletionCell>,
}

/// The effect of a write on a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It replaced an older value.
    Stored,
    /// The replica has this value already.
    Repeated,
    /// The replica has a newer value.
    Outdated,
}

impl Replica {
    /// Takes a write.
    ///
    /// # Errors
    /// Another value has the same timestamp, so the store would mix both column by column.
    pub fn take<V: Versioned>(&mut self, value: &V) -> Result<Taken, String> {
        let values = V::of_mut(self);
        match values.get(value.key()) {
            Some(stored) if stored == value => return Ok(Taken::Repeated),
            Some(stored) if stored.timestamp() == value.timestamp() => {
                return Err(format!("{value:?} and {stored:?} have the same timestamp"));
            }
            Some(stored) if stored.timestamp() > value.timestamp() => return Ok(Taken::Outdated),
            Some(_) | None => {}
        }
        values.insert(value.key().to_owned(), value.clone());
        Ok(Taken::Stored)
    }

    /// The stored value.
    pub fn value<V: Versioned>(&self, key: &str) -> Option<V> {
        V::of(self).get(key).cloned()
    }
}

impl Versioned for Cell {
    fn key(&self) -> &str {
        &self.key
    }

    fn timestamp(&self) -> i64 {
        self.timestamp
    }

    fn of(replica: &Replica) -> &BTreeMap<String, Self> {
        &replica.rows
    }

    fn of_mut(replica: &mut Replica) -> &mut BTreeMap<String, Self> {
        &mut replica.rows
    }
}

impl Versioned for DeletionCell {
    fn key(&self) -> &str {
        &self.key
    }

    fn timestamp(&self) -> i64 {
        self.timestamp
    }

    fn of(replica: &Replica) -> &BTreeMap<String, Self> {
        &replica.deletions
    }

    fn of_mut(replica: &mut Replica) -> &mut BTreeMap<String, Self> {
        &mut replica.deletions
    }
}

/// The value with the greatest timestamp.
pub(super) fn newest<V: Versioned>(values: impl IntoIterator<Item = Option<V>>) -> Option<V> {
    values.into_iter().flatten().max_by_key(V::timestamp)
}
