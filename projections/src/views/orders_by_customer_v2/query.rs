//! `GET /api/v1/customers/{id}/orders`.

use super::tables::{OrderRow, OrdersByCustomer, partition_of};
use crate::{
    builds::Build,
    columns::{Columns, list},
    cql::{CqlError, Session, read_position, writes::offset_of},
    databases::Databases,
    order::{self, Amount, Kind, OrderPage, OrderSummary},
    paging::{self, NewestFirst},
    problems::{ListProblems, QueryError, answer},
    registration::Queries,
    view::View,
};
use axum::{Json, extract::State};
use futures_util::{StreamExt, TryStreamExt, stream};
use schemas::{Position, Timestamp, Totals, TotalsAt, TotalsByCurrency, context::ORDERS};
use serde::Deserialize;
use service::{
    extract::{ApiPath, ApiQuery},
    problem::Problem,
};
use std::time::Duration;
use utoipa::IntoParams;
use utoipa_axum::routes;

/// Longest wait for a connection when totals are computed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of parts into which the token ring is divided for reading.
const SCAN_PARTS: i32 = 16;
/// Maximum number of parts that are read at the same time.
const SCANS_MAX: usize = 4;

const SCAN: &str = "SELECT order_id, kind, currency, line_count, total, WRITETIME(total) \
    FROM {keyspace}.orders_by_customer_v2{build} WHERE token(customer_id) >= ? AND token(customer_id) <= ?";

/// The parameters of the query string.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct HistoryQuery {
    /// Orders per page, 1 to 100; 20 by default.
    #[param(example = 20, minimum = 1, maximum = 100)]
    limit: Option<u16>,
    /// The `next_cursor` of the previous page.
    #[param(example = "cursor-of-the-next-page")]
    cursor: Option<String>,
}

/// The parameter in the path.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct CustomerPath {
    /// Opaque id of the customer.
    #[param(example = "17850")]
    id: String,
}

/// A validated request.
struct History {
    /// The name of this customer's list: cursors of another list are rejected.
    list: String,
    customer: String,
    limit: u16,
    after: Option<NewestFirst>,
}

pub(super) fn queries() -> Queries {
    vec![routes!(list_orders_of_customer)]
}

/// One customer's orders and credit notes, newest first. The page is empty for an unknown customer.
#[utoipa::path(get, path = "/customers/{id}/orders", tag = "orders",
    params(CustomerPath, HistoryQuery),
    responses((status = 200, description = "One page.", body = OrderPage), ListProblems))]
async fn list_orders_of_customer(
    State(databases): State<Databases>,
    ApiPath(CustomerPath { id }): ApiPath<CustomerPath>,
    ApiQuery(query): ApiQuery<HistoryQuery>,
) -> Result<Json<OrderPage>, Problem> {
    let customer = paging::text("id", &id)?;
    let list = paging::list(OrdersByCustomer::NAME, &customer);
    let history = History {
        customer,
        limit: paging::limit(query.limit)?,
        after: paging::cursor(&list, query.cursor.as_deref())?,
        list,
    };
    answer(|| find_page(&databases, &history)).await.map(Json)
}

async fn find_page(databases: &Databases, history: &History) -> Result<OrderPage, QueryError> {
    let rows = find(databases, history).await?;
    let (rows, next_cursor) = paging::cut(&history.list, rows, history.limit, |row| NewestFirst {
        ordered_at: Timestamp(row.ordered_at_us),
        order_id: row.order_id.clone(),
    });
    let orders = rows.into_iter().map(|row| summary(row, &history.customer));
    Ok(OrderPage {
        orders: orders.collect::<Result<_, _>>()?,
        next_cursor,
    })
}

/// Reads one row more than the page, to know whether there is a next page.
async fn find(databases: &Databases, history: &History) -> Result<Vec<OrderRow>, QueryError> {
    let build = databases.build::<OrdersByCustomer>()?;
    let session = databases.cql.session()?;
    // Only the partition of orders without a customer depends on the time.
    let partition = partition_of(Some(&history.customer), Timestamp::default());
    let count = i32::from(history.limit) + 1;
    let (columns, table) = (list(OrderRow::all()), build.table(OrderRow::TABLE));
    let select = format!("SELECT {columns} FROM {{keyspace}}.{table} WHERE customer_id = ?");
    let rows = match &history.after {
        None => {
            let first_page = format!("{select} LIMIT ?");
            session.fetch(&first_page, (partition, count)).await?
        }
        Some(NewestFirst {
            ordered_at,
            order_id,
        }) => {
            let next_page = format!("{select} AND (ordered_at_us, order_id) < (?, ?) LIMIT ?");
            let values = (partition, ordered_at.0, order_id, count);
            session.fetch(&next_page, values).await?
        }
    };
    Ok(rows)
}

fn summary(row: OrderRow, customer: &str) -> Result<OrderSummary, QueryError> {
    Ok(OrderSummary {
        id: row.order_id,
        kind: Kind::stored(&row.kind)?,
        invoice: row.invoice,
        customer: Some(customer.to_owned()),
        country: row.country,
        ordered_at: Timestamp(row.ordered_at_us).to_string(),
        total: Amount {
            amount: row.total,
            currency: row.currency,
        },
        line_count: row.line_count,
        version: row.version,
    })
}

/// The totals of the whole view. Reads the token ring from one end to the other, in parts.
///
/// The store has no snapshots, and rows are written during the scan. But each row carries the offset of its last write:
/// the position is read first, and rows that were written after this position are left out. An order that changed
/// during the scan is therefore missing. The totals then differ from the journal's, and the next attempt reads a later
/// position.
pub(super) async fn totals(databases: &Databases, partitions: i32) -> Result<TotalsAt, QueryError> {
    let build = databases.build::<OrdersByCustomer>()?;
    let session = &*databases.cql.session_within(CONNECT_TIMEOUT).await?;
    let position = read_position(session, build, ORDERS.topic).await?;
    let included = ScanPosition {
        position: &position,
        partitions,
    };
    let scans: Vec<_> = parts_of_the_ring()
        .map(|ends| scan(session, build, ends, included))
        .collect();
    let totals = stream::iter(scans)
        .buffer_unordered(SCANS_MAX)
        .try_fold(TotalsByCurrency::default(), |mut sums, part| async move {
            sums.add_all(&part)?;
            Ok(sums)
        })
        .await?;
    Ok(TotalsAt { position, totals })
}

/// The position up to which rows are counted.
#[derive(Clone, Copy)]
struct ScanPosition<'a> {
    position: &'a Position,
    /// The journal's number of partitions.
    partitions: i32,
}

impl ScanPosition<'_> {
    /// Whether an order was written at an offset before the position.
    fn includes(&self, order_id: &str, offset: i64) -> bool {
        let partition = kafka::partition::of_key(order_id.as_bytes(), self.partitions);
        let end = self.position.get(&partition);
        end.is_some_and(|end| offset < *end)
    }
}

/// The totals of the rows in one part of the ring that were written before the position.
async fn scan(
    session: &Session,
    build: Build,
    ends: (i64, i64),
    included: ScanPosition<'_>,
) -> Result<TotalsByCurrency, QueryError> {
    let scan = session.statement(&build.fill(SCAN));
    let pager = session.driver().execute_iter(scan, ends).await;
    let mut rows = pager
        .map_err(CqlError::from)?
        .rows_stream::<(String, String, String, i32, i64, i64)>()
        .map_err(CqlError::shape)?;
    let mut sums = TotalsByCurrency::default();
    while let Some(row) = rows.try_next().await.map_err(CqlError::from)? {
        let (order_id, kind, currency, line_count, total, written_at) = row;
        if !included.includes(&order_id, offset_of(written_at)) {
            continue;
        }
        let of_one = match Kind::stored(&kind)? {
            Kind::Sale => Totals::sale,
            Kind::CreditNote => Totals::credit_note,
        };
        order::add_totals(&mut sums, &currency, of_one(i64::from(line_count), total))?;
    }
    Ok(sums)
}

/// The first and the last token of each part of the ring. The ring spans all 64-bit numbers.
fn parts_of_the_ring() -> impl Iterator<Item = (i64, i64)> {
    let width = (1_i128 << 64) / i128::from(SCAN_PARTS);
    (0..SCAN_PARTS).map(move |part| {
        let from = i128::from(i64::MIN) + width * i128::from(part);
        let token = |position: i128| {
            i64::try_from(position).expect("the parts divide the range of 64-bit numbers evenly")
        };
        (token(from), token(from + width - 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_counts_if_it_was_written_before_the_position_of_its_partition() {
        let order = "order_777r0e32nyhckv7x9gth0rsrkq";
        let partition = kafka::partition::of_key(order.as_bytes(), 4);
        let others = (0..4).filter(|other| *other != partition);
        let mut position: Position = others.map(|other| (other, 100)).collect();
        let includes = |position: &Position, offset| {
            let scan = ScanPosition {
                position,
                partitions: 4,
            };
            scan.includes(order, offset)
        };
        assert!(!includes(&position, 0));
        position.insert(partition, 7);
        assert!(includes(&position, 6));
        assert!(!includes(&position, 7));
    }

    #[test]
    fn the_parts_cover_the_ring_without_gap_or_overlap() {
        let parts: Vec<_> = parts_of_the_ring().collect();
        assert_eq!(parts[0].0, i64::MIN);
        assert_eq!(parts.last().unwrap().1, i64::MAX);
        for pair in parts.windows(2) {
            assert_eq!(pair[0].1 + 1, pair[1].0);
        }
    }
}
