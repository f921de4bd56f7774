//! The fold of events into rows: one row per country and currency.

use crate::{
    figures::{Booking, Figures},
    postgres::{Instant, PostgresView},
    recorded::{FoldError, Recorded},
    view::{RowFeed, Table, View},
};
use schemas::orders::Event;

/// The view.
pub struct CountrySalesView;

/// Its table.
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
    /// Minor units, signed.
    pub total: i64,
    /// Time of the earliest order or credit note.
    pub first_ordered_at: Instant,
    /// Time of the latest order or credit note.
    pub last_ordered_at: Instant,
}

postgres_row!(CountryRow in "country_sales_v1" by [country, currency] with [
    orders, credit_notes, total, first_ordered_at, last_ordered_at,
]);

impl CountryRow {
    /// The figures in the row.
    pub fn figures(&self) -> Figures {
        Figures {
            orders: self.orders,
            credit_notes: self.credit_notes,
            total: self.total,
            first_ordered_at: self.first_ordered_at.0,
            last_ordered_at: self.last_ordered_at.0,
        }
    }
}

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
        let booking = Booking::of(event)?;
        let currency = booking.currency.code().to_owned();
        Ok(vec![(booking.country.to_owned(), currency)])
    }

    fn key(row: &CountryRow) -> (String, String) {
        (row.country.clone(), row.currency.clone())
    }

    /// Sums, a minimum and a maximum: they do not depend on the order of the aggregates' events.
    fn apply(
        (country, currency): &(String, String),
        row: Option<CountryRow>,
        event: &Recorded<'_, Event>,
    ) -> Result<Option<CountryRow>, FoldError> {
        let figures = Booking::add_to(row.as_ref().map(CountryRow::figures), event)?;
        Ok(Some(CountryRow {
            country: country.clone(),
            currency: currency.clone(),
            orders: figures.orders,
            credit_notes: figures.credit_notes,
            total: figures.total,
            first_ordered_at: Instant(figures.first_ordered_at),
            last_ordered_at: Instant(figures.last_ordered_at),
        }))
    }
}
