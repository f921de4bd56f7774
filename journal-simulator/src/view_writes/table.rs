//! The table of a run: a row for each counter.

use journal::probe::Event;
use projections::{FoldError, Recorded, RowFeed, Table};

/// Modulus of a row's digest. It is prime, so that different histories rarely give the same digest.
const DIGEST_MODULUS: i64 = 1_000_003;

/// Counters whose value is 0 have no row.
pub(super) struct Counters;

/// A counter's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub key: String,
    /// A number that depends on every event since the row was created.
    pub digest: i64,
    pub version: i64,
}

impl Table for Counters {
    type Event = Event;
    type Key = String;
    type Row = Row;
    const FEED: RowFeed<Row> = RowFeed::Versioned(|row| row.version);

    fn keys(event: &Recorded<'_, Event>) -> Result<Vec<String>, FoldError> {
        match event.event {
            Event::CounterChanged(_) => Ok(vec![event.key.to_owned()]),
            Event::Noted(_) => Ok(Vec::new()),
        }
    }

    fn key(row: &Row) -> String {
        row.key.clone()
    }

    fn apply(
        key: &String,
        row: Option<Row>,
        event: &Recorded<'_, Event>,
    ) -> Result<Option<Row>, FoldError> {
        let new = match event.event {
            Event::CounterChanged(changed) if changed.new != 0 => changed.new,
            Event::CounterChanged(_) | Event::Noted(_) => return Ok(None),
        };
        let digest = row.map_or(1, |row| row.digest) * 31 + new;
        Ok(Some(Row {
            key: key.clone(),
            digest: digest % DIGEST_MODULUS,
            version: event.version,
        }))
    }
}
