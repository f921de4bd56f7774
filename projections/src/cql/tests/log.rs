//! Histories of aggregates in one log, and the table that folds them.

use crate::{
    recorded::{FoldError, Recorded},
    view::{RowFeed, Table},
};
use schemas::{
    Currency, Money, Sku, Timestamp,
    catalog::{Event, ProductCreated, ProductEvent, ProductPriceChanged},
};
use std::collections::BTreeMap;

/// Description of a product that gets no row.
const HIDDEN: &str = "hidden";

/// A price of 0 deletes the row; any other price changes its digest.
pub struct Products;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub key: String,
    pub digest: i64,
    pub version: i64,
}

impl Table for Products {
    type Event = Event;
    type Key = String;
    type Row = Row;
    const FEED: RowFeed<Row> = RowFeed::Versioned(|row| row.version);

    fn keys(event: &Recorded<'_, Event>) -> Result<Vec<String>, FoldError> {
        Ok(vec![event.key.to_owned()])
    }

    fn key(row: &Row) -> String {
        row.key.clone()
    }

    fn apply(
        key: &String,
        row: Option<Row>,
        event: &Recorded<'_, Event>,
    ) -> Result<Option<Row>, FoldError> {
        let digest = match (event.event, row) {
            (Event::Product(ProductEvent::ProductCreated(product)), None)
                if product.description == HIDDEN =>
            {
                return Ok(None);
            }
            (Event::Product(ProductEvent::ProductCreated(_)), row) => {
                row.map_or(0, |row| row.digest) * 31 + 1
            }
            (Event::Product(ProductEvent::ProductPriceChanged(_)), None) => {
                return Err(event.missing_row());
            }
            (Event::Product(ProductEvent::ProductPriceChanged(price)), Some(_))
                if price.new.amount == 0 =>
            {
                return Ok(None);
            }
            (Event::Product(ProductEvent::ProductPriceChanged(price)), Some(row)) => {
                row.digest * 31 + price.new.amount
            }
        };
        Ok(Some(Row {
            key: key.clone(),
            digest: digest % 1_000_003,
            version: event.version,
        }))
    }
}

/// A record of the log.
#[derive(Debug)]
pub struct Commit {
    pub offset: i64,
    pub key: String,
    /// The aggregate's version before it.
    pub version: i64,
    pub events: Vec<Event>,
}

/// The log, and every aggregate's row after each of its versions.
#[derive(Debug)]
pub struct Log {
    pub commits: Vec<Commit>,
    pub pure: BTreeMap<String, Vec<Option<Row>>>,
}

impl Log {
    /// Turns each operation into an event that its aggregate's row can apply.
    pub fn new(operations: &[(u8, u8, bool)]) -> Self {
        let mut log = Self {
            commits: Vec::new(),
            pure: BTreeMap::new(),
        };
        for (aggregate, operation, is_commit_shared) in operations {
            let key = format!("product_{aggregate}");
            let states = log.pure.entry(key.clone()).or_insert_with(|| vec![None]);
            let before = states.last().unwrap().clone();
            let event = event(before.is_some(), *operation);
            let version = i64::try_from(states.len()).unwrap();
            let recorded = Recorded {
                key: &key,
                offset: 0,
                version,
                recorded_at: Timestamp::default(),
                event: &event,
            };
            states.push(Products::apply(&key, before, &recorded).unwrap());
            match log.commits.last_mut() {
                Some(last) if *is_commit_shared && last.key == key => last.events.push(event),
                last => {
                    // Void records leave gaps between offsets.
                    let offset = last.map_or(0, |last| last.offset + 1 + i64::from(*operation % 2));
                    log.commits.push(Commit {
                        offset,
                        key,
                        version: version - 1,
                        events: vec![event],
                    });
                }
            }
        }
        log
    }

    pub fn recorded(&self, from: usize, to: usize) -> Vec<Recorded<'_, Event>> {
        let mut recorded = Vec::new();
        for commit in &self.commits[from..to] {
            for (version, event) in (commit.version + 1..).zip(&commit.events) {
                recorded.push(Recorded {
                    key: &commit.key,
                    offset: commit.offset,
                    version,
                    recorded_at: Timestamp::default(),
                    event,
                });
            }
        }
        recorded
    }

    /// The rows after all commits.
    pub fn rows(&self) -> Vec<Row> {
        let last = |states: &Vec<Option<Row>>| states.last().unwrap().clone();
        self.pure.values().filter_map(last).collect()
    }
}

fn event(has_row: bool, operation: u8) -> Event {
    let sku = Sku::parse("85123A").unwrap();
    match (has_row, operation % 5) {
        (false, 0) => Event::Product(ProductEvent::ProductCreated(ProductCreated {
            sku,
            description: HIDDEN.into(),
        })),
        (false, _) | (true, 1) => Event::Product(ProductEvent::ProductCreated(ProductCreated {
            sku,
            description: String::new(),
        })),
        (true, operation) => {
            Event::Product(ProductEvent::ProductPriceChanged(ProductPriceChanged {
                old: None,
                new: Money {
                    amount: operation.into(),
                    currency: Currency::GBP,
                },
            }))
        }
    }
}
