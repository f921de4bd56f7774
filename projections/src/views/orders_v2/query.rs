//! `GET /api/v1/orders` and `GET /api/v1/orders/{id}`.

use super::tables::{LineRow, OrderRow, OrdersView};
use crate::{
    builds::Build,
    columns::{Columns, list},
    conditional::Versioned,
    databases::Databases,
    order::{self, Amount, Kind, OrderPage, OrderSummary},
    paging::{self, NewestFirst},
    postgres::{Instant, read_position},
    problems::{ListProblems, QueryError, ResourceProblems, answer, answer_filtered},
    registration::Queries,
    view::View,
};
use axum::{Json, extract::State, http::StatusCode};
use schemas::{Timestamp, Totals, TotalsAt, TotalsByCurrency, context::ORDERS};
use serde::{Deserialize, Serialize};
use service::{
    extract::{ApiPath, ApiQuery, NoParameters},
    problem::Problem,
};
use sqlx::{AssertSqlSafe, FromRow, PgPool, Postgres, QueryBuilder};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

/// The filters that reduce the number of rows that the list reads.
const SELECTIVE_FILTERS: [&str; 4] = ["customer", "country", "from", "to"];

/// The parameters of the list: filters and page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only orders of this customer.
    #[param(example = "17850")]
    customer: Option<String>,
    /// Only orders of this country, in the source's spelling.
    #[param(example = "United Kingdom")]
    country: Option<String>,
    /// Only sales, or only credit notes.
    #[param(inline, example = "SALE")]
    kind: Option<Kind>,
    /// Only orders from this time (RFC 3339) on.
    #[param(example = "2010-12-01T00:00:00Z")]
    from: Option<String>,
    /// Only orders before this time (RFC 3339).
    #[param(example = "2010-12-02T00:00:00Z")]
    to: Option<String>,
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
struct OrderPath {
    /// TypeID of an order or a credit note.
    #[param(example = "order_01h455vb4pex5vsknk084sn02q")]
    id: String,
}

/// A validated [`ListQuery`].
#[derive(Debug)]
struct Filter {
    /// The name of the list with these filters: cursors of another list are rejected.
    list: String,
    customer: Option<String>,
    country: Option<String>,
    kind: Option<Kind>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    limit: u16,
    after: Option<NewestFirst>,
}

/// An order or credit note with its lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OrderDetail {
    /// The order without its lines.
    #[serde(flatten)]
    pub order: OrderSummary,
    /// The lines, in the source's order.
    pub lines: Vec<OrderLine>,
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OrderLine {
    /// The product.
    #[schema(example = "85123A")]
    pub sku: String,
    /// The source's description; null if the source has none.
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

pub(super) fn queries() -> Queries {
    vec![routes!(list_orders), routes!(get_order)]
}

/// Orders and credit notes, newest first.
#[utoipa::path(get, path = "/orders", tag = "orders", params(ListQuery), responses(
    (status = 200, description = "One page.", body = OrderPage), ListProblems))]
async fn list_orders(
    State(databases): State<Databases>,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Json<OrderPage>, Problem> {
    let filter = Filter::check(query)?;
    answer_filtered(&SELECTIVE_FILTERS, || find_page(&databases, &filter))
        .await
        .map(Json)
}

/// One order or credit note with its lines.
///
/// A malformed id has the code INVALID_ORDER_ID.
#[utoipa::path(get, path = "/orders/{id}", tag = "orders", params(OrderPath), responses(
    (status = 200, description = "The order.", body = OrderDetail),
    (status = 404, description = "ORDER_NOT_FOUND: no order or credit note has this id.", body = Problem),
    ResourceProblems))]
async fn get_order(
    State(databases): State<Databases>,
    ApiPath(OrderPath { id }): ApiPath<OrderPath>,
    ApiQuery(NoParameters {}): ApiQuery<NoParameters>,
) -> Result<Versioned<OrderDetail>, Problem> {
    order::check_id(&id)?;
    let found = answer(|| find_one(&databases, &id)).await?;
    let body = found.ok_or_else(|| order::not_found(&id))?;
    Ok(Versioned {
        version: body.order.version,
        body,
    })
}

impl Filter {
    fn check(query: ListQuery) -> Result<Self, Problem> {
        let text = |name, text: Option<&str>| text.map(|text| paging::text(name, text)).transpose();
        let time = |name, text: Option<&str>| text.map(|text| paging::time(name, text)).transpose();
        let customer = text("customer", query.customer.as_deref())?;
        let country = text("country", query.country.as_deref())?;
        let from = time("from", query.from.as_deref())?;
        let to = time("to", query.to.as_deref())?;
        let kind = query.kind.map(Kind::as_str);
        let list = paging::list(OrdersView::NAME, &(&customer, &country, kind, from, to));
        Ok(Self {
            customer,
            country,
            kind: query.kind,
            from,
            to,
            limit: paging::limit(query.limit)?,
            after: paging::cursor(&list, query.cursor.as_deref())?,
            list,
        })
    }
}

async fn find_page(databases: &Databases, filter: &Filter) -> Result<OrderPage, QueryError> {
    let rows = find(databases, filter).await?;
    let (rows, next_cursor) = paging::cut(&filter.list, rows, filter.limit, |row| NewestFirst {
        ordered_at: row.ordered_at.0,
        order_id: row.order_id.clone(),
    });
    let orders = rows.into_iter().map(summary).collect::<Result<_, _>>()?;
    Ok(OrderPage {
        orders,
        next_cursor,
    })
}

async fn find(databases: &Databases, filter: &Filter) -> Result<Vec<OrderRow>, QueryError> {
    let build = databases.build::<OrdersView>()?;
    let mut query = QueryBuilder::new("");
    push_page(&mut query, build, filter);
    let rows = query.build_query_as().fetch_all(&databases.postgres);
    Ok(rows.await?)
}

/// Appends the statement of a page. It reads one row more than the page, to know whether there is a next page.
///
/// The statement is a union of one part per kind, each with the sort order and the limit of the page. The index of a
/// part begins with the columns that the filters compare for equality (the kind included) and ends with the sort key,
/// so a part reads only the rows that it returns. A statement over both kinds would need two more indexes for this.
fn push_page(query: &mut QueryBuilder<Postgres>, build: Build, filter: &Filter) {
    const NEWEST_FIRST: &str = " ORDER BY ordered_at DESC, order_id DESC LIMIT ";
    let count = filter.limit + 1;
    let columns = list(OrderRow::all());
    let kinds = match filter.kind {
        Some(kind) => vec![kind],
        None => vec![Kind::Sale, Kind::CreditNote],
    };
    query.push("SELECT ").push(columns).push(" FROM (");
    for (index, kind) in kinds.into_iter().enumerate() {
        if index > 0 {
            query.push(" UNION ALL ");
        }
        query.push("(");
        push_part(query, build, filter, kind);
        // The limit is a literal, because the plan depends on it.
        query.push(NEWEST_FIRST).push(count).push(")");
    }
    query.push(") AS parts").push(NEWEST_FIRST).push(count);
}

/// Appends the rows of one kind that match the filter and follow the cursor.
fn push_part(query: &mut QueryBuilder<Postgres>, build: Build, filter: &Filter, kind: Kind) {
    let (columns, table) = (list(OrderRow::all()), build.table(OrderRow::TABLE));
    let kind = kind.as_str();
    query.push(format!(
        "SELECT {columns} FROM {table} WHERE kind = '{kind}'"
    ));
    if let Some(customer) = &filter.customer {
        query
            .push(" AND customer_id = ")
            .push_bind(customer.clone());
    }
    if let Some(country) = &filter.country {
        query.push(" AND country = ").push_bind(country.clone());
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
            .push_bind(after.order_id.clone())
            .push(")");
    }
}

/// The plan of a build's first page, as returned by `EXPLAIN (ANALYZE, FORMAT JSON)`. `filters` is a query string, such
/// as `country=France&kind=SALE`.
///
/// # Errors
/// The filters are invalid, or the query fails.
pub async fn explain_page(
    pool: &PgPool,
    build: Build,
    filters: &str,
) -> Result<serde_json::Value, Problem> {
    let uri = format!("/orders?{filters}").parse().map_err(|_| {
        let detail = "pass filters in the form of a URL's query string";
        Problem::new(StatusCode::BAD_REQUEST, "INVALID_TEXT", detail)
    })?;
    let query = axum::extract::Query::try_from_uri(&uri).map_err(|rejection| {
        let status = StatusCode::BAD_REQUEST;
        Problem::new(
            status,
            "UNKNOWN_OR_INVALID_PARAMETER",
            rejection.body_text(),
        )
    })?;
    let filter = Filter::check(query.0)?;
    let explain = || async {
        let mut query = QueryBuilder::new("EXPLAIN (ANALYZE, FORMAT JSON) ");
        push_page(&mut query, build, &filter);
        Ok::<_, QueryError>(query.build_query_scalar().fetch_one(pool).await?)
    };
    answer(explain).await
}

/// An order joined with one of its lines.
#[derive(FromRow)]
struct OrderAndLine {
    #[sqlx(flatten)]
    order: OrderRow,
    #[sqlx(flatten)]
    line: LineRow,
}

/// Reads the order and its lines with one statement, so that both have the same version.
async fn find_one(databases: &Databases, id: &str) -> Result<Option<OrderDetail>, QueryError> {
    let build = databases.build::<OrdersView>()?;
    let (orders, lines) = (build.table(OrderRow::TABLE), build.table(LineRow::TABLE));
    let statement = format!(
        "SELECT o.order_id, kind, invoice, customer_id, country, ordered_at, currency, total, \
             line_count, version, line_number, sku, description, quantity, unit_price, amount \
         FROM {orders} o JOIN {lines} l ON l.order_id = o.order_id \
         WHERE o.order_id = $1 ORDER BY line_number"
    );
    let rows: Vec<OrderAndLine> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(id)
        .fetch_all(&databases.postgres)
        .await?;
    let Some(OrderAndLine { order, .. }) = rows.first() else {
        return Ok(None);
    };
    let order = summary(order.clone())?;
    let currency = order.total.currency.clone();
    let lines = rows.into_iter().map(|row| order_line(row.line, &currency));
    let lines = lines.collect();
    Ok(Some(OrderDetail { order, lines }))
}

fn summary(row: OrderRow) -> Result<OrderSummary, QueryError> {
    Ok(OrderSummary {
        id: row.order_id,
        kind: Kind::stored(&row.kind)?,
        invoice: row.invoice,
        customer: row.customer_id,
        country: row.country,
        ordered_at: row.ordered_at.0.to_string(),
        total: Amount {
            amount: row.total,
            currency: row.currency,
        },
        line_count: row.line_count,
        version: row.version,
    })
}

fn order_line(row: LineRow, currency: &str) -> OrderLine {
    OrderLine {
        sku: row.sku,
        description: row.description,
        quantity: row.quantity,
        unit_price_millionths: row.unit_price,
        amount: Amount::new(row.amount, currency),
    }
}

/// The totals of the whole view. The amounts are summed over the lines, which checks the orders' own totals. Rows and
/// checkpoints are read in one snapshot, so the totals belong exactly to the returned position.
pub(super) async fn totals(databases: &Databases) -> Result<TotalsAt, QueryError> {
    let build = databases.build::<OrdersView>()?;
    let (orders, lines) = (build.table(OrderRow::TABLE), build.table(LineRow::TABLE));
    let mut transaction = databases.postgres.begin().await?;
    for setting in [
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        // All rows are read, which may take longer than the usual timeout.
        "SET LOCAL statement_timeout = '10min'",
    ] {
        sqlx::query(setting).execute(&mut *transaction).await?;
    }
    let position = read_position(build, ORDERS.topic, &mut transaction).await?;
    let mut totals = TotalsByCurrency::default();
    let statement = format!(
        "SELECT currency, count(*) FILTER (WHERE kind = 'SALE'), \
             count(*) FILTER (WHERE kind = 'CREDIT_NOTE') \
         FROM {orders} GROUP BY currency"
    );
    let of_currencies: Vec<(String, i64, i64)> = sqlx::query_as(AssertSqlSafe(statement))
        .fetch_all(&mut *transaction)
        .await?;
    for (currency, sales, credit_notes) in of_currencies {
        let of_orders = Totals {
            invoices: sales + credit_notes,
            sales,
            credit_notes,
            ..Totals::default()
        };
        order::add_totals(&mut totals, &currency, of_orders)?;
    }
    let statement = format!(
        "SELECT currency, count(*), sum(amount)::bigint \
         FROM {lines} LEFT JOIN {orders} USING (order_id) GROUP BY currency"
    );
    let of_lines: Vec<(Option<String>, i64, i64)> = sqlx::query_as(AssertSqlSafe(statement))
        .fetch_all(&mut *transaction)
        .await?;
    for (currency, lines, total_minor) in of_lines {
        let of_lines = Totals {
            lines,
            total_minor,
            ..Totals::default()
        };
        // Lines without an order have no currency.
        order::add_totals(&mut totals, &currency.unwrap_or_default(), of_lines)?;
    }
    transaction.commit().await?;
    Ok(TotalsAt { position, totals })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(query: &str) -> ListQuery {
        let uri = format!("/orders?{query}").parse().unwrap();
        axum::extract::Query::try_from_uri(&uri).unwrap().0
    }

    #[test]
    fn a_cursor_is_accepted_only_with_the_filters_of_its_page() {
        let key = NewestFirst {
            ordered_at: Timestamp(1),
            order_id: "order_1".into(),
        };
        let filters = [
            "",
            "country=France",
            "country=EIRE",
            "customer=France",
            "kind=SALE",
            "from=2010-12-01T00:00:00Z",
            "to=2010-12-01T00:00:00Z",
        ];
        for of_page in filters {
            let page = Filter::check(query(of_page)).unwrap();
            let cursor = paging::encode(&page.list, &key);
            for filter in filters {
                let next = Filter::check(query(&format!("{filter}&limit=7&cursor={cursor}")));
                match filter == of_page {
                    true => assert_eq!(next.unwrap().after.as_ref(), Some(&key), "{filter}"),
                    false => assert_eq!(next.unwrap_err().code, "INVALID_CURSOR", "{filter}"),
                }
            }
        }
    }
}
