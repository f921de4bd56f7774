//! `GET /api/v1/orders` and `GET /api/v1/orders/{id}`.

use crate::{
    order::{self, Amount, Header, Kind, OrderPage, OrderSummary},
    paging::{self, Cursor},
    postgres::instant::Instant,
    problems::{QueryError, answer},
    totals::Totals,
};
use axum::{Json, extract::State, http::StatusCode};
use schemas::Timestamp;
use serde::{Deserialize, Serialize};
use service::{
    extract::{ApiPath, ApiQuery},
    problem::Problem,
};
use sqlx::{PgPool, Postgres, QueryBuilder, Row, postgres::PgRow};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Which orders, and which page of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only this customer's.
    #[param(example = "17850")]
    customer: Option<String>,
    /// Only of this country, as the source names it.
    #[param(example = "United Kingdom")]
    country: Option<String>,
    /// Only sales, or only credit notes.
    #[param(inline)]
    kind: Option<Kind>,
    /// Only those of this time (RFC 3339) or later.
    #[param(example = "2010-12-01T00:00:00Z")]
    from: Option<String>,
    /// Only those before this time (RFC 3339).
    #[param(example = "2010-12-02T00:00:00Z")]
    to: Option<String>,
    /// How many, 1 to 100; 20 if it is left out.
    limit: Option<u16>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The same, checked.
struct Filter {
    customer: Option<String>,
    country: Option<String>,
    kind: Option<Kind>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    limit: u16,
    after: Option<Cursor>,
}

/// An order or credit note with its lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OrderDetail {
    /// What a list shows of it.
    #[serde(flatten)]
    pub order: OrderSummary,
    /// In the order of the source.
    pub lines: Vec<OrderLine>,
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OrderLine {
    /// What was sold.
    #[schema(example = "85123A")]
    pub sku: String,
    /// As the source words it; null where it has none.
    #[schema(example = "WHITE HANGING HEART T-LIGHT HOLDER")]
    pub description: Option<String>,
    /// Pieces, signed.
    #[schema(example = 6)]
    pub quantity: i64,
    /// Price of one piece in millionths of the major unit, signed.
    #[schema(example = 2_550_000)]
    pub unit_price_millionths: i64,
    /// Quantity x unit price, rounded half to even.
    pub amount: Amount,
}

pub(super) fn routes() -> OpenApiRouter<PgPool> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(one))
}

/// Orders and credit notes, newest first.
#[utoipa::path(get, path = "/orders", tag = "orders", params(ListQuery), responses(
    (status = 200, description = "One page.", body = OrderPage),
    (status = 400, description = "UNKNOWN_OR_INVALID_PARAMETER, INVALID_TIME, INVALID_TEXT, \
        INVALID_LIMIT or INVALID_CURSOR.", body = Problem),
    (status = 503, description = "DATABASE_UNAVAILABLE.", body = Problem)))]
async fn list(
    State(pool): State<PgPool>,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Json<OrderPage>, Problem> {
    let filter = Filter::check(query)?;
    let headers = answer(find(&pool, &filter)).await?;
    let (headers, next_cursor) = paging::cut(headers, filter.limit, |header| Cursor {
        ordered_at: header.ordered_at,
        id: header.id.clone(),
    });
    let orders = headers.into_iter().map(OrderSummary::from).collect();
    Ok(Json(OrderPage {
        orders,
        next_cursor,
    }))
}

/// One order or credit note with its lines.
#[utoipa::path(get, path = "/orders/{id}", tag = "orders",
    params(("id" = String, Path, description = "TypeID of an order or a credit note",
        example = "order_01h455vb4pex5vsknk084sn02q")),
    responses(
        (status = 200, description = "The order.", body = OrderDetail),
        (status = 400, description = "INVALID_ORDER_ID.", body = Problem),
        (status = 404, description = "ORDER_NOT_FOUND.", body = Problem),
        (status = 503, description = "DATABASE_UNAVAILABLE.", body = Problem)))]
async fn one(
    State(pool): State<PgPool>,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<OrderDetail>, Problem> {
    if !order::is_id(&id) {
        let detail = "an order's id is order_ or creditnote_ and 26 characters";
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "INVALID_ORDER_ID",
            detail,
        ));
    }
    let found = answer(find_one(&pool, &id)).await?;
    found.map(Json).ok_or_else(|| {
        let detail = format!("there is no order {id}");
        Problem::new(StatusCode::NOT_FOUND, "ORDER_NOT_FOUND", detail)
    })
}

impl Filter {
    fn check(query: ListQuery) -> Result<Self, Problem> {
        for (name, text) in [("customer", &query.customer), ("country", &query.country)] {
            if let Some(text) = text {
                paging::text(name, text)?;
            }
        }
        let time = |name, text: Option<&str>| text.map(|text| paging::time(name, text)).transpose();
        Ok(Self {
            from: time("from", query.from.as_deref())?,
            to: time("to", query.to.as_deref())?,
            limit: paging::limit(query.limit)?,
            after: paging::cursor(query.cursor.as_deref())?,
            customer: query.customer,
            country: query.country,
            kind: query.kind,
        })
    }
}

/// One row more than the page, to know whether there is a next one. Only the conditions asked for
/// are in the statement, so that each is planned with its own index.
async fn find(pool: &PgPool, filter: &Filter) -> Result<Vec<Header>, QueryError> {
    let mut query = QueryBuilder::<Postgres>::new(
        "SELECT order_id, kind, invoice, customer_id, country, ordered_at, currency, total, \
         line_count, version FROM orders_v1 WHERE true",
    );
    if let Some(customer) = &filter.customer {
        query.push(" AND customer_id = ").push_bind(customer);
    }
    if let Some(country) = &filter.country {
        query.push(" AND country = ").push_bind(country);
    }
    if let Some(kind) = filter.kind {
        query.push(" AND kind = ").push_bind(kind.as_str());
    }
    if let Some(from) = filter.from {
        query.push(" AND ordered_at >= ").push_bind(Instant(from));
    }
    if let Some(to) = filter.to {
        query.push(" AND ordered_at < ").push_bind(Instant(to));
    }
    if let Some(after) = &filter.after {
        query
            .push(" AND (ordered_at, order_id) < (")
            .push_bind(Instant(after.ordered_at))
            .push(", ")
            .push_bind(&after.id)
            .push(")");
    }
    query
        .push(" ORDER BY ordered_at DESC, order_id DESC LIMIT ")
        .push_bind(i64::from(filter.limit) + 1);
    let rows = query.build().fetch_all(pool).await?;
    rows.iter().map(header).collect()
}

/// In one statement, so that the order and its lines are of one version.
async fn find_one(pool: &PgPool, id: &str) -> Result<Option<OrderDetail>, QueryError> {
    let rows = sqlx::query(
        "SELECT o.order_id, kind, invoice, customer_id, country, ordered_at, currency, total, \
             line_count, version, l.sku, l.description, l.quantity, l.unit_price, l.amount \
         FROM orders_v1 o JOIN orders_v1_lines l ON l.order_id = o.order_id \
         WHERE o.order_id = $1 ORDER BY l.line_number",
    )
    .bind(id)
    .fetch_all(pool)
    .await?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let header = header(first)?;
    let lines = rows.iter().map(|row| line(row, &header.currency));
    let lines = lines.collect::<Result<_, _>>()?;
    let order = OrderSummary::from(header);
    Ok(Some(OrderDetail { order, lines }))
}

fn header(row: &PgRow) -> Result<Header, QueryError> {
    let kind: String = row.try_get("kind")?;
    let Instant(ordered_at) = row.try_get("ordered_at")?;
    Ok(Header {
        id: row.try_get("order_id")?,
        kind: Kind::parse(&kind).ok_or(QueryError::Value {
            column: "kind",
            value: kind,
        })?,
        invoice: row.try_get("invoice")?,
        customer: row.try_get("customer_id")?,
        country: row.try_get("country")?,
        ordered_at,
        currency: row.try_get("currency")?,
        total: row.try_get("total")?,
        line_count: row.try_get("line_count")?,
        version: row.try_get("version")?,
    })
}

fn line(row: &PgRow, currency: &str) -> Result<OrderLine, QueryError> {
    Ok(OrderLine {
        sku: row.try_get("sku")?,
        description: row.try_get("description")?,
        quantity: row.try_get("quantity")?,
        unit_price_millionths: row.try_get("unit_price")?,
        amount: Amount::new(row.try_get("amount")?, currency),
    })
}

/// What the whole view adds up to. The money is summed from the lines, so that it checks the orders'
/// own totals.
pub async fn totals(pool: &PgPool) -> Result<Totals, QueryError> {
    let mut transaction = pool.begin().await?;
    // All rows are read, which may take longer than a query is given.
    sqlx::query("SET LOCAL statement_timeout = '10min'")
        .execute(&mut *transaction)
        .await?;
    let row = sqlx::query(
        "SELECT count(*) AS invoices, \
             count(*) FILTER (WHERE kind = 'SALE') AS sales, \
             count(*) FILTER (WHERE kind = 'CREDIT_NOTE') AS credit_notes, \
             (SELECT count(*) FROM orders_v1_lines) AS lines, \
             (SELECT coalesce(sum(amount), 0)::bigint FROM orders_v1_lines) AS total_minor \
         FROM orders_v1",
    )
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(Totals {
        invoices: row.try_get("invoices")?,
        sales: row.try_get("sales")?,
        credit_notes: row.try_get("credit_notes")?,
        lines: row.try_get("lines")?,
        total_minor: row.try_get("total_minor")?,
    })
}
