//! The fold of events into rows: one row per customer and currency. A row has only sums, minimums and maximums, so the
//! sequence in which the customer's orders are applied does not matter.

use crate::{
    postgres::{Instant, PostgresView},
    recorded::{FoldError, Recorded},
    sale::Sale,
    view::{RowFeed, Table, View},
};
use schemas::orders::Event;

/// The view.
pub struct CustomersView;

/// The table `customers_v1`.
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
    /// Number of lines of orders and credit notes.
    pub lines: i64,
    /// Minor units: orders plus credit notes, which are below zero.
    pub total: i64,
    /// Time of the first order or credit note.
    pub first_order_at: Instant,
    /// Time of the last order or credit note.
    pub last_order_at: Instant,
}

postgres_row!(CustomerRow in "customers_v1" by [customer_id, currency] with [
    orders, credit_notes, lines, total, first_order_at, last_order_at,
]);

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
        let sale = Sale::of(event.event);
        // An empty id does not identify a customer.
        let customer = sale.customer.filter(|customer| !customer.is_empty());
        let key = customer.map(|customer| (customer.to_owned(), sale.currency.code().to_owned()));
        Ok(key.into_iter().collect())
    }

    fn key(row: &CustomerRow) -> (String, String) {
        (row.customer_id.clone(), row.currency.clone())
    }

    fn apply(
        (customer_id, currency): &(String, String),
        row: Option<CustomerRow>,
        event: &Recorded<'_, Event>,
    ) -> Result<Option<CustomerRow>, FoldError> {
        let sale = Sale::of(event.event);
        let at = event.calendar_time(sale.at)?;
        let before = row.unwrap_or_else(|| CustomerRow {
            customer_id: customer_id.clone(),
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
        Ok(Some(CustomerRow {
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
