//! From facts to rows: one of `orders_v1` and some of `orders_v1_lines` for each order.

use crate::{
    facts::{Fact, FoldError},
    order::{self, Header},
    postgres::{PostgresView, instant::Instant},
    store::Projection,
};
use schemas::orders::{Event, SaleLine};
use sqlx::PgConnection;
use std::collections::BTreeMap;

/// The view.
pub struct View;

/// The newest state of every order that a batch tells of, by id: one upsert must not meet a row
/// twice, and rows are written in one order everywhere.
pub type Changes = BTreeMap<String, Order>;

/// An order as its rows have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The row of `orders_v1`.
    pub header: Header,
    /// The rows of `orders_v1_lines`. No fact takes a line away, so none is ever deleted.
    pub lines: Vec<Line>,
}

/// A row of `orders_v1_lines`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// From 1.
    pub number: i32,
    /// What was sold.
    pub sku: String,
    /// As the source words it.
    pub description: Option<String>,
    /// Signed.
    pub quantity: i64,
    /// Millionths of the major unit.
    pub unit_price: i64,
    /// Minor units, signed.
    pub amount: i64,
}

impl Projection for View {
    const NAME: &'static str = "orders_v1";
    type Event = Event;
    type Changes = Changes;

    fn fold(facts: &[Fact<'_, Event>]) -> Result<Changes, FoldError> {
        let mut orders = Changes::new();
        for fact in facts {
            let header = Header::of(fact)?;
            // That the count fits was seen above.
            let lines = (1..).zip(order::lines(fact.event)).map(line).collect();
            orders.insert(header.id.clone(), Order { header, lines });
        }
        Ok(orders)
    }
}

fn line((number, line): (i32, &SaleLine)) -> Line {
    Line {
        number,
        sku: line.sku.as_str().to_owned(),
        description: line.description.clone(),
        quantity: line.quantity.0,
        unit_price: line.unit_price.0,
        amount: line.amount,
    }
}

impl PostgresView for View {
    const SCHEMA: &'static str = include_str!("schema.sql");

    async fn write(changes: &Changes, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if changes.is_empty() {
            return Ok(());
        }
        write_orders(changes, connection).await?;
        write_lines(changes, connection).await
    }
}

async fn write_orders(changes: &Changes, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let headers: Vec<&Header> = changes.values().map(|order| &order.header).collect();
    sqlx::query(
        "INSERT INTO orders_v1 (order_id, kind, invoice, customer_id, country, ordered_at, \
             currency, total, line_count, version) \
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], \
             $6::timestamptz[], $7::text[], $8::bigint[], $9::int[], $10::bigint[]) \
         ON CONFLICT (order_id) DO UPDATE SET kind = excluded.kind, invoice = excluded.invoice, \
             customer_id = excluded.customer_id, country = excluded.country, \
             ordered_at = excluded.ordered_at, currency = excluded.currency, \
             total = excluded.total, line_count = excluded.line_count, version = excluded.version",
    )
    .bind(column(&headers, |header| header.id.as_str()))
    .bind(column(&headers, |header| header.kind.as_str()))
    .bind(column(&headers, |header| header.invoice.as_str()))
    .bind(column(&headers, |header| header.customer.as_deref()))
    .bind(column(&headers, |header| header.country.as_str()))
    .bind(column(&headers, |header| Instant(header.ordered_at)))
    .bind(column(&headers, |header| header.currency.as_str()))
    .bind(column(&headers, |header| header.total))
    .bind(column(&headers, |header| header.line_count))
    .bind(column(&headers, |header| header.version))
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_lines(changes: &Changes, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let lines: Vec<(&str, &Line)> = changes
        .iter()
        .flat_map(|(id, order)| order.lines.iter().map(move |line| (id.as_str(), line)))
        .collect();
    sqlx::query(
        "INSERT INTO orders_v1_lines (order_id, line_number, sku, description, quantity, \
             unit_price, amount) \
         SELECT * FROM UNNEST($1::text[], $2::int[], $3::text[], $4::text[], $5::bigint[], \
             $6::bigint[], $7::bigint[]) \
         ON CONFLICT (order_id, line_number) DO UPDATE SET sku = excluded.sku, \
             description = excluded.description, quantity = excluded.quantity, \
             unit_price = excluded.unit_price, amount = excluded.amount",
    )
    .bind(column(&lines, |(id, _)| *id))
    .bind(column(&lines, |(_, line)| line.number))
    .bind(column(&lines, |(_, line)| line.sku.as_str()))
    .bind(column(&lines, |(_, line)| line.description.as_deref()))
    .bind(column(&lines, |(_, line)| line.quantity))
    .bind(column(&lines, |(_, line)| line.unit_price))
    .bind(column(&lines, |(_, line)| line.amount))
    .execute(connection)
    .await?;
    Ok(())
}

/// One column of many rows.
fn column<'a, Row, Value>(rows: &'a [Row], value: impl Fn(&'a Row) -> Value) -> Vec<Value> {
    rows.iter().map(value).collect()
}
