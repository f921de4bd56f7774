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

/// The number of rows of a build, the number of rows that differ in another build, and the first differing rows of each
/// table that has any.
pub type Compared<Event> = (u64, u64, Vec<Explained<Event>>);

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        postgres::Instant,
        views::catalog_v1::{ProductRow, Products},
    };
    use schemas::{
        Currency, Money, Sku, Timestamp,
        catalog::{Event, ProductCreated, ProductEvent, ProductPriceChanged},
    };

    const TABLE: &str = "catalog_v1";
    const TOPIC: &str = "journal.catalog";

    fn created(sku: &str) -> Event {
        Event::Product(ProductEvent::ProductCreated(ProductCreated {
            sku: Sku::parse(sku).unwrap(),
            description: "heart".into(),
        }))
    }

    fn priced(amount: i64) -> Event {
        let new = Money {
            amount,
            currency: Currency::GBP,
        };
        Event::Product(ProductEvent::ProductPriceChanged(ProductPriceChanged {
            old: None,
            new,
        }))
    }

    /// The row of a product after an event of this version.
    fn row(sku: &str, price: Option<i64>, version: i64) -> ProductRow {
        ProductRow {
            sku: sku.to_owned(),
            description: "heart".to_owned(),
            name: "heart".to_owned(),
            price,
            currency: price.map(|_| "GBP".to_owned()),
            created_at: Instant(Timestamp(0)),
            version,
        }
    }

    fn text(row: &ProductRow) -> Option<String> {
        Some(format!("{row:?}"))
    }

    /// The differences between two builds after these events of a product, which have the versions from `first`. Each
    /// event has ten times its version as its offset.
    fn explained(
        (left, right): (Vec<ProductRow>, Vec<ProductRow>),
        limit: usize,
        (key, first): (&str, i64),
        events: &[Event],
    ) -> Vec<Difference> {
        let mut differing = Box::new(Differing::<Products>::new(TABLE, left, right, limit));
        for (version, event) in (first..).zip(events) {
            let recorded = Recorded {
                key,
                offset: 10 * version,
                version,
                recorded_at: Timestamp(0),
                event,
            };
            differing.add(TOPIC, 3, &recorded);
        }
        differing.finish()
    }

    #[test]
    fn a_difference_has_both_rows_and_the_row_that_its_events_give() {
        let (left, right) = (row("A", Some(300), 2), row("A", Some(1), 2));
        let events = [created("A"), priced(300)];
        let shown = |(version, event): (i64, &Event)| EventOfRow {
            position: format!("journal.catalog/3@{}", 10 * version),
            key: "product_A".to_owned(),
            version,
            event: serde_json::to_string(event).unwrap(),
        };
        let expected = Difference {
            table: TABLE,
            key: "\"A\"".to_owned(),
            left: text(&left),
            right: text(&right),
            folded: Ok(text(&left)),
            events: (1..).zip(&events).map(shown).collect(),
        };
        let builds = (vec![left], vec![right]);
        assert_eq!(explained(builds, 10, ("product_A", 1), &events), [expected]);
    }

    #[test]
    fn a_row_of_one_build_only_is_explained_by_its_own_events() {
        let (lost, surplus) = (row("A", None, 1), row("B", None, 1));
        let builds = (vec![lost.clone()], vec![surplus.clone()]);
        let found = explained(builds, 10, ("product_A", 1), &[created("A")]);
        let found: Vec<_> = found
            .into_iter()
            .map(|one| (one.key, one.left, one.right, one.folded, one.events.len()))
            .collect();
        let expected = [
            ("\"A\"".to_owned(), text(&lost), None, Ok(text(&lost)), 1),
            ("\"B\"".to_owned(), None, text(&surplus), Ok(None), 0),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_first_event_that_can_not_be_applied_is_the_reason() {
        let builds = (vec![row("A", Some(300), 3)], Vec::new());
        let events = [priced(100), created("A"), priced(300)];
        let found = explained(builds, 10, ("product_A", 2), &events);
        let found: Vec<_> = found
            .into_iter()
            .map(|one| (one.folded, one.events.len()))
            .collect();
        let reason = "product_A at offset 20 with version 2 needs a row that is not stored";
        assert_eq!(found, [(Err(reason.to_owned()), 3)]);
    }

    #[test]
    fn a_long_history_is_folded_to_its_end_and_shown_from_its_beginning() {
        let last = row("A", Some(29), 30);
        let events: Vec<Event> = std::iter::once(created("A"))
            .chain((1..30).map(priced))
            .collect();
        let builds = (vec![last.clone()], Vec::new());
        let found = explained(builds, 10, ("product_A", 1), &events);
        let found: Vec<_> = found
            .into_iter()
            .map(|one| {
                let versions: Vec<i64> = one.events.iter().map(|event| event.version).collect();
                (one.folded, versions)
            })
            .collect();
        let versions: Vec<i64> = (1..=20).collect();
        assert_eq!(found, [(Ok(text(&last)), versions)]);
    }

    #[test]
    fn the_first_keys_up_to_the_limit_are_explained() {
        let left = vec![row("C", None, 1), row("A", None, 1)];
        let builds = (left, vec![row("B", None, 1), row("A", None, 2)]);
        let found = explained(builds, 2, ("product_A", 1), &[]);
        let found: Vec<_> = found.into_iter().map(|one| one.key).collect();
        assert_eq!(found, ["\"A\"", "\"B\""]);
    }
}
