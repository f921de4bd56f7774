//! The fold of events into rows: one row per order, in its customer's partition.

use crate::{
    cql::CqlView,
    recorded::{FoldError, Recorded},
    sale::Sale,
    view::{RowFeed, Table, View},
};
use schemas::{Timestamp, orders::Event};

/// Prefix of the partitions of orders without a customer.
const NO_CUSTOMER: &str = "none:";
/// Microseconds per day.
const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

/// The view.
pub struct OrdersByCustomer;

/// Its table.
pub struct Orders;

/// A row of `orders_by_customer_v2`.
#[derive(Debug, Clone, PartialEq, Eq, scylla::SerializeRow, scylla::DeserializeRow)]
pub struct OrderRow {
    /// The partition key, from [`partition_of`].
    pub customer_id: String,
    /// Time of the sale or of the credit note, in microseconds since 1970.
    pub ordered_at_us: i64,
    /// The record's key, which is the order's TypeID.
    pub order_id: String,
    /// [`Kind::as_str`](crate::order::Kind::as_str).
    pub kind: String,
    /// The source's invoice number.
    pub invoice: String,
    /// The country, spelled as in the source.
    pub country: String,
    /// ISO 4217.
    pub currency: String,
    /// Minor units, signed.
    pub total: i64,
    /// Number of lines.
    pub line_count: i32,
    /// The aggregate's version.
    pub version: i64,
}

crate::columns!(OrderRow in "orders_by_customer_v2" by [customer_id, ordered_at_us, order_id] with [
    kind, invoice, country, currency, total, line_count, version,
]);

/// The partition of a customer's orders.
///
/// Orders without a customer are also stored, because the totals over all partitions include them. They have
/// one partition per day, `none:<yyyy-mm-dd>`, so that no partition grows without a limit. A customer id that begins
/// with `none:` gets a second colon (`none::`), so that it never equals the partition of a day.
pub fn partition_of(customer: Option<&str>, ordered_at: Timestamp) -> String {
    // CQL has no empty keys, and an empty id does not identify a customer.
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

impl View for OrdersByCustomer {
    const NAME: &'static str = "orders_by_customer_v2";
    type Event = Event;
}

impl CqlView for OrdersByCustomer {
    const SCHEMA: &'static str = include_str!("schema.cql");
    type Tables = (Orders,);
}

impl Table for Orders {
    type Event = Event;
    type Key = (String, i64, String);
    type Row = OrderRow;
    const FEED: RowFeed<OrderRow> = RowFeed::Versioned(|row| row.version);

    fn keys(event: &Recorded<'_, Event>) -> Result<Vec<(String, i64, String)>, FoldError> {
        let sale = Sale::of(event.event);
        let ordered_at = event.calendar_time(sale.at)?;
        let partition = partition_of(sale.customer, ordered_at);
        Ok(vec![(partition, ordered_at.0, event.key.to_owned())])
    }

    fn key(row: &OrderRow) -> (String, i64, String) {
        (
            row.customer_id.clone(),
            row.ordered_at_us,
            row.order_id.clone(),
        )
    }

    /// Every event contains the whole order.
    fn apply(
        (customer_id, ordered_at_us, order_id): &(String, i64, String),
        _row: Option<OrderRow>,
        event: &Recorded<'_, Event>,
    ) -> Result<Option<OrderRow>, FoldError> {
        let sale = Sale::of(event.event);
        Ok(Some(OrderRow {
            customer_id: customer_id.clone(),
            ordered_at_us: *ordered_at_us,
            order_id: order_id.clone(),
            kind: sale.kind.as_str().to_owned(),
            invoice: sale.invoice.to_owned(),
            country: sale.country.to_owned(),
            currency: sale.currency.code().to_owned(),
            total: sale.total,
            line_count: event.line_count(sale.lines.len())?,
            version: event.version,
        }))
    }
}
