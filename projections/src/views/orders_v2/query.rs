//! `GET /api/v1/orders` and `GET /api/v1/orders/{id}`.

use super::tables::{LineRow, OrderRow, OrdersView};
use crate::{
    columns::{Columns, join, list},
    order::{self, Amount, Kind, OrderPage, OrderProblems, OrderSummary},
    paging::{self, NewestFirst},
    postgres::{Instant, read_position},
    problems::{ListProblems, QueryError, answer, answer_list},
    view::View,
};
use axum::{Json, extract::State};
use schemas::{Timestamp, Totals, TotalsAt, TotalsByCurrency, context::ORDERS};
use serde::{Deserialize, Serialize};
use service::{
    extract::{ApiPath, ApiQuery},
    problem::Problem,
};
use sqlx::{FromRow, PgPool, Postgres, QueryBuilder};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Filters, and the page.
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
    #[param(inline)]
    kind: Option<Kind>,
    /// Only orders at this time (RFC 3339) or later.
    #[param(example = "2010-12-01T00:00:00Z")]
    from: Option<String>,
    /// Only orders before this time (RFC 3339).
    #[param(example = "2010-12-02T00:00:00Z")]
    to: Option<String>,
    /// Orders per page, 1 to 100; 20 by default.
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

/// A checked [`ListQuery`].
#[derive(Debug)]
struct Filter {
    /// The name of the list with these filters.
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
    /// In the order of the source.
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

pub(super) fn routes() -> OpenApiRouter<PgPool> {
    OpenApiRouter::new()
        .routes(routes!(list_orders))
        .routes(routes!(get_order))
}

/// Orders and credit notes, newest first.
#[utoipa::path(get, path = "/orders", tag = "orders", params(ListQuery), responses(
    (status = 200, description = "One page.", body = OrderPage), ListProblems))]
async fn list_orders(
    State(pool): State<PgPool>,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Json<OrderPage>, Problem> {
    let filter = Filter::check(query)?;
    let narrower = filter.narrower();
    answer_list(find_page(&pool, &filter), &narrower)
        .await
        .map(Json)
}

/// One order or credit note with its lines.
#[utoipa::path(get, path = "/orders/{id}", tag = "orders", params(OrderPath), responses(
    (status = 200, description = "The order.", body = OrderDetail), OrderProblems))]
async fn get_order(
    State(pool): State<PgPool>,
    ApiPath(OrderPath { id }): ApiPath<OrderPath>,
) -> Result<Json<OrderDetail>, Problem> {
    order::check_id(&id)?;
    let found = answer(find_one(&pool, &id)).await?;
    found.map(Json).ok_or_else(|| order::not_found(&id))
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

impl Filter {
    /// How a client asks for less: the filters that it did not pass, or the range of time.
    fn narrower(&self) -> String {
        let filters = [
            ("`customer`", self.customer.is_none()),
            ("`country`", self.country.is_none()),
            ("`from`", self.from.is_none()),
            ("`to`", self.to.is_none()),
        ];
        let missing = filters.iter().filter(|(_, is_missing)| *is_missing);
        let missing = join(missing.map(|(name, _)| *name), ", or ");
        match missing.is_empty() {
            true => "pass a later `from` or an earlier `to`".to_owned(),
            false => format!("narrow the list: pass {missing}"),
        }
    }
}

async fn find_page(pool: &PgPool, filter: &Filter) -> Result<OrderPage, QueryError> {
    let rows = find(pool, filter).await?;
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

/// Reads one row more than the page, to know whether there is a next page.
async fn find(pool: &PgPool, filter: &Filter) -> Result<Vec<OrderRow>, QueryError> {
    let mut query = page_query(filter);
    Ok(query.build_query_as().fetch_all(pool).await?)
}

/// The statement for a page: one page of each kind, merged. Every index begins with the columns of equal values and
/// the kind, so each part reads at most a page, whatever filters are combined.
fn page_query(filter: &Filter) -> QueryBuilder<Postgres> {
    let kinds = Kind::ALL.into_iter();
    let kinds = kinds.filter(|kind| filter.kind.is_none_or(|wanted| wanted == *kind));
    let columns = list(OrderRow::all());
    let mut query = QueryBuilder::new(format!("SELECT {columns} FROM ("));
    for (index, kind) in kinds.enumerate() {
        if index > 0 {
            query.push(" UNION ALL ");
        }
        query.push("(");
        push_page_of_kind(&mut query, kind, filter);
        query.push(")");
    }
    query.push(") AS pages");
    push_order(&mut query, filter);
    query
}

/// The statement has only the conditions of the query, so Postgres can plan it with the index for them.
fn push_page_of_kind(query: &mut QueryBuilder<Postgres>, kind: Kind, filter: &Filter) {
    let (columns, table) = (list(OrderRow::all()), OrderRow::TABLE);
    query
        .push(format!("SELECT {columns} FROM {table} WHERE kind = "))
        .push_bind(kind.as_str());
    if let Some(customer) = &filter.customer {
        query.push(" AND customer_id = ").push_bind(customer);
    }
    if let Some(country) = &filter.country {
        query.push(" AND country = ").push_bind(country);
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
            .push_bind(&after.order_id)
            .push(")");
    }
    push_order(query, filter);
}

/// The order of the list, and one row more than the page.
fn push_order(query: &mut QueryBuilder<Postgres>, filter: &Filter) {
    query
        .push(" ORDER BY ordered_at DESC, order_id DESC LIMIT ")
        .push_bind(i64::from(filter.limit) + 1);
}

/// An order joined with one of its lines.
#[derive(FromRow)]
struct OrderAndLine {
    #[sqlx(flatten)]
    order: OrderRow,
    #[sqlx(flatten)]
    line: LineRow,
}

/// Reads with one statement, so that the order and its lines have the same version.
async fn find_one(pool: &PgPool, id: &str) -> Result<Option<OrderDetail>, QueryError> {
    let rows: Vec<OrderAndLine> = sqlx::query_as(
        "SELECT o.order_id, kind, invoice, customer_id, country, ordered_at, currency, total, \
             line_count, version, line_number, sku, description, quantity, unit_price, amount \
         FROM orders_v2 o JOIN orders_v2_lines l ON l.order_id = o.order_id \
         WHERE o.order_id = $1 ORDER BY line_number",
    )
    .bind(id)
    .fetch_all(pool)
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

/// The totals of the whole view. The money is summed over the lines, which checks the orders' own totals. Rows and
/// checkpoints are read in one snapshot, so the totals are exactly those at the position.
pub(super) async fn totals(pool: &PgPool) -> Result<TotalsAt, QueryError> {
    let mut transaction = pool.begin().await?;
    for setting in [
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        // All rows are read, which may take longer than the usual timeout.
        "SET LOCAL statement_timeout = '10min'",
    ] {
        sqlx::query(setting).execute(&mut *transaction).await?;
    }
    let position = read_position(OrdersView::NAME, ORDERS.topic, &mut transaction).await?;
    let mut totals = TotalsByCurrency::default();
    let orders: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT currency, count(*) FILTER (WHERE kind = 'SALE'), \
             count(*) FILTER (WHERE kind = 'CREDIT_NOTE') \
         FROM orders_v2 GROUP BY currency",
    )
    .fetch_all(&mut *transaction)
    .await?;
    for (currency, sales, credit_notes) in orders {
        let of_orders = Totals {
            invoices: sales + credit_notes,
            sales,
            credit_notes,
            ..Totals::default()
        };
        order::add_totals(&mut totals, &currency, of_orders)?;
    }
    let lines: Vec<(Option<String>, i64, i64)> = sqlx::query_as(
        "SELECT currency, count(*), sum(amount)::bigint \
         FROM orders_v2_lines LEFT JOIN orders_v2 USING (order_id) GROUP BY currency",
    )
    .fetch_all(&mut *transaction)
    .await?;
    for (currency, lines, total_minor) in lines {
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

    /// The columns of each index of the table of orders.
    fn indexes() -> Vec<String> {
        let schema = include_str!("schema.sql");
        let start = format!("ON {} (", OrderRow::TABLE);
        let columns = schema.split(&start).skip(1);
        columns
            .map(|rest| rest.split_once(')').unwrap().0.to_owned())
            .collect()
    }

    #[test]
    fn every_combination_of_filters_has_an_index_in_the_order_of_the_list() {
        let indexes = indexes();
        for filters in [
            vec![],
            vec!["customer_id"],
            vec!["country"],
            vec!["customer_id", "country"],
        ] {
            // A list of both kinds is merged from the pages of each.
            let columns = [&filters[..], &["kind", "ordered_at DESC", "order_id DESC"]].concat();
            let expected = list(columns);
            assert!(
                indexes.contains(&expected),
                "no index ({expected}): {indexes:?}"
            );
        }
    }

    #[test]
    fn a_page_of_both_kinds_is_merged_from_a_page_of_each() {
        let count = |query_text: &str, part: &str| {
            let filter = Filter::check(query(query_text)).unwrap();
            page_query(&filter).sql().as_str().matches(part).count()
        };
        assert_eq!(count("customer=1&country=EIRE", "WHERE kind = "), 2);
        // Each part has the limit, and the whole as well.
        assert_eq!(count("customer=1&country=EIRE", "LIMIT"), 3);
        assert_eq!(count("customer=1&kind=SALE", "WHERE kind = "), 1);
        assert_eq!(count("customer=1&kind=SALE", "customer_id = "), 1);
    }

    #[test]
    fn a_query_that_is_too_expensive_is_told_which_filter_to_pass() {
        let narrower = |text: &str| Filter::check(query(text)).unwrap().narrower();
        assert_eq!(
            narrower("country=EIRE&to=2010-12-01T00:00:00Z"),
            "narrow the list: pass `customer`, or `from`"
        );
        assert_eq!(
            narrower("customer=1&country=EIRE&from=2010-12-01T00:00:00Z&to=2011-12-01T00:00:00Z"),
            "pass a later `from` or an earlier `to`"
        );
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
