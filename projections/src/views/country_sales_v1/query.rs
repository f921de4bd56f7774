//! `GET /api/v1/countries`.

use super::tables::{CountryRow, CountrySalesView};
use crate::{
    columns::{Columns, list},
    figures::SalesFigures,
    paging::{self, SortKey},
    problems::{ListProblems, QueryError, answer_list},
    view::View,
};
use axum::{Json, extract::State};
use schemas::Currency;
use serde::{Deserialize, Serialize};
use service::{extract::ApiQuery, problem::Problem};
use sqlx::{PgPool, Postgres, QueryBuilder};
use utoipa::{IntoParams, ToSchema};
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
    /// `country`, the default: by name. `total`: the greatest total first; needs `currency`.
    #[param(inline)]
    sort: Option<Sort>,
    /// Countries per page, 1 to 100; 20 by default.
    limit: Option<u16>,
    /// The `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// The order of the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Sort {
    #[default]
    Country,
    Total,
}

/// The sort key of the list by country.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ByCountry {
    pub country: String,
    pub currency: String,
}

/// The sort key of the list by total.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GreatestTotal {
    /// Minor units of the list's currency.
    pub total: i64,
    pub country: String,
}

impl SortKey for ByCountry {
    fn is_valid(&self) -> bool {
        paging::is_key_text(&self.country) && Currency::parse(&self.currency).is_ok()
    }
}

impl SortKey for GreatestTotal {
    fn is_valid(&self) -> bool {
        paging::is_key_text(&self.country)
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
    Country(Option<ByCountry>),
    Total(Option<GreatestTotal>),
}

/// The figures of a country in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CountryFigures {
    /// The country, spelled as in the source.
    #[schema(example = "United Kingdom")]
    pub country: String,
    /// The figures.
    #[serde(flatten)]
    pub figures: SalesFigures,
}

/// One page of countries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CountryPage {
    /// In the order of the sort. A country is listed once for each currency.
    pub countries: Vec<CountryFigures>,
    /// The `cursor` of the next page; null on the last page.
    pub next_cursor: Option<String>,
}

pub(super) fn routes() -> OpenApiRouter<PgPool> {
    OpenApiRouter::new().routes(routes!(list_countries))
}

/// Countries with their figures in each currency.
#[utoipa::path(get, path = "/countries", tag = "countries", params(ListQuery), responses(
    (status = 200, description = "One page.", body = CountryPage), ListProblems))]
async fn list_countries(
    State(pool): State<PgPool>,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Json<CountryPage>, Problem> {
    let filter = Filter::check(query)?;
    let page = find_page(&pool, &filter);
    answer_list(page, NARROWER).await.map(Json)
}

impl Filter {
    fn check(query: ListQuery) -> Result<Self, Problem> {
        let currency = query.currency.as_deref();
        let currency = currency
            .map(|code| paging::currency("currency", code))
            .transpose()?;
        let sort = query.sort.unwrap_or_default();
        let list = paging::list(CountrySalesView::NAME, &(sort, currency));
        let cursor = query.cursor.as_deref();
        let page = match (sort, currency) {
            (Sort::Country, _) => Page::Country(paging::cursor(&list, cursor)?),
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

async fn find_page(pool: &PgPool, filter: &Filter) -> Result<CountryPage, QueryError> {
    let rows = find(pool, filter).await?;
    let (list, limit) = (&filter.list, filter.limit);
    let (rows, next_cursor) = match filter.page {
        Page::Country(_) => paging::cut(list, rows, limit, |row| ByCountry {
            country: row.country.clone(),
            currency: row.currency.clone(),
        }),
        Page::Total(_) => paging::cut(list, rows, limit, |row| GreatestTotal {
            total: row.total,
            country: row.country.clone(),
        }),
    };
    let countries = rows.into_iter().map(|row| CountryFigures {
        figures: row.figures().in_currency(&row.currency),
        country: row.country,
    });
    Ok(CountryPage {
        countries: countries.collect(),
        next_cursor,
    })
}

/// Reads one row more than the page, to know whether there is a next page.
async fn find(pool: &PgPool, filter: &Filter) -> Result<Vec<CountryRow>, QueryError> {
    let (columns, table) = (list(CountryRow::all()), CountryRow::TABLE);
    let mut query =
        QueryBuilder::<Postgres>::new(format!("SELECT {columns} FROM {table} WHERE true"));
    if let Some(currency) = filter.currency {
        query.push(" AND currency = ").push_bind(currency.code());
    }
    match &filter.page {
        Page::Country(after) => {
            if let Some(after) = after {
                query
                    .push(" AND (country, currency) > (")
                    .push_bind(&after.country)
                    .push(", ")
                    .push_bind(&after.currency)
                    .push(")");
            }
            query.push(" ORDER BY country, currency");
        }
        Page::Total(after) => {
            if let Some(after) = after {
                query
                    .push(" AND (total, country) < (")
                    .push_bind(after.total)
                    .push(", ")
                    .push_bind(&after.country)
                    .push(")");
            }
            query.push(" ORDER BY total DESC, country DESC");
        }
    }
    query.push(" LIMIT ").push_bind(i64::from(filter.limit) + 1);
    Ok(query.build_query_as().fetch_all(pool).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str) -> Result<Filter, Problem> {
        let uri = format!("/countries?{query}").parse().unwrap();
        let query: axum::extract::Query<ListQuery> =
            axum::extract::Query::try_from_uri(&uri).unwrap();
        Filter::check(query.0)
    }

    #[test]
    fn totals_are_compared_in_one_currency_only() {
        assert_eq!(check("sort=total").unwrap_err().code, "PARAMETER_MISSING");
        let in_pounds = check("sort=total&currency=GBP").unwrap();
        assert_eq!(in_pounds.page, Page::Total(None));
        assert_eq!(check("").unwrap().page, Page::Country(None));
    }

    #[test]
    fn a_cursor_is_accepted_only_with_the_sort_and_the_filter_of_its_page() {
        let key = ByCountry {
            country: "EIRE".into(),
            currency: "GBP".into(),
        };
        let page = check("currency=GBP").unwrap();
        let cursor = paging::encode(&page.list, &key);
        let next = check(&format!("currency=GBP&sort=country&cursor={cursor}"));
        assert_eq!(next.unwrap().page, Page::Country(Some(key)));
        for other in ["", "currency=EUR", "currency=GBP&sort=total"] {
            let refused = check(&format!("{other}&cursor={cursor}")).unwrap_err();
            assert_eq!(refused.code, "INVALID_CURSOR", "{other}");
        }
    }
}
