//! From facts to rows: one for each order, in its customer's partition.

use crate::{
    cql::{CqlView, store::write_timestamp},
    facts::{Fact, FoldError},
    order::Header,
    store::Projection,
};
use schemas::{Timestamp, orders::Event};
use scylla::serialize::row::SerializeRow;
use std::collections::BTreeMap;

/// What the partitions of orders without a customer begin with.
const NO_CUSTOMER: &str = "none:";
/// Microseconds of a day.
const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

/// The view.
pub struct View;

/// A row, and the offset that it is as of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The partition key.
    pub partition: String,
    /// The other columns.
    pub order: Header,
    /// The offset of the commit that told it.
    pub offset: i64,
}

/// The partition of a customer's orders.
///
/// Orders without a customer are kept too, or the totals over all partitions would lack them; by the
/// day, so that no partition grows without an end. A customer whose id looks like such a partition
/// gets another one: days begin with no colon.
pub fn partition_of(customer: Option<&str>, ordered_at: Timestamp) -> String {
    // CQL has no empty keys, and an empty id names nobody.
    match customer.filter(|customer| !customer.is_empty()) {
        Some(customer) => match customer.strip_prefix(NO_CUSTOMER) {
            Some(rest) => format!("{NO_CUSTOMER}:{rest}"),
            None => customer.to_owned(),
        },
        None => {
            let midnight = ordered_at.floor(DAY_US).to_string();
            let day = midnight.split('T').next().unwrap_or_default();
            format!("{NO_CUSTOMER}{day}")
        }
    }
}

impl Projection for View {
    const NAME: &'static str = "orders_by_customer_v1";
    type Event = Event;
    type Changes = Vec<Row>;

    fn fold(facts: &[Fact<'_, Event>]) -> Result<Vec<Row>, FoldError> {
        let mut rows = BTreeMap::new();
        for fact in facts {
            let order = Header::of(fact)?;
            let row = Row {
                partition: partition_of(order.customer.as_deref(), order.ordered_at),
                order,
                offset: fact.offset,
            };
            rows.insert(fact.key, row);
        }
        Ok(rows.into_values().collect())
    }
}

impl CqlView for View {
    type Row = Row;
    const SCHEMA: &'static str = include_str!("schema.cql");
    const UPSERT: &'static str = "INSERT INTO {keyspace}.orders_by_customer_v1 (customer_id, ordered_at_us, \
        order_id, kind, invoice, country, currency, total, line_count, version) \
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";

    fn partition(row: &Row) -> &str {
        &row.partition
    }

    fn values(row: &Row) -> impl SerializeRow + Send + Sync {
        let order = &row.order;
        (
            &row.partition,
            order.ordered_at.0,
            &order.id,
            order.kind.as_str(),
            &order.invoice,
            &order.country,
            &order.currency,
            order.total,
            order.line_count,
            order.version,
            write_timestamp(row.offset),
        )
    }
}
