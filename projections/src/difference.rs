//! The rows that differ between two builds of a view, each explained by its events in the log.

use crate::{recorded::Recorded, view::Table};
use serde::Serialize;
use std::collections::BTreeMap;

/// Maximum number of events that are shown for a row.
const EVENTS_SHOWN_MAX: usize = 20;

/// The result of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Number of rows of the first build.
    pub rows: u64,
    /// Number of rows that differ or that only one build has, including those beyond the limit.
    pub different: u64,
    /// The first differences, up to the limit.
    pub differences: Vec<Difference>,
}

/// A row that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The table.
    pub table: &'static str,
    /// The row's key.
    pub key: String,
    /// The row of the first build.
    pub left: Option<String>,
    /// The row of the other build.
    pub right: Option<String>,
    /// The row that a fold of the whole log gives, or the reason why the fold failed.
    pub folded: Result<Option<String>, String>,
    /// The row's first events, at most 20.
    pub events: Vec<EventOfRow>,
}

/// An event that changes a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventOfRow {
    /// `<topic>/<partition>@<offset>`.
    pub position: String,
    /// The record's key.
    pub key: String,
    /// The aggregate's version after the event.
    pub version: i64,
    /// The event, as JSON.
    pub event: String,
}

impl EventOfRow {
    /// An event of a partition.
    pub(crate) fn new<E: Serialize>(topic: &str, partition: i32, event: &Recorded<'_, E>) -> Self {
        Self {
            position: format!("{topic}/{partition}@{}", event.offset),
            key: event.key.to_owned(),
            version: event.version,
            event: serde_json::to_string(event.event).unwrap_or_default(),
        }
    }
}

/// The rows of one table that differ, to be explained.
pub trait Explain<Event>: Send {
    /// Adds an event of the log. The events of a partition must be added in their order.
    fn add(&mut self, topic: &str, partition: i32, event: &Recorded<'_, Event>);

    /// The explained differences.
    fn finish(self: Box<Self>) -> Vec<Difference>;
}

/// A table's differing rows.
pub type Explained<Event> = Box<dyn Explain<Event>>;

/// The differing rows of one table.
pub(crate) struct Differing<T: Table> {
    table: &'static str,
    rows: BTreeMap<T::Key, Explanation<T::Row>>,
}

struct Explanation<Row> {
    left: Option<Row>,
    right: Option<Row>,
    folded: Result<Option<Row>, String>,
    events: Vec<EventOfRow>,
}

impl<T: Table> Differing<T> {
    /// Pairs the differing rows of the first build (`left`) and of the other build (`right`), at most `limit`
    /// keys.
    pub fn new(table: &'static str, left: Vec<T::Row>, right: Vec<T::Row>, limit: usize) -> Self {
        let mut rows: BTreeMap<T::Key, Explanation<T::Row>> = BTreeMap::new();
        let empty = || Explanation {
            left: None,
            right: None,
            folded: Ok(None),
            events: Vec::new(),
        };
        for row in left {
            let key = T::key(&row);
            rows.entry(key).or_insert_with(empty).left = Some(row);
        }
        for row in right {
            let key = T::key(&row);
            rows.entry(key).or_insert_with(empty).right = Some(row);
        }
        while rows.len() > limit {
            rows.pop_last();
        }
        Self { table, rows }
    }
}

impl<T> Explain<T::Event> for Differing<T>
where
    T: Table,
{
    fn add(&mut self, topic: &str, partition: i32, event: &Recorded<'_, T::Event>) {
        let Ok(keys) = T::keys(event) else { return };
        for key in keys {
            let Some(row) = self.rows.get_mut(&key) else {
                continue;
            };
            if let Ok(before) = &row.folded {
                row.folded =
                    T::apply(&key, before.clone(), event).map_err(|error| error.to_string());
            }
            if row.events.len() < EVENTS_SHOWN_MAX {
                row.events.push(EventOfRow::new(topic, partition, event));
            }
        }
    }

    fn finish(self: Box<Self>) -> Vec<Difference> {
        let text = |row: Option<T::Row>| row.map(|row| format!("{row:?}"));
        let difference = |(key, row): (T::Key, Explanation<T::Row>)| Difference {
            table: self.table,
            key: format!("{key:?}"),
            left: text(row.left),
            right: text(row.right),
            folded: row.folded.map(text),
            events: row.events,
        };
        self.rows.into_iter().map(difference).collect()
    }
}
