//! `GET /api/v1/products` and `GET /api/v1/products/{sku}`.

use super::{
    facets::{self, CatalogFacets},
    search::{Search, push_matching},
    sort_keys::{ByPrice, ByRelevance, BySku},
    suggestions,
    tables::{CatalogView, ProductRow},
};
use crate::{
    columns::{Columns, list},
    order::Amount,
    paging,
    problems::{ListProblems, QueryError, answer, answer_list},
    view::View,
};
use axum::{Json, extract::State, http::StatusCode};
use schemas::{Currency, Sku};
use serde::{Deserialize, Serialize};
use service::{
    extract::{ApiPath, ApiQuery},
    problem::Problem,
};
use sqlx::{FromRow, PgPool, Postgres, QueryBuilder};
use utoipa::{IntoParams, IntoResponses, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Longest `q` and `prefix`, in characters. Each word of a search costs time.
const TEXT_CHARS_MAX: usize = 200;
/// Search, filters, sort and page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only products with these words in the description or as the SKU, in any form and order; if there are none, only
    /// products that are spelled almost like this. Quotes hold words together, `-` excludes a word, and `or` is between
    /// alternatives.
    #[param(example = "hanging heart")]
    q: Option<String>,
    /// Only products with a price in this currency: ISO 4217.
    #[param(example = "GBP")]
    currency: Option<String>,
    /// Only products of this price or a higher one, in minor units; needs `currency`.
    #[param(example = 250)]
    price_min: Option<i64>,
    /// Only products of this price or a lower one, in minor units; needs `currency`.
    #[param(example = 499)]
    price_max: Option<i64>,
    /// `relevance`, the default with `q`, or `sku`, the default without; `price_asc` or `price_desc`, which need
    /// `currency`.
    #[param(inline)]
    sort: Option<Sort>,
    /// Whether the answer has facets.
    #[param(example = true)]
    facets: Option<bool>,
    /// Products per page, 1 to 100; 20 by default.
    limit: Option<u16>,
    /// The `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// The order of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Sort {
    Relevance,
    Sku,
    PriceAsc,
    PriceDesc,
}

/// The product.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct ProductPath {
    /// The product's id. Case counts.
    #[param(example = "85123A")]
    sku: String,
}

/// A checked [`ListQuery`].
#[derive(Debug)]
struct Filter {
    /// The name of the list with this search, these filters and this sort.
    list: String,
    text: Option<String>,
    currency: Option<Currency>,
    price_min: Option<i64>,
    price_max: Option<i64>,
    has_facets: bool,
    limit: u16,
    page: Page,
}

/// The sort, and the key of the last row of the previous page.
#[derive(Debug, PartialEq)]
enum Page {
    Relevance(Option<ByRelevance>),
    Sku(Option<BySku>),
    PriceAsc(Option<ByPrice>),
    PriceDesc(Option<ByPrice>),
}

impl Page {
    fn is_by_relevance(&self) -> bool {
        match self {
            Self::Relevance(_) => true,
            Self::Sku(_) | Self::PriceAsc(_) | Self::PriceDesc(_) => false,
        }
    }
}

/// A product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProductDetail {
    /// The product's id.
    #[schema(example = "85123A")]
    pub sku: String,
    /// May be empty.
    #[schema(example = "WHITE HANGING HEART T-LIGHT HOLDER")]
    pub description: String,
    /// Null until the product is first priced.
    pub price: Option<Amount>,
    /// The product's version.
    #[schema(example = 2)]
    pub version: i64,
}

/// One page of products.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProductPage {
    /// In the order of the sort.
    pub products: Vec<ProductDetail>,
    /// Only if the query asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facets: Option<CatalogFacets>,
    /// The `cursor` of the next page; null on the last page.
    pub next_cursor: Option<String>,
}

/// The errors of a query for one product.
#[derive(IntoResponses)]
pub enum ProductProblems {
    /// INVALID_SKU.
    #[response(status = 400)]
    Refused(Problem),
    /// PRODUCT_NOT_FOUND.
    #[response(status = 404)]
    NotFound(Problem),
    /// DATABASE_UNAVAILABLE.
    #[response(status = 503)]
    Unavailable(Problem),
}

pub(super) fn routes() -> OpenApiRouter<PgPool> {
    OpenApiRouter::new()
        .routes(routes!(list_products))
        .merge(suggestions::routes())
        .routes(routes!(get_product))
}

/// Products that match a search and filters.
#[utoipa::path(get, path = "/products", tag = "catalog", params(ListQuery), responses(
    (status = 200, description = "One page.", body = ProductPage), ListProblems))]
async fn list_products(
    State(pool): State<PgPool>,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Json<ProductPage>, Problem> {
    let filter = Filter::check(query)?;
    let page = find_page(&pool, &filter);
    answer_list(page, filter.narrower()).await.map(Json)
}

/// One product. A product with the SKU `suggestions` is in the list only.
#[utoipa::path(get, path = "/products/{sku}", tag = "catalog", params(ProductPath), responses(
    (status = 200, description = "The product.", body = ProductDetail), ProductProblems))]
async fn get_product(
    State(pool): State<PgPool>,
    ApiPath(ProductPath { sku }): ApiPath<ProductPath>,
) -> Result<Json<ProductDetail>, Problem> {
    let sku = Sku::parse(&sku).map_err(|error| {
        let detail = format!("sku: {error}");
        Problem::new(StatusCode::BAD_REQUEST, "INVALID_SKU", detail)
    })?;
    let found = answer(find_one(&pool, sku.as_str())).await?;
    found.map(product).map(Json).ok_or_else(|| {
        let detail = format!(
            "no product has the SKU {:?}: pass a SKU from the list",
            sku.as_str()
        );
        Problem::new(StatusCode::NOT_FOUND, "PRODUCT_NOT_FOUND", detail)
    })
}

/// Reads the text of a search or the prefix of a suggestion.
pub(super) fn text(name: &str, text: &str) -> Result<String, Problem> {
    let text = paging::text(name, text)?;
    match text.is_empty() || text.chars().nth(TEXT_CHARS_MAX).is_some() {
        false => Ok(text),
        true => {
            let detail = format!("{name}: pass 1 to {TEXT_CHARS_MAX} characters");
            Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "INVALID_TEXT",
                detail,
            ))
        }
    }
}

impl Filter {
    fn check(query: ListQuery) -> Result<Self, Problem> {
        let q = query.q.as_deref().map(|q| text("q", q)).transpose()?;
        let currency = query.currency.as_deref();
        let currency = currency
            .map(|code| paging::currency("currency", code))
            .transpose()?;
        let (price_min, price_max) = (query.price_min, query.price_max);
        if currency.is_none() && (price_min.is_some() || price_max.is_some()) {
            let detail =
                "price_min and price_max are amounts of one currency: pass `currency`, too";
            return Err(paging::missing(detail));
        }
        let by_default = match q {
            Some(_) => Sort::Relevance,
            None => Sort::Sku,
        };
        let sort = query.sort.unwrap_or(by_default);
        if sort == Sort::Relevance && q.is_none() {
            let detail = "sort=relevance compares matches of a search: pass `q`, too";
            return Err(paging::missing(detail));
        }
        let is_by_price = matches!(sort, Sort::PriceAsc | Sort::PriceDesc);
        if is_by_price && currency.is_none() {
            let detail = "a sort by price compares amounts of one currency: pass `currency`, too";
            return Err(paging::missing(detail));
        }
        let filters = (&q, currency, price_min, price_max, sort);
        let list = paging::list(CatalogView::NAME, &filters);
        let cursor = query.cursor.as_deref();
        let page = match sort {
            Sort::Relevance => Page::Relevance(paging::cursor(&list, cursor)?),
            Sort::Sku => Page::Sku(paging::cursor(&list, cursor)?),
            Sort::PriceAsc => Page::PriceAsc(paging::cursor(&list, cursor)?),
            Sort::PriceDesc => Page::PriceDesc(paging::cursor(&list, cursor)?),
        };
        Ok(Self {
            list,
            text: q,
            currency,
            price_min,
            price_max,
            has_facets: query.facets.unwrap_or_default(),
            limit: paging::limit(query.limit)?,
            page,
        })
    }

    /// How a client asks for less.
    fn narrower(&self) -> &'static str {
        match (&self.text, self.currency) {
            (Some(_), _) => "pass more words in `q`",
            (None, Some(_)) => {
                "bring `price_min` and `price_max` closer together, or sort by price"
            }
            (None, None) => "pass `q` or `currency`, or leave out `facets`",
        }
    }
}

async fn find_page(pool: &PgPool, filter: &Filter) -> Result<ProductPage, QueryError> {
    let facets = async {
        match filter.has_facets {
            true => facets::find(pool, filter.text.as_deref()).await.map(Some),
            false => Ok(None),
        }
    };
    let (rows, facets) = tokio::try_join!(find(pool, filter), facets)?;
    let (list, limit) = (&filter.list, filter.limit);
    let sku = |row: &Found| row.product.sku.clone();
    let by_price = |row: &Found| ByPrice {
        // A list by price has a currency, and no product without a price.
        price: row.product.price.unwrap_or_default(),
        sku: sku(row),
    };
    let (rows, next_cursor) = match filter.page {
        Page::Relevance(_) => paging::cut(list, rows, limit, |row| ByRelevance {
            relevance: row.relevance,
            sku: sku(row),
        }),
        Page::Sku(_) => paging::cut(list, rows, limit, |row| BySku { sku: sku(row) }),
        Page::PriceAsc(_) | Page::PriceDesc(_) => paging::cut(list, rows, limit, by_price),
    };
    let products = rows.into_iter().map(|row| product(row.product));
    Ok(ProductPage {
        products: products.collect(),
        facets,
        next_cursor,
    })
}

/// A product of a list.
#[derive(FromRow)]
struct Found {
    #[sqlx(flatten)]
    product: ProductRow,
    /// 0 in lists that are not sorted by it.
    relevance: i64,
}

/// Reads one row more than the page, to know whether there is a next page.
async fn find(pool: &PgPool, filter: &Filter) -> Result<Vec<Found>, QueryError> {
    let mut query = list_query(filter);
    Ok(query.build_query_as().fetch_all(pool).await?)
}

fn list_query(filter: &Filter) -> QueryBuilder<Postgres> {
    let columns = list(ProductRow::all());
    let search = Search {
        text: filter.text.as_deref(),
        is_ranked: filter.page.is_by_relevance(),
    };
    // A relevance is computed once per match. Other lists end with the page, so they must not collect every match.
    let materialized = match search.is_ranked {
        true => "MATERIALIZED",
        false => "NOT MATERIALIZED",
    };
    let mut query = QueryBuilder::new(format!("WITH matches AS {materialized} ("));
    push_matching(&mut query, search, &columns, |query| {
        push_filters(query, filter)
    });
    query.push(format!(
        ") SELECT {columns}, relevance FROM matches WHERE true"
    ));
    match &filter.page {
        Page::Relevance(after) => {
            if let Some(after) = after {
                push_after(&mut query, ("relevance", "<"), after.relevance, &after.sku);
            }
            query.push(" ORDER BY relevance DESC, sku DESC");
        }
        Page::Sku(after) => {
            if let Some(after) = after {
                query.push(" AND sku > ").push_bind(after.sku.clone());
            }
            query.push(" ORDER BY sku");
        }
        Page::PriceAsc(after) => {
            if let Some(after) = after {
                push_after(&mut query, ("price", ">"), after.price, &after.sku);
            }
            query.push(" ORDER BY price, sku");
        }
        Page::PriceDesc(after) => {
            if let Some(after) = after {
                push_after(&mut query, ("price", "<"), after.price, &after.sku);
            }
            query.push(" ORDER BY price DESC, sku DESC");
        }
    }
    query.push(" LIMIT ").push_bind(i64::from(filter.limit) + 1);
    query
}

fn push_filters(query: &mut QueryBuilder<Postgres>, filter: &Filter) {
    if let Some(currency) = filter.currency {
        query.push(" AND currency = ").push_bind(currency.code());
    }
    if let Some(price) = filter.price_min {
        query.push(" AND price >= ").push_bind(price);
    }
    if let Some(price) = filter.price_max {
        query.push(" AND price <= ").push_bind(price);
    }
}

/// Adds the condition that a row comes after the key of the previous page's last row.
fn push_after(
    query: &mut QueryBuilder<Postgres>,
    (column, operator): (&str, &str),
    value: i64,
    sku: &str,
) {
    query
        .push(format!(" AND ({column}, sku) {operator} ("))
        .push_bind(value)
        .push(", ")
        .push_bind(sku.to_owned())
        .push(")");
}

async fn find_one(pool: &PgPool, sku: &str) -> Result<Option<ProductRow>, QueryError> {
    let (columns, table) = (list(ProductRow::all()), ProductRow::TABLE);
    let mut query =
        QueryBuilder::<Postgres>::new(format!("SELECT {columns} FROM {table} WHERE sku = "));
    query.push_bind(sku);
    Ok(query.build_query_as().fetch_optional(pool).await?)
}

fn product(row: ProductRow) -> ProductDetail {
    let price = row.price.zip(row.currency);
    ProductDetail {
        sku: row.sku,
        description: row.description,
        price: price.map(|(amount, currency)| Amount { amount, currency }),
        version: row.version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str) -> Result<Filter, Problem> {
        let uri = format!("/products?{query}").parse().unwrap();
        let query: axum::extract::Query<ListQuery> =
            axum::extract::Query::try_from_uri(&uri).unwrap();
        Filter::check(query.0)
    }

    #[test]
    fn a_search_is_sorted_by_relevance_and_other_lists_by_sku() {
        assert_eq!(check("q=heart").unwrap().page, Page::Relevance(None));
        assert_eq!(check("q=heart&sort=sku").unwrap().page, Page::Sku(None));
        assert_eq!(check("currency=GBP").unwrap().page, Page::Sku(None));
    }

    #[test]
    fn prices_need_a_currency_and_relevance_needs_a_search() {
        for query in [
            "price_min=1",
            "price_max=1",
            "sort=price_asc",
            "sort=price_desc",
            "sort=relevance",
        ] {
            assert_eq!(
                check(query).unwrap_err().code,
                "PARAMETER_MISSING",
                "{query}"
            );
        }
        let in_pounds = check("currency=GBP&price_min=1&sort=price_desc").unwrap();
        assert_eq!(in_pounds.page, Page::PriceDesc(None));
    }

    #[test]
    fn an_empty_or_long_search_is_refused() {
        for q in [String::new(), "%20".to_owned(), "a".repeat(201)] {
            let refused = check(&format!("q={q}")).unwrap_err();
            assert_eq!(refused.code, "INVALID_TEXT", "{q:?}");
        }
    }

    #[test]
    fn a_cursor_is_accepted_only_with_the_search_the_filters_and_the_sort_of_its_page() {
        let key = ByPrice {
            price: 255,
            sku: "85123A".into(),
        };
        let of_page = "q=heart&currency=GBP&sort=price_asc";
        let cursor = paging::encode(&check(of_page).unwrap().list, &key);
        let next = check(&format!("{of_page}&facets=true&limit=7&cursor={cursor}"));
        assert_eq!(next.unwrap().page, Page::PriceAsc(Some(key)));
        for other in [
            "q=hearts&currency=GBP&sort=price_asc",
            "q=heart&currency=EUR&sort=price_asc",
            "q=heart&currency=GBP&sort=price_desc",
            "q=heart&currency=GBP&sort=price_asc&price_min=1",
            "q=heart&currency=GBP",
        ] {
            let refused = check(&format!("{other}&cursor={cursor}")).unwrap_err();
            assert_eq!(refused.code, "INVALID_CURSOR", "{other}");
        }
    }
}
