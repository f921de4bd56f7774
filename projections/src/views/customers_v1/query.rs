//! `GET /api/v1/customers` and `GET /api/v1/customers/{id}`.

use super::tables::{CustomerRow, CustomersView};
use crate::{
    columns::{Columns, list},
    databases::Databases,
    order::{self, Amount},
    paging::{self, SortKey, TEXT_BYTES_MAX},
    postgres::Instant,
    problems::{ListProblems, QueryError, ResourceProblems, answer, answer_filtered},
    recorded::is_in_calendar,
    registration::Queries,
    view::View,
};
use axum::{Json, extract::State, http::StatusCode};
use schemas::{Currency, Timestamp};
use serde::{Deserialize, Serialize};
use service::{
    extract::{ApiPath, ApiQuery, NoParameters},
    problem::Problem,
};
use sqlx::{AssertSqlSafe, Postgres, QueryBuilder};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

/// The filters that reduce the number of rows that the list reads.
const SELECTIVE_FILTERS: [&str; 1] = ["currency"];

/// The parameters of the list: filter, sort order and page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only totals in this currency, ISO 4217.
    #[param(example = "GBP", min_length = 3, max_length = 3)]
    currency: Option<String>,
    /// The sort order: `last_order` by default. `total` needs `currency`.
    #[param(inline, example = "last_order")]
    sort: Option<Sort>,
    /// Entries per page, 1 to 100; 20 by default.
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
    #[param(example = "17850", min_length = 1)]
    id: String,
}

/// The sort order of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Sort {
    /// Greatest total first.
    Total,
    /// Customer with the newest order or credit note first.
    LastOrder,
}

/// The key of [`Sort::Total`], within one currency; customers with equal totals are sorted by id, descending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ByTotal {
    /// The total, in minor units.
    pub total: i64,
    /// The customer.
    pub customer_id: String,
}

/// The key of [`Sort::LastOrder`]; entries with equal times are sorted by customer and currency, descending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ByLastOrder {
    /// Time of the last order or credit note.
    pub last_order_at: Timestamp,
    /// The customer.
    pub customer_id: String,
    /// ISO 4217.
    pub currency: String,
}

/// The sort key of the previous page's last row.
#[derive(Debug, Clone, PartialEq, Eq)]
enum After {
    Total(ByTotal),
    LastOrder(ByLastOrder),
}

/// A validated [`ListQuery`].
#[derive(Debug)]
struct Filter {
    /// The name of the list with this filter and this sort order: cursors of another list are rejected.
    list: String,
    currency: Option<String>,
    sort: Sort,
    limit: u16,
    after: Option<After>,
}

/// The totals of a customer in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CustomerTotals {
    /// Number of orders.
    #[schema(example = 34)]
    pub orders: i64,
    /// Number of credit notes.
    #[schema(example = 1)]
    pub credit_notes: i64,
    /// Number of lines of orders and credit notes.
    #[schema(example = 312)]
    pub lines: i64,
    /// Orders plus credit notes, which are below zero.
    pub total: Amount,
    /// Time of the first order or credit note: RFC 3339, in UTC.
    #[schema(example = "2010-12-01T08:26:00Z")]
    pub first_order_at: String,
    /// Time of the last order or credit note: RFC 3339, in UTC.
    #[schema(example = "2011-02-10T14:38:00Z")]
    pub last_order_at: String,
}

/// A customer with the totals in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CustomerEntry {
    /// Opaque id.
    #[schema(example = "17850")]
    pub id: String,
    /// The totals in one currency.
    #[serde(flatten)]
    pub totals: CustomerTotals,
}

/// One page of customers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CustomerPage {
    /// One entry per customer and currency, in the requested sort order.
    pub customers: Vec<CustomerEntry>,
    /// The `cursor` of the next page; null on the last page.
    #[schema(example = "cursor-of-the-next-page")]
    pub next_cursor: Option<String>,
}

/// A customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Customer {
    /// Opaque id.
    #[schema(example = "17850")]
    pub id: String,
    /// The totals by currency, A to Z.
    pub totals: Vec<CustomerTotals>,
}

pub(super) fn queries() -> Queries {
    vec![routes!(list_customers), routes!(get_customer)]
}

/// Customers with their totals: one entry per customer and currency.
///
/// A 400 has the code CURRENCY_REQUIRED or INVALID_CURRENCY, or one of those below.
#[utoipa::path(get, path = "/customers", tag = "customers", params(ListQuery), responses(
    (status = 200, description = "One page.", body = CustomerPage), ListProblems))]
async fn list_customers(
    State(databases): State<Databases>,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Json<CustomerPage>, Problem> {
    let filter = Filter::check(&query)?;
    answer_filtered(&SELECTIVE_FILTERS, || find_page(&databases, &filter))
        .await
        .map(Json)
}

/// One customer with the totals in each currency.
///
/// A malformed id has the code INVALID_TEXT.
#[utoipa::path(get, path = "/customers/{id}", tag = "customers", params(CustomerPath), responses(
    (status = 200, description = "The customer.", body = Customer),
    (status = 404, description = "CUSTOMER_NOT_FOUND: the customer has no order and no credit note.", body = Problem),
    ResourceProblems))]
async fn get_customer(
    State(databases): State<Databases>,
    ApiPath(CustomerPath { id }): ApiPath<CustomerPath>,
    ApiQuery(NoParameters {}): ApiQuery<NoParameters>,
) -> Result<Json<Customer>, Problem> {
    let id = paging::text("id", &id)?;
    let rows = answer(|| find_one(&databases, &id)).await?;
    if rows.is_empty() {
        let detail = format!(
            "no order or credit note has the customer {id}: pass an id from GET /api/v1/customers"
        );
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "CUSTOMER_NOT_FOUND",
            detail,
        ));
    }
    let totals = rows.into_iter().map(|row| entry(row).totals).collect();
    Ok(Json(Customer { id, totals }))
}

impl Filter {
    fn check(query: &ListQuery) -> Result<Self, Problem> {
        let currency = query.currency.as_deref();
        let currency = currency
            .map(|text| order::currency("currency", text))
            .transpose()?;
        let sort = query.sort.unwrap_or(Sort::LastOrder);
        let list = paging::list(CustomersView::NAME, &(&currency, sort));
        let cursor = query.cursor.as_deref();
        let after = match sort {
            Sort::Total if currency.is_none() => {
                let detail = "sort=total: pass the totals' currency in currency";
                let status = StatusCode::BAD_REQUEST;
                return Err(Problem::new(status, "CURRENCY_REQUIRED", detail));
            }
            Sort::Total => paging::cursor(&list, cursor)?.map(After::Total),
            Sort::LastOrder => paging::cursor(&list, cursor)?.map(After::LastOrder),
        };
        Ok(Self {
            list,
            currency,
            sort,
            limit: paging::limit(query.limit)?,
            after,
        })
    }
}

impl SortKey for ByTotal {
    fn is_valid(&self) -> bool {
        is_customer(&self.customer_id)
    }
}

impl SortKey for ByLastOrder {
    fn is_valid(&self) -> bool {
        is_in_calendar(self.last_order_at)
            && is_customer(&self.customer_id)
            && Currency::parse(&self.currency).is_ok()
    }
}

fn is_customer(id: &str) -> bool {
    (1..=TEXT_BYTES_MAX).contains(&id.len()) && !id.contains('\0')
}

async fn find_page(databases: &Databases, filter: &Filter) -> Result<CustomerPage, QueryError> {
    let mut query = QueryBuilder::new("");
    push_page(&mut query, &select(databases)?, filter);
    let rows: Vec<CustomerRow> = query
        .build_query_as()
        .fetch_all(&databases.postgres)
        .await?;
    let (list, limit) = (&filter.list, filter.limit);
    let (rows, next_cursor) = match filter.sort {
        Sort::Total => paging::cut(list, rows, limit, |row| ByTotal {
            total: row.total,
            customer_id: row.customer_id.clone(),
        }),
        Sort::LastOrder => paging::cut(list, rows, limit, |row| ByLastOrder {
            last_order_at: row.last_order_at.0,
            customer_id: row.customer_id.clone(),
            currency: row.currency.clone(),
        }),
    };
    Ok(CustomerPage {
        customers: rows.into_iter().map(entry).collect(),
        next_cursor,
    })
}

/// Appends the statement of a page. It reads one row more than the page, to know whether there is a next page.
fn push_page(query: &mut QueryBuilder<Postgres>, select: &str, filter: &Filter) {
    query.push(select).push(" WHERE true");
    if let Some(currency) = &filter.currency {
        query.push(" AND currency = ").push_bind(currency.clone());
    }
    match &filter.after {
        Some(After::Total(key)) => query
            .push(" AND (total, customer_id) < (")
            .push_bind(key.total)
            .push(", ")
            .push_bind(key.customer_id.clone())
            .push(")"),
        Some(After::LastOrder(key)) => query
            .push(" AND (last_order_at, customer_id, currency) < (")
            .push_bind(Instant(key.last_order_at))
            .push(", ")
            .push_bind(key.customer_id.clone())
            .push(", ")
            .push_bind(key.currency.clone())
            .push(")"),
        None => query,
    };
    let order = match filter.sort {
        Sort::Total => "total DESC, customer_id DESC",
        Sort::LastOrder => "last_order_at DESC, customer_id DESC, currency DESC",
    };
    // The limit is a literal, because the plan depends on it.
    let count = filter.limit + 1;
    query.push(format!(" ORDER BY {order} LIMIT {count}"));
}

async fn find_one(databases: &Databases, id: &str) -> Result<Vec<CustomerRow>, QueryError> {
    let select = select(databases)?;
    let statement = format!("{select} WHERE customer_id = $1 ORDER BY currency");
    let query = sqlx::query_as(AssertSqlSafe(statement)).bind(id);
    Ok(query.fetch_all(&databases.postgres).await?)
}

/// The beginning of a statement that reads rows of the build that answers queries.
fn select(databases: &Databases) -> Result<String, QueryError> {
    let build = databases.build::<CustomersView>()?;
    let (columns, table) = (list(CustomerRow::all()), build.table(CustomerRow::TABLE));
    Ok(format!("SELECT {columns} FROM {table}"))
}

fn entry(row: CustomerRow) -> CustomerEntry {
    CustomerEntry {
        id: row.customer_id,
        totals: CustomerTotals {
            orders: row.orders,
            credit_notes: row.credit_notes,
            lines: row.lines,
            total: Amount {
                amount: row.total,
                currency: row.currency,
            },
            first_order_at: row.first_order_at.0.to_string(),
            last_order_at: row.last_order_at.0.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str) -> Result<Filter, &'static str> {
        let uri = format!("/customers?{query}").parse().unwrap();
        let query: axum::extract::Query<ListQuery> =
            axum::extract::Query::try_from_uri(&uri).unwrap();
        Filter::check(&query).map_err(|problem| problem.code)
    }

    #[test]
    fn totals_are_sorted_within_one_currency() {
        assert_eq!(check("sort=total").unwrap_err(), "CURRENCY_REQUIRED");
        check("sort=total&currency=GBP").unwrap();
        assert_eq!(check("currency=pounds").unwrap_err(), "INVALID_CURRENCY");
    }

    #[test]
    fn a_cursor_is_accepted_only_with_the_filter_and_the_order_of_its_page() {
        let key = ByTotal {
            total: 255,
            customer_id: "17850".into(),
        };
        let page = check("sort=total&currency=GBP").unwrap();
        let cursor = paging::encode(&page.list, &key);
        let next = check(&format!("sort=total&currency=GBP&limit=7&cursor={cursor}"));
        assert_eq!(next.unwrap().after, Some(After::Total(key)));
        for other in ["sort=total&currency=EUR", "currency=GBP", ""] {
            let next = check(&format!("{other}&cursor={cursor}"));
            assert_eq!(next.unwrap_err(), "INVALID_CURSOR", "{other}");
        }
    }
}
