//! `GET /api/v1/customers` and `GET /api/v1/customers/{id}`.

use super::tables::{CustomerRow, CustomersView};
use crate::{
    columns::{Columns, list},
    figures::SalesFigures,
    paging::{self, SortKey},
    postgres::Instant,
    problems::{ListProblems, QueryError, answer, answer_list},
    recorded::is_in_calendar,
    view::View,
};
use axum::{Json, extract::State, http::StatusCode};
use schemas::{Currency, Timestamp};
use serde::{Deserialize, Serialize};
use service::{
    extract::{ApiPath, ApiQuery},
    problem::Problem,
};
use sqlx::{PgPool, Postgres, QueryBuilder};
use utoipa::{IntoParams, IntoResponses, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

/// How a client asks for less.
const NARROWER: &str = "pass `currency`, or a smaller `limit`";

/// Filter, sort and page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only figures in this currency: ISO 4217.
    #[param(example = "GBP")]
    currency: Option<String>,
    /// `last_order`, the default: the customer with the latest order first. `total`: the greatest total first; needs
    /// `currency`.
    #[param(inline)]
    sort: Option<Sort>,
    /// Customers per page, 1 to 100; 20 by default.
    limit: Option<u16>,
    /// The `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// The order of the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Sort {
    #[default]
    LastOrder,
    Total,
}

/// The customer.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct CustomerPath {
    /// Opaque id of the customer.
    #[param(example = "17850")]
    id: String,
}

/// The sort key of the list by last order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LatestOrder {
    /// Microseconds since 1970.
    pub last_ordered_at: Timestamp,
    pub customer_id: String,
    pub currency: String,
}

/// The sort key of the list by total.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GreatestTotal {
    /// Minor units of the list's currency.
    pub total: i64,
    pub customer_id: String,
}

impl SortKey for LatestOrder {
    fn is_valid(&self) -> bool {
        is_in_calendar(self.last_ordered_at)
            && paging::is_key_text(&self.customer_id)
            && Currency::parse(&self.currency).is_ok()
    }
}

impl SortKey for GreatestTotal {
    fn is_valid(&self) -> bool {
        paging::is_key_text(&self.customer_id)
    }
}

/// A checked [`ListQuery`].
#[derive(Debug)]
struct Filter {
    /// The name of the list with this filter and sort.
    list: String,
    currency: Option<Currency>,
    limit: u16,
    page: Page,
}

/// The sort, and the key of the last row of the previous page.
#[derive(Debug, PartialEq)]
enum Page {
    LastOrder(Option<LatestOrder>),
    Total(Option<GreatestTotal>),
}

/// The figures of a customer in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CustomerFigures {
    /// Opaque id of the customer.
    #[schema(example = "17850")]
    pub id: String,
    /// The figures.
    #[serde(flatten)]
    pub figures: SalesFigures,
}

/// One page of customers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CustomerPage {
    /// In the order of the sort. A customer is listed once for each currency.
    pub customers: Vec<CustomerFigures>,
    /// The `cursor` of the next page; null on the last page.
    pub next_cursor: Option<String>,
}

/// A customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CustomerDetail {
    /// Opaque id of the customer.
    #[schema(example = "17850")]
    pub id: String,
    /// The figures in each currency, by its code.
    pub currencies: Vec<SalesFigures>,
}

/// The errors of a query for one customer.
#[derive(IntoResponses)]
pub enum CustomerProblems {
    /// INVALID_TEXT.
    #[response(status = 400)]
    Refused(Problem),
    /// CUSTOMER_NOT_FOUND.
    #[response(status = 404)]
    NotFound(Problem),
    /// DATABASE_UNAVAILABLE.
    #[response(status = 503)]
    Unavailable(Problem),
}

pub(super) fn routes() -> OpenApiRouter<PgPool> {
    OpenApiRouter::new()
        .routes(routes!(list_customers))
        .routes(routes!(get_customer))
}

/// Customers with their figures in each currency.
#[utoipa::path(get, path = "/customers", tag = "customers", params(ListQuery), responses(
    (status = 200, description = "One page.", body = CustomerPage), ListProblems))]
async fn list_customers(
    State(pool): State<PgPool>,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Json<CustomerPage>, Problem> {
    let filter = Filter::check(query)?;
    let page = find_page(&pool, &filter);
    answer_list(page, NARROWER).await.map(Json)
}

/// One customer's figures in each currency.
#[utoipa::path(get, path = "/customers/{id}", tag = "customers", params(CustomerPath), responses(
    (status = 200, description = "The customer.", body = CustomerDetail), CustomerProblems))]
async fn get_customer(
    State(pool): State<PgPool>,
    ApiPath(CustomerPath { id }): ApiPath<CustomerPath>,
) -> Result<Json<CustomerDetail>, Problem> {
    let id = paging::text("id", &id)?;
    let rows = answer(find_one(&pool, &id)).await?;
    if rows.is_empty() {
        let detail = format!("no order has the customer {id:?}: pass an id from the list");
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "CUSTOMER_NOT_FOUND",
            detail,
        ));
    }
    let currencies = rows.iter();
    let currencies = currencies.map(|row| row.figures().in_currency(&row.currency));
    Ok(Json(CustomerDetail {
        id,
        currencies: currencies.collect(),
    }))
}

impl Filter {
    fn check(query: ListQuery) -> Result<Self, Problem> {
        let currency = query.currency.as_deref();
        let currency = currency
            .map(|code| paging::currency("currency", code))
            .transpose()?;
        let sort = query.sort.unwrap_or_default();
        let list = paging::list(CustomersView::NAME, &(sort, currency));
        let cursor = query.cursor.as_deref();
        let page = match (sort, currency) {
            (Sort::LastOrder, _) => Page::LastOrder(paging::cursor(&list, cursor)?),
            (Sort::Total, Some(_)) => Page::Total(paging::cursor(&list, cursor)?),
            (Sort::Total, None) => {
                let detail = "sort=total compares amounts of one currency: pass `currency`, too";
                return Err(paging::missing(detail));
            }
        };
        Ok(Self {
            list,
            currency,
            limit: paging::limit(query.limit)?,
            page,
        })
    }
}

/// The table of every statement.
fn table() -> &'static str {
    CustomerRow::TABLE
}

async fn find_page(pool: &PgPool, filter: &Filter) -> Result<CustomerPage, QueryError> {
    let rows = find(pool, filter).await?;
    let (list, limit) = (&filter.list, filter.limit);
    let (rows, next_cursor) = match filter.page {
        Page::LastOrder(_) => paging::cut(list, rows, limit, |row| LatestOrder {
            last_ordered_at: row.last_ordered_at.0,
            customer_id: row.customer_id.clone(),
            currency: row.currency.clone(),
        }),
        Page::Total(_) => paging::cut(list, rows, limit, |row| GreatestTotal {
            total: row.total,
            customer_id: row.customer_id.clone(),
        }),
    };
    let customers = rows.into_iter().map(|row| CustomerFigures {
        figures: row.figures().in_currency(&row.currency),
        id: row.customer_id,
    });
    Ok(CustomerPage {
        customers: customers.collect(),
        next_cursor,
    })
}

/// Reads one row more than the page, to know whether there is a next page.
async fn find(pool: &PgPool, filter: &Filter) -> Result<Vec<CustomerRow>, QueryError> {
    let (columns, table) = (list(CustomerRow::all()), table());
    let mut query =
        QueryBuilder::<Postgres>::new(format!("SELECT {columns} FROM {table} WHERE true"));
    if let Some(currency) = filter.currency {
        query.push(" AND currency = ").push_bind(currency.code());
    }
    match &filter.page {
        Page::LastOrder(after) => {
            if let Some(after) = after {
                query
                    .push(" AND (last_ordered_at, customer_id, currency) < (")
                    .push_bind(Instant(after.last_ordered_at))
                    .push(", ")
                    .push_bind(&after.customer_id)
                    .push(", ")
                    .push_bind(&after.currency)
                    .push(")");
            }
            query.push(" ORDER BY last_ordered_at DESC, customer_id DESC, currency DESC");
        }
        Page::Total(after) => {
            if let Some(after) = after {
                query
                    .push(" AND (total, customer_id) < (")
                    .push_bind(after.total)
                    .push(", ")
                    .push_bind(&after.customer_id)
                    .push(")");
            }
            query.push(" ORDER BY total DESC, customer_id DESC");
        }
    }
    query.push(" LIMIT ").push_bind(i64::from(filter.limit) + 1);
    Ok(query.build_query_as().fetch_all(pool).await?)
}

/// The rows of a customer: one per currency.
async fn find_one(pool: &PgPool, id: &str) -> Result<Vec<CustomerRow>, QueryError> {
    let (columns, table) = (list(CustomerRow::all()), table());
    let mut query = QueryBuilder::<Postgres>::new(format!(
        "SELECT {columns} FROM {table} WHERE customer_id = "
    ));
    query.push_bind(id).push(" ORDER BY currency");
    Ok(query.build_query_as().fetch_all(pool).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str) -> Result<Filter, Problem> {
        let uri = format!("/customers?{query}").parse().unwrap();
        let query: axum::extract::Query<ListQuery> =
            axum::extract::Query::try_from_uri(&uri).unwrap();
        Filter::check(query.0)
    }

    #[test]
    fn totals_are_compared_in_one_currency_only() {
        assert_eq!(check("sort=total").unwrap_err().code, "PARAMETER_MISSING");
        assert_eq!(
            check("sort=total&currency=GBP").unwrap().page,
            Page::Total(None)
        );
        assert_eq!(
            check("currency=pounds").unwrap_err().code,
            "INVALID_CURRENCY"
        );
    }

    #[test]
    fn a_cursor_is_accepted_only_with_the_sort_and_the_filter_of_its_page() {
        let key = GreatestTotal {
            total: 1,
            customer_id: "17850".into(),
        };
        let page = check("sort=total&currency=GBP").unwrap();
        let cursor = paging::encode(&page.list, &key);
        let next = check(&format!("sort=total&currency=GBP&cursor={cursor}"));
        assert_eq!(next.unwrap().page, Page::Total(Some(key)));
        for other in [
            "sort=total&currency=EUR",
            "sort=last_order&currency=GBP",
            "",
        ] {
            let refused = check(&format!("{other}&cursor={cursor}")).unwrap_err();
            assert_eq!(refused.code, "INVALID_CURSOR", "{other}");
        }
    }
}
