//! A model of the store: of the writes of a row, the one with the greatest timestamp wins.

use super::log::Row;
use crate::{
    cql::writes::{Deletion, Write, offset_of},
    fold::DeletedAt,
};
use std::collections::BTreeMap;

/// A request for the store.
#[derive(Debug, Clone)]
pub enum Request {
    Row(Write<String, Row>),
    Deletion(Deletion<String>),
    Checkpoint { commits: usize, timestamp: i64 },
}

/// The store. The last write wins; at equal timestamps, a row's deletion wins.
#[derive(Debug, Default)]
pub struct Model {
    pub rows: BTreeMap<String, (i64, Row)>,
    pub tombstones: BTreeMap<String, i64>,
    pub deletions: BTreeMap<String, (i64, i64)>,
    /// Timestamp and number of commits of every checkpoint that was ever stored.
    pub checkpoints: Vec<(i64, usize)>,
}

impl Model {
    pub fn take(&mut self, request: &Request) {
        match request {
            Request::Row(Write::Upsert { row, timestamp }) => {
                put(&mut self.rows, &row.key, (*timestamp, row.clone()));
            }
            Request::Row(Write::Delete { key, timestamp }) => {
                let tombstone = self.tombstones.entry(key.clone()).or_insert(i64::MIN);
                *tombstone = (*tombstone).max(*timestamp);
            }
            Request::Deletion(deletion) => {
                let deleted = (deletion.timestamp, deletion.version);
                put(&mut self.deletions, &deletion.key, deleted);
            }
            Request::Checkpoint { commits, timestamp } => {
                let stored = self.checkpoints.last();
                if stored.is_none_or(|(stored, _)| timestamp > stored) {
                    self.checkpoints.push((*timestamp, *commits));
                }
            }
        }
    }

    pub fn row(&self, key: &str) -> Option<Row> {
        let (timestamp, row) = self.rows.get(key)?;
        let tombstone = self.tombstones.get(key);
        let is_deleted = tombstone.is_some_and(|tombstone| tombstone >= timestamp);
        (!is_deleted).then(|| row.clone())
    }

    pub fn all_rows(&self) -> Vec<Row> {
        self.rows.keys().filter_map(|key| self.row(key)).collect()
    }

    pub fn deleted_at(&self, key: &str) -> Option<DeletedAt> {
        let (timestamp, version) = *self.deletions.get(key)?;
        let offset = offset_of(timestamp);
        Some(DeletedAt { version, offset })
    }

    /// Commits that the newest checkpoint covers.
    pub fn checkpoint(&self) -> usize {
        self.checkpoints.last().map_or(0, |(_, commits)| *commits)
    }
}

/// Asserts that no two values have the same timestamp: the store would mix them column by column.
fn put<Value: PartialEq + std::fmt::Debug>(
    table: &mut BTreeMap<String, (i64, Value)>,
    key: &str,
    (timestamp, value): (i64, Value),
) {
    if let Some((stored_timestamp, stored)) = table.get(key) {
        if *stored_timestamp == timestamp {
            assert_eq!(
                *stored, value,
                "{key} has two values with timestamp {timestamp}"
            );
        }
        if *stored_timestamp >= timestamp {
            return;
        }
    }
    table.insert(key.to_owned(), (timestamp, value));
}
