//! `GET /api/v1/customers/{id}/orders`.

use super::project::partition_of;
use crate::{
    cql::{Cql, CqlError, Session},
    order::{Header, Kind, OrderPage, OrderSummary},
    paging::{self, Cursor},
    problems::{QueryError, answer},
    totals::Totals,
};
use axum::{Json, extract::State};
use futures_util::{StreamExt, TryStreamExt, stream};
use schemas::Timestamp;
use serde::Deserialize;
use service::{
    extract::{ApiPath, ApiQuery},
    problem::Problem,
};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The ring is read in so many parts.
const SCAN_PARTS: i32 = 16;
/// Parts of it read at once.
const SCANS_MAX: usize = 4;

const FIRST_PAGE: &str = "SELECT order_id, kind, invoice, country, ordered_at_us, currency, total, \
    line_count, version FROM {keyspace}.orders_by_customer_v1 WHERE customer_id = ? LIMIT ?";
const NEXT_PAGE: &str = "SELECT order_id, kind, invoice, country, ordered_at_us, currency, total, \
    line_count, version FROM {keyspace}.orders_by_customer_v1 \
    WHERE customer_id = ? AND (ordered_at_us, order_id) < (?, ?) LIMIT ?";
const SCAN: &str = "SELECT kind, line_count, total FROM {keyspace}.orders_by_customer_v1 \
    WHERE token(customer_id) >= ? AND token(customer_id) <= ?";

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct HistoryQuery {
    /// How many, 1 to 100; 20 if it is left out.
    limit: Option<u16>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A row as [`FIRST_PAGE`] and [`NEXT_PAGE`] give it.
type Row = (String, String, String, String, i64, String, i64, i32, i64);

pub(super) fn routes() -> OpenApiRouter<Cql> {
    OpenApiRouter::new().routes(routes!(history))
}

/// One customer's orders and credit notes, newest first. A customer that nobody knows has none.
#[utoipa::path(get, path = "/customers/{id}/orders", tag = "orders",
    params(("id" = String, Path, description = "Opaque id of the customer", example = "17850"),
        HistoryQuery),
    responses(
        (status = 200, description = "One page.", body = OrderPage),
        (status = 400, description = "UNKNOWN_OR_INVALID_PARAMETER, INVALID_TEXT, INVALID_LIMIT \
            or INVALID_CURSOR.", body = Problem),
        (status = 503, description = "DATABASE_UNAVAILABLE.", body = Problem)))]
async fn history(
    State(cql): State<Cql>,
    ApiPath(customer): ApiPath<String>,
    ApiQuery(query): ApiQuery<HistoryQuery>,
) -> Result<Json<OrderPage>, Problem> {
    paging::text("id", &customer)?;
    let limit = paging::limit(query.limit)?;
    let after = paging::cursor(query.cursor.as_deref())?;
    let headers = answer(find(&cql, &customer, after, limit)).await?;
    let (headers, next_cursor) = paging::cut(headers, limit, |header| Cursor {
        ordered_at: header.ordered_at,
        id: header.id.clone(),
    });
    let orders = headers.into_iter().map(OrderSummary::from).collect();
    Ok(Json(OrderPage {
        orders,
        next_cursor,
    }))
}

/// One row more than the page, to know whether there is a next one.
async fn find(
    cql: &Cql,
    customer: &str,
    after: Option<Cursor>,
    limit: u16,
) -> Result<Vec<Header>, QueryError> {
    let session = cql.session()?;
    // Which time is given matters only to orders without a customer.
    let partition = partition_of(Some(customer), Timestamp::default());
    let count = i32::from(limit) + 1;
    let rows: Vec<Row> = match after {
        None => session.fetch(FIRST_PAGE, (partition, count)).await?,
        Some(Cursor { ordered_at, id }) => {
            let values = (partition, ordered_at.0, id, count);
            session.fetch(NEXT_PAGE, values).await?
        }
    };
    rows.into_iter().map(|row| header(row, customer)).collect()
}

fn header(row: Row, customer: &str) -> Result<Header, QueryError> {
    let (id, kind, invoice, country, ordered_at_us, currency, total, line_count, version) = row;
    Ok(Header {
        id,
        kind: known(&kind)?,
        invoice,
        customer: Some(customer.to_owned()),
        country,
        ordered_at: Timestamp(ordered_at_us),
        currency,
        total,
        line_count,
        version,
    })
}

fn known(kind: &str) -> Result<Kind, QueryError> {
    Kind::parse(kind).ok_or_else(|| QueryError::Value {
        column: "kind",
        value: kind.to_owned(),
    })
}

/// What the whole view adds up to: the ring is read from one end to the other, in parts.
pub async fn totals(session: &Session) -> Result<Totals, QueryError> {
    stream::iter(parts_of_the_ring())
        .map(|(from, to)| scan(session, from, to))
        .buffer_unordered(SCANS_MAX)
        .try_fold(Totals::default(), |sum, part| async move {
            Ok(Totals {
                invoices: sum.invoices + part.invoices,
                sales: sum.sales + part.sales,
                credit_notes: sum.credit_notes + part.credit_notes,
                lines: sum.lines + part.lines,
                total_minor: sum.total_minor + part.total_minor,
            })
        })
        .await
}

async fn scan(session: &Session, from: i64, to: i64) -> Result<Totals, QueryError> {
    let scan = session.statement(SCAN);
    let pager = session.driver().execute_iter(scan, (from, to)).await;
    let mut rows = pager
        .map_err(CqlError::from)?
        .rows_stream::<(String, i32, i64)>()
        .map_err(CqlError::shape)?;
    let mut totals = Totals::default();
    while let Some((kind, line_count, total)) = rows.try_next().await.map_err(CqlError::from)? {
        totals.invoices += 1;
        match known(&kind)? {
            Kind::Sale => totals.sales += 1,
            Kind::CreditNote => totals.credit_notes += 1,
        }
        totals.lines += i64::from(line_count);
        totals.total_minor += total;
    }
    Ok(totals)
}

/// Both ends of each part of the ring, which is all tokens: every 64-bit number.
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
    fn the_parts_cover_the_ring_without_gap_or_overlap() {
        let parts: Vec<_> = parts_of_the_ring().collect();
        assert_eq!(parts[0].0, i64::MIN);
        assert_eq!(parts.last().unwrap().1, i64::MAX);
        assert!(parts.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0));
    }
}
