//! The fold of events into rows: one row per event, in its order's partition.

use crate::{
    cql::CqlView,
    recorded::{FoldError, Recorded},
    view::{RowFeed, Table, View},
};
use schemas::{
    context::ContextEvent,
    orders::{CreditNoteEvent, Event, OrderEvent},
};

/// The view.
pub struct OrderTimeline;

/// Its table.
pub struct Events;

/// A row of `order_timeline_v1`.
#[derive(Debug, Clone, PartialEq, Eq, scylla::SerializeRow, scylla::DeserializeRow)]
pub struct EventRow {
    /// The record's key, which is the order's TypeID.
    pub order_id: String,
    /// The aggregate's version after the event.
    pub version: i64,
    /// The event's name in the journal's schema.
    pub event: String,
    /// The time in the event, in microseconds since 1970.
    pub occurred_at_us: i64,
    /// ISO 4217.
    pub currency: String,
    /// The order's total after the event: minor units, signed.
    pub total: i64,
}

crate::columns!(EventRow in "order_timeline_v1" by [order_id, version] with [
    event, occurred_at_us, currency, total,
]);

impl View for OrderTimeline {
    const NAME: &'static str = "order_timeline_v1";
    type Event = Event;
}

impl CqlView for OrderTimeline {
    const SCHEMA: &'static str = include_str!("schema.cql");
    type Tables = (Events,);
}

impl Table for Events {
    type Event = Event;
    type Key = (String, i64);
    type Row = EventRow;
    /// An event's version is in the key of its row, so no later event changes the row.
    const FEED: RowFeed<EventRow> = RowFeed::Versioned(|row| row.version);

    fn keys(event: &Recorded<'_, Event>) -> Result<Vec<(String, i64)>, FoldError> {
        Ok(vec![(event.key.to_owned(), event.version)])
    }

    fn key(row: &EventRow) -> (String, i64) {
        (row.order_id.clone(), row.version)
    }

    fn apply(
        (order_id, version): &(String, i64),
        _row: Option<EventRow>,
        event: &Recorded<'_, Event>,
    ) -> Result<Option<EventRow>, FoldError> {
        let (time, currency, total) = match event.event {
            Event::Order(OrderEvent::SaleImported(sale)) => {
                (sale.ordered_at, sale.currency, sale.total)
            }
            Event::CreditNote(CreditNoteEvent::CreditNoteIssued(note)) => {
                (note.issued_at, note.currency, note.total)
            }
        };
        Ok(Some(EventRow {
            order_id: order_id.clone(),
            version: *version,
            event: event.event.name().to_owned(),
            occurred_at_us: event.calendar_time(time)?.0,
            currency: currency.code().to_owned(),
            total,
        }))
    }
}
