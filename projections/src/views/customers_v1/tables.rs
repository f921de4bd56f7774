//! The fold of events into rows: one row per customer and currency.

use crate::{
    figures::{Booking, Figures},
    postgres::{Instant, PostgresView},
    recorded::{FoldError, Recorded},
    view::{RowFeed, Table, View},
};
use schemas::orders::Event;

/// The view.
pub struct CustomersView;

/// Its table.
pub struct Customers;

/// A row of `customers_v1`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct CustomerRow {
    /// Opaque id.
    pub customer_id: String,
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

postgres_row!(CustomerRow in "customers_v1" by [customer_id, currency] with [
    orders, credit_notes, total, first_ordered_at, last_ordered_at,
]);

impl CustomerRow {
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

impl View for CustomersView {
    const NAME: &'static str = "customers_v1";
    type Event = Event;
}

impl PostgresView for CustomersView {
    const SCHEMA: &'static str = include_str!("schema.sql");
    type Tables = (Customers,);
}

impl Table for Customers {
    type Event = Event;
    type Key = (String, String);
    type Row = CustomerRow;
    const FEED: RowFeed<CustomerRow> = RowFeed::SeveralAggregates;

    fn keys(event: &Recorded<'_, Event>) -> Result<Vec<(String, String)>, FoldError> {
        let booking = Booking::of(event)?;
        let key = |customer: &str| (customer.to_owned(), booking.currency.code().to_owned());
        Ok(booking.customer.map(key).into_iter().collect())
    }

    fn key(row: &CustomerRow) -> (String, String) {
        (row.customer_id.clone(), row.currency.clone())
    }

    /// Sums, a minimum and a maximum: they do not depend on the order of the aggregates' events.
    fn apply(
        (customer_id, currency): &(String, String),
        row: Option<CustomerRow>,
        event: &Recorded<'_, Event>,
    ) -> Result<Option<CustomerRow>, FoldError> {
        let figures = Booking::add_to(row.as_ref().map(CustomerRow::figures), event)?;
        Ok(Some(CustomerRow {
            customer_id: customer_id.clone(),
            currency: currency.clone(),
            orders: figures.orders,
            credit_notes: figures.credit_notes,
            total: figures.total,
            first_ordered_at: Instant(figures.first_ordered_at),
            last_ordered_at: Instant(figures.last_ordered_at),
        }))
    }
}
