//! The fold of events into rows: one row per event, in its order's partition.

use crate::{
    cql::CqlView,
    recorded::{FoldError, Recorded},
    sale::Sale,
    view::{RowFeed, Table, View},
};
use schemas::orders::{CreditNoteEvent, Event, OrderEvent};

/// The view.
pub struct OrderTimeline;

/// The table `order_timeline_v1`.
pub struct Entries;

/// A row of `order_timeline_v1`.
#[derive(Debug, Clone, PartialEq, Eq, scylla::SerializeRow, scylla::DeserializeRow)]
pub struct EntryRow {
    /// The record's key, which is the order's TypeID.
    pub order_id: String,
    /// The order's version after the event.
    pub version: i64,
    /// The event's name.
    pub event: String,
    /// The time in the source, in microseconds since 1970.
    pub happened_at_us: i64,
    /// Log time, in microseconds since 1970.
    pub recorded_at_us: i64,
    /// The source's invoice number.
    pub invoice: String,
    /// Opaque id; `None` if the source has none.
    pub customer_id: Option<String>,
    /// The country, spelled as in the source.
    pub country: String,
    /// ISO 4217.
    pub currency: String,
    /// The order's total after the event: minor units, signed.
    pub total: i64,
    /// Number of lines.
    pub line_count: i32,
}

crate::columns!(EntryRow in "order_timeline_v1" by [order_id, version] with [
    event, happened_at_us, recorded_at_us, invoice, customer_id, country, currency, total, line_count,
]);

impl View for OrderTimeline {
    const NAME: &'static str = "order_timeline_v1";
    type Event = Event;
}

impl CqlView for OrderTimeline {
    const SCHEMA: &'static str = include_str!("schema.cql");
    type Tables = (Entries,);
}

impl Table for Entries {
    type Event = Event;
    type Key = (String, i64);
    type Row = EntryRow;
    // Each row comes from one event, so the version of its last event is that event's version.
    const FEED: RowFeed<EntryRow> = RowFeed::Versioned(|row| row.version);

    fn keys(event: &Recorded<'_, Event>) -> Result<Vec<(String, i64)>, FoldError> {
        Ok(vec![(event.key.to_owned(), event.version)])
    }

    fn key(row: &EntryRow) -> (String, i64) {
        (row.order_id.clone(), row.version)
    }

    fn apply(
        (order_id, version): &(String, i64),
        _row: Option<EntryRow>,
        event: &Recorded<'_, Event>,
    ) -> Result<Option<EntryRow>, FoldError> {
        let sale = Sale::of(event.event);
        Ok(Some(EntryRow {
            order_id: order_id.clone(),
            version: *version,
            event: name(event.event).to_owned(),
            happened_at_us: event.calendar_time(sale.at)?.0,
            recorded_at_us: event.calendar_time(event.recorded_at)?.0,
            invoice: sale.invoice.to_owned(),
            customer_id: sale.customer.map(str::to_owned),
            country: sale.country.to_owned(),
            currency: sale.currency.code().to_owned(),
            total: sale.total,
            line_count: event.line_count(sale.lines.len())?,
        }))
    }
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Order(OrderEvent::SaleImported(_)) => "SaleImported",
        Event::CreditNote(CreditNoteEvent::CreditNoteIssued(_)) => "CreditNoteIssued",
    }
}
