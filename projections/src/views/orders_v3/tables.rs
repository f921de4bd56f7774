//! The fold of events into rows: per order, one row of `orders_v3` and one of `orders_v3_lines` for each line.

use crate::{
    postgres::{Instant, PostgresView},
    recorded::{FoldError, Recorded},
    sale::Sale,
    view::{RowFeed, Table, View},
};
use schemas::orders::Event;

/// The view.
pub struct OrdersView;

/// The table `orders_v3`.
pub struct Orders;

/// The table `orders_v3_lines`.
pub struct Lines;

/// A row of `orders_v3`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct OrderRow {
    /// The record's key, which is the order's TypeID.
    pub order_id: String,
    /// [`Kind::as_str`](crate::order::Kind::as_str).
    pub kind: String,
    /// The source's invoice number.
    pub invoice: String,
    /// Opaque id; `None` if the source has none.
    pub customer_id: Option<String>,
    /// The country, spelled as in the source.
    pub country: String,
    /// Time of the sale or of the credit note.
    pub ordered_at: Instant,
    /// ISO 4217.
    pub currency: String,
    /// Minor units, signed.
    pub total: i64,
    /// Number of lines.
    pub line_count: i32,
    /// The aggregate's version.
    pub version: i64,
}

postgres_row!(OrderRow in "orders_v3" by [order_id] with [
    kind, invoice, customer_id, country, ordered_at, currency, total, line_count, version,
]);

/// A row of `orders_v3_lines`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct LineRow {
    /// The order.
    pub order_id: String,
    /// The line's number in the order, from 1.
    pub line_number: i32,
    /// The product.
    pub sku: String,
    /// The source's description of the product.
    pub description: Option<String>,
    /// Pieces, signed.
    pub quantity: i64,
    /// Price of one piece, in millionths of the major unit.
    pub unit_price: i64,
    /// Minor units, signed.
    pub amount: i64,
}

postgres_row!(LineRow in "orders_v3_lines" by [order_id, line_number] with [
    sku, description, quantity, unit_price, amount,
]);

impl View for OrdersView {
    const NAME: &'static str = "orders_v3";
    type Event = Event;
}

impl PostgresView for OrdersView {
    const SCHEMA: &'static str = include_str!("schema.sql");
    type Tables = (Orders, Lines);
}

impl Table for Orders {
    type Event = Event;
    type Key = String;
    type Row = OrderRow;
    const FEED: RowFeed<OrderRow> = RowFeed::Versioned(|row| row.version);

    fn keys(event: &Recorded<'_, Event>) -> Result<Vec<String>, FoldError> {
        Ok(vec![event.key.to_owned()])
    }

    fn key(row: &OrderRow) -> String {
        row.order_id.clone()
    }

    /// Every event contains the whole order.
    fn apply(
        order_id: &String,
        _row: Option<OrderRow>,
        event: &Recorded<'_, Event>,
    ) -> Result<Option<OrderRow>, FoldError> {
        let sale = Sale::of(event.event);
        let line_count = event.line_count(sale.lines.len())?;
        Ok(Some(OrderRow {
            order_id: order_id.clone(),
            kind: sale.kind.as_str().to_owned(),
            invoice: sale.invoice.to_owned(),
            customer_id: sale.customer.map(str::to_owned),
            country: sale.country.to_owned(),
            ordered_at: Instant(event.calendar_time(sale.at)?),
            currency: sale.currency.code().to_owned(),
            total: sale.total,
            line_count,
            version: event.version,
        }))
    }
}

impl Table for Lines {
    type Event = Event;
    type Key = (String, i32);
    type Row = LineRow;
    const FEED: RowFeed<LineRow> = RowFeed::OneAggregate;

    fn keys(event: &Recorded<'_, Event>) -> Result<Vec<(String, i32)>, FoldError> {
        let count = event.line_count(Sale::of(event.event).lines.len())?;
        let keys = (1..=count).map(|number| (event.key.to_owned(), number));
        Ok(keys.collect())
    }

    fn key(row: &LineRow) -> (String, i32) {
        (row.order_id.clone(), row.line_number)
    }

    fn apply(
        (order_id, line_number): &(String, i32),
        _row: Option<LineRow>,
        event: &Recorded<'_, Event>,
    ) -> Result<Option<LineRow>, FoldError> {
        let index = usize::try_from(line_number - 1).ok();
        let line = index.and_then(|index| Sale::of(event.event).lines.get(index));
        Ok(line.map(|line| LineRow {
            order_id: order_id.clone(),
            line_number: *line_number,
            sku: line.sku.as_str().to_owned(),
            description: line.description.clone(),
            quantity: line.quantity.0,
            unit_price: line.unit_price.0,
            amount: line.amount,
        }))
    }
}
