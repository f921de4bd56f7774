//! `GET /api/v1/orders/{id}/timeline`.

use super::tables::{EventRow, OrderTimeline};
use crate::{
    columns::{Columns, list},
    cql::Cql,
    order::{self, Amount},
    paging::{self, SortKey},
    problems::{QueryError, answer},
    view::View,
};
use axum::{Json, extract::State};
use schemas::Timestamp;
use serde::{Deserialize, Serialize};
use service::{
    extract::{ApiPath, ApiQuery},
    problem::Problem,
};
use utoipa::{IntoParams, IntoResponses, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

/// The page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TimelineQuery {
    /// Events per page, 1 to 100; 20 by default.
    limit: Option<u16>,
    /// The `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// The order.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct OrderPath {
    /// TypeID of an order or a credit note.
    #[param(example = "order_01h455vb4pex5vsknk084sn02q")]
    id: String,
}

/// The sort key of the events of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ByVersion {
    /// From 1.
    pub version: i64,
}

impl SortKey for ByVersion {
    fn is_valid(&self) -> bool {
        self.version > 0
    }
}

/// A checked request.
struct Request {
    /// The name of this order's list.
    list: String,
    order_id: String,
    limit: u16,
    after: Option<ByVersion>,
}

/// One event of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TimelineEvent {
    /// The order's version after the event; versions count events, so the first has 1.
    #[schema(example = 1)]
    pub version: i64,
    /// The event's name.
    #[schema(example = "SaleImported")]
    pub event: String,
    /// The time that the event states: RFC 3339, in UTC.
    #[schema(example = "2010-12-01T08:26:00Z")]
    pub occurred_at: String,
    /// The order's total after the event; negative if money is given back.
    pub total: Amount,
}

/// One page of an order's events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Timeline {
    /// First event first.
    pub events: Vec<TimelineEvent>,
    /// The `cursor` of the next page; null on the last page.
    pub next_cursor: Option<String>,
}

/// The errors of a query for the events of one order.
#[derive(IntoResponses)]
pub enum TimelineProblems {
    /// UNKNOWN_OR_INVALID_PARAMETER, INVALID_ORDER_ID, INVALID_LIMIT or INVALID_CURSOR.
    #[response(status = 400)]
    Refused(Problem),
    /// ORDER_NOT_FOUND.
    #[response(status = 404)]
    NotFound(Problem),
    /// DATABASE_UNAVAILABLE.
    #[response(status = 503)]
    Unavailable(Problem),
}

pub(super) fn routes() -> OpenApiRouter<Cql> {
    OpenApiRouter::new().routes(routes!(get_timeline))
}

/// The events of one order or credit note, first event first.
#[utoipa::path(get, path = "/orders/{id}/timeline", tag = "orders",
    params(OrderPath, TimelineQuery),
    responses((status = 200, description = "One page.", body = Timeline), TimelineProblems))]
async fn get_timeline(
    State(cql): State<Cql>,
    ApiPath(OrderPath { id }): ApiPath<OrderPath>,
    ApiQuery(query): ApiQuery<TimelineQuery>,
) -> Result<Json<Timeline>, Problem> {
    let request = Request::check(id, query)?;
    let page = answer(find_page(&cql, &request)).await?;
    // Every order has an event, but none may follow the last page.
    if page.events.is_empty() && request.after.is_none() {
        return Err(order::not_found(&request.order_id));
    }
    Ok(Json(page))
}

impl Request {
    fn check(order_id: String, query: TimelineQuery) -> Result<Self, Problem> {
        order::check_id(&order_id)?;
        let list = paging::list(OrderTimeline::NAME, &order_id);
        Ok(Self {
            order_id,
            limit: paging::limit(query.limit)?,
            after: paging::cursor(&list, query.cursor.as_deref())?,
            list,
        })
    }
}

async fn find_page(cql: &Cql, request: &Request) -> Result<Timeline, QueryError> {
    let rows = find(cql, request).await?;
    let key = |row: &EventRow| ByVersion {
        version: row.version,
    };
    let (rows, next_cursor) = paging::cut(&request.list, rows, request.limit, key);
    let events = rows.into_iter().map(|row| TimelineEvent {
        version: row.version,
        event: row.event,
        occurred_at: Timestamp(row.occurred_at_us).to_string(),
        total: Amount {
            amount: row.total,
            currency: row.currency,
        },
    });
    Ok(Timeline {
        events: events.collect(),
        next_cursor,
    })
}

/// Reads one row more than the page, to know whether there is a next page.
async fn find(cql: &Cql, request: &Request) -> Result<Vec<EventRow>, QueryError> {
    let (columns, table) = (list(EventRow::all()), EventRow::TABLE);
    let statement = format!(
        "SELECT {columns} FROM {{keyspace}}.{table} WHERE order_id = ? AND version > ? LIMIT ?"
    );
    // Versions begin at 1.
    let after = request.after.as_ref().map_or(0, |after| after.version);
    let values = (&request.order_id, after, i32::from(request.limit) + 1);
    Ok(cql.session()?.fetch(&statement, values).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = "order_01h455vb4pex5vsknk084sn02q";

    fn check(id: &str, cursor: Option<String>) -> Result<Request, Problem> {
        let limit = None;
        Request::check(id.to_owned(), TimelineQuery { limit, cursor })
    }

    #[test]
    fn an_id_of_something_else_is_refused() {
        for id in ["17850", "product_85123A", "order_1"] {
            let refused = check(id, None).err().map(|problem| problem.code);
            assert_eq!(refused, Some("INVALID_ORDER_ID"), "{id}");
        }
    }

    #[test]
    fn a_cursor_of_another_order_is_refused() {
        let page = check(ORDER, None).unwrap();
        let cursor = paging::encode(&page.list, &ByVersion { version: 20 });
        let next = check(ORDER, Some(cursor.clone())).unwrap();
        assert_eq!(next.after, Some(ByVersion { version: 20 }));
        let other = ORDER.replace("order_", "creditnote_");
        let refused = check(&other, Some(cursor)).err();
        let refused = refused.map(|problem| problem.code);
        assert_eq!(refused, Some("INVALID_CURSOR"));
    }
}
