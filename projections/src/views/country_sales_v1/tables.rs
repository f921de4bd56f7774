//! The fold of events into rows: one row per country and currency. A row has only sums, minimums and maximums, so the
//! sequence in which orders are applied does not matter.

use crate::{
    postgres::{Instant, PostgresView},
    recorded::{FoldError, Recorded},
    sale::Sale,
    view::{RowFeed, Table, View},
};
use schemas::orders::Event;

/// The view.
pub struct CountrySalesView;

/// The table `country_sales_v1`.
pub struct Countries;

/// A row of `country_sales_v1`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct CountryRow {
    /// The country, spelled as in the source.
    pub country: String,
    /// ISO 4217.
    pub currency: String,
    /// Number of orders.
    pub orders: i64,
    /// Number of credit notes.
    pub credit_notes: i64,
    /// Number of lines of orders and credit notes.
    pub lines: i64,
    /// Minor units: orders plus credit notes, which are below zero.
    pub total: i64,
    /// Time of the first order or credit note.
    pub first_order_at: Instant,
    /// Time of the last order or credit note.
    pub last_order_at: Instant,
}

postgres_row!(CountryRow in "country_sales_v1" by [country, currency] with [
    orders, credit_notes, lines, total, first_order_at, last_order_at,
]);

impl View for CountrySalesView {
    const NAME: &'static str = "country_sales_v1";
    type Event = Event;
}

impl PostgresView for CountrySalesView {
    const SCHEMA: &'static str = include_str!("schema.sql");
    type Tables = (Countries,);
}

impl Table for Countries {
    type Event = Event;
    type Key = (String, String);
    type Row = CountryRow;
    const FEED: RowFeed<CountryRow> = RowFeed::SeveralAggregates;

    fn keys(event: &Recorded<'_, Event>) -> Result<Vec<(String, String)>, FoldError> {
        let sale = Sale::of(event.event);
        Ok(vec![(
            sale.country.to_owned(),
            sale.currency.code().to_owned(),
        )])
    }

    fn key(row: &CountryRow) -> (String, String) {
        (row.country.clone(), row.currency.clone())
    }

    fn apply(
        (country, currency): &(String, String),
        row: Option<CountryRow>,
        event: &Recorded<'_, Event>,
    ) -> Result<Option<CountryRow>, FoldError> {
        let sale = Sale::of(event.event);
        let at = event.calendar_time(sale.at)?;
        let before = row.unwrap_or_else(|| CountryRow {
            country: country.clone(),
            currency: currency.clone(),
            orders: 0,
            credit_notes: 0,
            lines: 0,
            total: 0,
            first_order_at: Instant(at),
            last_order_at: Instant(at),
        });
        let (orders, credit_notes) = sale.counts();
        let lines = i64::from(event.line_count(sale.lines.len())?);
        Ok(Some(CountryRow {
            orders: event.add("orders", before.orders, orders)?,
            credit_notes: event.add("credit_notes", before.credit_notes, credit_notes)?,
            lines: event.add("lines", before.lines, lines)?,
            total: event.add("total", before.total, sale.total)?,
            first_order_at: Instant(before.first_order_at.0.min(at)),
            last_order_at: Instant(before.last_order_at.0.max(at)),
            ..before
        }))
    }
}
