//! `GET /api/v1/countries`.

use super::tables::{CountryRow, CountrySalesView};
use crate::{
    columns::{Columns, list},
    databases::Databases,
    order::{self, Amount},
    paging::{self, SortKey, TEXT_BYTES_MAX},
    postgres::read_position,
    problems::{ListProblems, QueryError, answer_filtered},
    registration::Queries,
    view::View,
};
use axum::{Json, extract::State};
use schemas::{Currency, Totals, TotalsAt, TotalsByCurrency, context::ORDERS};
use serde::{Deserialize, Serialize};
use service::{extract::ApiQuery, problem::Problem};
use sqlx::{AssertSqlSafe, Postgres, QueryBuilder};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

/// The filters that reduce the number of rows that the list reads.
const SELECTIVE_FILTERS: [&str; 1] = ["currency"];

/// The parameters of the list: filter and page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only totals in this currency, ISO 4217.
    #[param(example = "GBP", min_length = 3, max_length = 3)]
    currency: Option<String>,
    /// Entries per page, 1 to 100; 20 by default.
    #[param(example = 20, minimum = 1, maximum = 100)]
    limit: Option<u16>,
    /// The `next_cursor` of the previous page.
    #[param(example = "cursor-of-the-next-page")]
    cursor: Option<String>,
}

/// The sort key of the list, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ByCountry {
    /// The country.
    pub country: String,
    /// ISO 4217.
    pub currency: String,
}

/// A validated [`ListQuery`].
#[derive(Debug)]
struct Filter {
    /// The name of the list with this filter: cursors of another list are rejected.
    list: String,
    currency: Option<String>,
    limit: u16,
    after: Option<ByCountry>,
}

/// The totals of a country in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CountrySales {
    /// The country, spelled as in the source.
    #[schema(example = "United Kingdom")]
    pub country: String,
    /// Number of orders.
    #[schema(example = 20)]
    pub orders: i64,
    /// Number of credit notes.
    #[schema(example = 3)]
    pub credit_notes: i64,
    /// Number of lines of orders and credit notes.
    #[schema(example = 1302)]
    pub lines: i64,
    /// Orders plus credit notes, which are below zero.
    pub total: Amount,
    /// Time of the first order or credit note: RFC 3339, in UTC.
    #[schema(example = "2010-12-01T08:26:00Z")]
    pub first_order_at: String,
    /// Time of the last order or credit note: RFC 3339, in UTC.
    #[schema(example = "2011-12-09T12:50:00Z")]
    pub last_order_at: String,
}

/// One page of countries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CountryPage {
    /// One entry per country and currency, A to Z.
    pub countries: Vec<CountrySales>,
    /// The `cursor` of the next page; null on the last page.
    #[schema(example = "cursor-of-the-next-page")]
    pub next_cursor: Option<String>,
}

pub(super) fn queries() -> Queries {
    vec![routes!(list_countries)]
}

/// Countries with their totals: one entry per country and currency.
///
/// A 400 has the code INVALID_CURRENCY, or one of those below.
#[utoipa::path(get, path = "/countries", tag = "orders", params(ListQuery), responses(
    (status = 200, description = "One page.", body = CountryPage), ListProblems))]
async fn list_countries(
    State(databases): State<Databases>,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Json<CountryPage>, Problem> {
    let filter = Filter::check(&query)?;
    answer_filtered(&SELECTIVE_FILTERS, || find_page(&databases, &filter))
        .await
        .map(Json)
}

impl Filter {
    fn check(query: &ListQuery) -> Result<Self, Problem> {
        let currency = query.currency.as_deref();
        let currency = currency
            .map(|text| order::currency("currency", text))
            .transpose()?;
        let list = paging::list(CountrySalesView::NAME, &currency);
        Ok(Self {
            after: paging::cursor(&list, query.cursor.as_deref())?,
            list,
            currency,
            limit: paging::limit(query.limit)?,
        })
    }
}

impl SortKey for ByCountry {
    fn is_valid(&self) -> bool {
        self.country.len() <= TEXT_BYTES_MAX
            && !self.country.contains('\0')
            && Currency::parse(&self.currency).is_ok()
    }
}

/// Reads one row more than the page, to know whether there is a next page.
async fn find_page(databases: &Databases, filter: &Filter) -> Result<CountryPage, QueryError> {
    let build = databases.build::<CountrySalesView>()?;
    let (columns, table) = (list(CountryRow::all()), build.table(CountryRow::TABLE));
    let mut query = QueryBuilder::<Postgres>::new("");
    query.push(format!("SELECT {columns} FROM {table} WHERE true"));
    if let Some(currency) = &filter.currency {
        query.push(" AND currency = ").push_bind(currency.clone());
    }
    if let Some(after) = &filter.after {
        query
            .push(" AND (country, currency) > (")
            .push_bind(after.country.clone())
            .push(", ")
            .push_bind(after.currency.clone())
            .push(")");
    }
    // The limit is a literal, because the plan depends on it.
    let count = filter.limit + 1;
    query.push(format!(" ORDER BY country, currency LIMIT {count}"));
    let rows: Vec<CountryRow> = query
        .build_query_as()
        .fetch_all(&databases.postgres)
        .await?;
    let (rows, next_cursor) = paging::cut(&filter.list, rows, filter.limit, |row| ByCountry {
        country: row.country.clone(),
        currency: row.currency.clone(),
    });
    Ok(CountryPage {
        countries: rows.into_iter().map(country_sales).collect(),
        next_cursor,
    })
}

fn country_sales(row: CountryRow) -> CountrySales {
    CountrySales {
        country: row.country,
        orders: row.orders,
        credit_notes: row.credit_notes,
        lines: row.lines,
        total: Amount {
            amount: row.total,
            currency: row.currency,
        },
        first_order_at: row.first_order_at.0.to_string(),
        last_order_at: row.last_order_at.0.to_string(),
    }
}

/// The totals of the whole view. Rows and checkpoints are read in one snapshot, so the totals belong exactly to the
/// returned position.
pub(super) async fn totals(databases: &Databases) -> Result<TotalsAt, QueryError> {
    let build = databases.build::<CountrySalesView>()?;
    let (columns, table) = (list(CountryRow::all()), build.table(CountryRow::TABLE));
    let mut transaction = databases.postgres.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .execute(&mut *transaction)
        .await?;
    let position = read_position(build, ORDERS.topic, &mut transaction).await?;
    let statement = AssertSqlSafe(format!("SELECT {columns} FROM {table}"));
    let rows: Vec<CountryRow> = sqlx::query_as(statement)
        .fetch_all(&mut *transaction)
        .await?;
    transaction.commit().await?;
    let mut totals = TotalsByCurrency::default();
    for row in rows {
        let of_country = Totals {
            invoices: row.orders + row.credit_notes,
            sales: row.orders,
            credit_notes: row.credit_notes,
            lines: row.lines,
            total_minor: row.total,
        };
        order::add_totals(&mut totals, &row.currency, of_country)?;
    }
    Ok(TotalsAt { position, totals })
}
