//! `GET /api/v1/orders/{id}/timeline`.

use super::tables::{EntryRow, OrderTimeline};
use crate::{
    columns::{Columns, list},
    cql::CqlError,
    databases::Databases,
    order::{self, Amount},
    paging::{self, SortKey},
    problems::{ListProblems, QueryError, answer},
    registration::Queries,
    view::View,
};
use axum::{Json, extract::State};
use futures_util::TryStreamExt;
use schemas::Timestamp;
use serde::{Deserialize, Serialize};
use service::{
    extract::{ApiPath, ApiQuery},
    problem::Problem,
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

/// The parameters of the query string.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TimelineQuery {
    /// Events per page, 1 to 100; 20 by default.
    #[param(example = 20, minimum = 1, maximum = 100)]
    limit: Option<u16>,
    /// The `next_cursor` of the previous page.
    #[param(example = "cursor-of-the-next-page")]
    cursor: Option<String>,
}

/// The parameter in the path.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct OrderPath {
    /// TypeID of an order or a credit note.
    #[param(example = "order_01h455vb4pex5vsknk084sn02q")]
    id: String,
}

/// The sort key of the list, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ByVersion {
    /// The order's version after the event, from 1.
    pub version: i64,
}

/// A validated request.
struct Timeline {
    /// The name of this order's list: cursors of another list are rejected.
    list: String,
    order_id: String,
    limit: u16,
    after: Option<ByVersion>,
}

/// One event of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TimelineEntry {
    /// The order's version after the event.
    #[schema(example = 1)]
    pub version: i64,
    /// The event's name.
    #[schema(example = "SaleImported")]
    pub event: String,
    /// The time in the source: RFC 3339, in UTC.
    #[schema(example = "2010-12-01T08:26:00Z")]
    pub happened_at: String,
    /// The time at which the event was recorded: RFC 3339, in UTC.
    #[schema(example = "2026-01-31T08:26:00.000001Z")]
    pub recorded_at: String,
    /// The source's invoice number.
    #[schema(example = "536365")]
    pub invoice: String,
    /// Opaque id of the customer; null if the source has none.
    #[schema(example = "17850")]
    pub customer: Option<String>,
    /// The country, spelled as in the source.
    #[schema(example = "United Kingdom")]
    pub country: String,
    /// The order's total after the event; negative if money is refunded.
    pub total: Amount,
    /// Number of lines.
    #[schema(example = 7)]
    pub line_count: i32,
}

/// One page of an order's events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TimelinePage {
    /// The events, oldest first.
    pub events: Vec<TimelineEntry>,
    /// The `cursor` of the next page; null on the last page.
    #[schema(example = "cursor-of-the-next-page")]
    pub next_cursor: Option<String>,
}

pub(super) fn queries() -> Queries {
    vec![routes!(list_events_of_order)]
}

/// The events of an order or a credit note, oldest first.
///
/// A 400 has the code INVALID_ORDER_ID, or one of those below.
#[utoipa::path(get, path = "/orders/{id}/timeline", tag = "orders", params(OrderPath, TimelineQuery),
    responses(
        (status = 200, description = "One page.", body = TimelinePage),
        (status = 404, description = "ORDER_NOT_FOUND", body = Problem),
        ListProblems))]
async fn list_events_of_order(
    State(databases): State<Databases>,
    ApiPath(OrderPath { id }): ApiPath<OrderPath>,
    ApiQuery(query): ApiQuery<TimelineQuery>,
) -> Result<Json<TimelinePage>, Problem> {
    order::check_id(&id)?;
    let list = paging::list(OrderTimeline::NAME, &id);
    let timeline = Timeline {
        limit: paging::limit(query.limit)?,
        after: paging::cursor(&list, query.cursor.as_deref())?,
        list,
        order_id: id,
    };
    let page = answer(|| find_page(&databases, &timeline)).await?;
    // An order has at least one event. A page after a cursor is empty only if the client altered the cursor.
    match page.events.is_empty() && timeline.after.is_none() {
        true => Err(order::not_found(&timeline.order_id)),
        false => Ok(Json(page)),
    }
}

impl SortKey for ByVersion {
    fn is_valid(&self) -> bool {
        self.version > 0
    }
}

async fn find_page(databases: &Databases, timeline: &Timeline) -> Result<TimelinePage, QueryError> {
    let rows = find(databases, timeline).await?;
    let (rows, next_cursor) = paging::cut(&timeline.list, rows, timeline.limit, |row| ByVersion {
        version: row.version,
    });
    Ok(TimelinePage {
        events: rows.into_iter().map(entry).collect(),
        next_cursor,
    })
}

/// Reads one row more than the page, to know whether there is a next page. The driver's page size is that number of
/// rows, so neither the driver nor the store loads further events of the order.
async fn find(databases: &Databases, timeline: &Timeline) -> Result<Vec<EntryRow>, QueryError> {
    let build = databases.build::<OrderTimeline>()?;
    let session = databases.cql.session()?;
    let count = i32::from(timeline.limit) + 1;
    let (columns, table) = (list(EntryRow::all()), build.table(EntryRow::TABLE));
    // Versions count from 1.
    let after = timeline.after.as_ref().map_or(0, |after| after.version);
    let mut statement = session.statement(&format!(
        "SELECT {columns} FROM {{keyspace}}.{table} WHERE order_id = ? AND version > ? LIMIT ?"
    ));
    statement.set_page_size(count);
    let values = (&timeline.order_id, after, count);
    let pager = session.driver().execute_iter(statement, values).await;
    let rows = pager
        .map_err(CqlError::from)?
        .rows_stream::<EntryRow>()
        .map_err(CqlError::shape)?;
    Ok(rows.try_collect().await.map_err(CqlError::from)?)
}

fn entry(row: EntryRow) -> TimelineEntry {
    TimelineEntry {
        version: row.version,
        event: row.event,
        happened_at: Timestamp(row.happened_at_us).to_string(),
        recorded_at: Timestamp(row.recorded_at_us).to_string(),
        invoice: row.invoice,
        customer: row.customer_id,
        country: row.country,
        total: Amount {
            amount: row.total,
            currency: row.currency,
        },
        line_count: row.line_count,
    }
}
