//! `GET /api/v1/products`, `GET /api/v1/products/suggestions` and `GET /api/v1/products/{sku}`.

use super::{
    filter::{Filter, ListQuery, Prefix, SuggestionsQuery},
    sort::{ByName, ByPrice, ByRelevance, Newest, Sort},
    statements::{self, BandCount, Match, PRICE_BANDS},
    tables::ProductRow,
};
use crate::{
    conditional::Versioned,
    databases::Databases,
    order::Amount,
    paging,
    problems::{ListProblems, QueryError, ResourceProblems, answer, answer_filtered},
    registration::Queries,
};
use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use schemas::Sku;
use serde::{Deserialize, Serialize};
use service::{
    extract::{ApiPath, ApiQuery, NoParameters},
    problem::Problem,
};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

/// Headers of answers that a cache may store for 5 seconds. `Vary` keeps a stored answer from a request with another
/// position, because the stored answer may be older than that position.
const CACHED: [(HeaderName, &str); 2] = [
    (header::CACHE_CONTROL, "public, max-age=5"),
    (header::VARY, "daybook-position"),
];
/// The filters that reduce the number of rows that the list reads.
const SELECTIVE_FILTERS: [&str; 4] = ["q", "currency", "price_min", "price_max"];

/// The parameter in the path.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct ProductPath {
    /// The product's id; case-sensitive.
    #[param(example = "85123A", min_length = 1, max_length = 64)]
    sku: String,
}

/// A product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Product {
    /// The product's id.
    #[schema(example = "85123A")]
    pub sku: String,
    /// The description; may be empty.
    #[schema(example = "WHITE HANGING HEART T-LIGHT HOLDER")]
    pub description: String,
    /// The current price; null until the product is priced for the first time.
    pub price: Option<Amount>,
    /// The time at which the product was created: RFC 3339, in UTC.
    #[schema(example = "2026-01-31T08:26:00.000001Z")]
    pub created_at: String,
    /// The aggregate's version.
    #[schema(example = 2)]
    pub version: i64,
}

/// One page of products.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProductPage {
    /// The products, in the requested sort order.
    pub products: Vec<Product>,
    /// Counts of all matching products, on this page and others; null without `facets=true`.
    pub facets: Option<Facets>,
    /// The `cursor` of the next page; null on the last page.
    #[schema(example = "cursor-of-the-next-page")]
    pub next_cursor: Option<String>,
}

/// Counts of products by price.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Facets {
    /// Number of products with a price.
    #[schema(example = 3)]
    pub priced: i64,
    /// Number of products without a price.
    #[schema(example = 1)]
    pub unpriced: i64,
    /// Numbers of products with a price, by currency.
    pub currencies: Vec<CurrencyCount>,
    /// Numbers of products by currency and price band; bands without a product are left out.
    pub price_bands: Vec<PriceBand>,
}

/// The number of products with a price in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CurrencyCount {
    /// ISO 4217.
    #[schema(example = "GBP")]
    pub currency: String,
    /// Number of products.
    #[schema(example = 3)]
    pub products: i64,
}

/// The number of products with a price in one range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PriceBand {
    /// ISO 4217.
    #[schema(example = "GBP")]
    pub currency: String,
    /// The lowest price of the band, in minor units.
    #[schema(example = 100)]
    pub price_min: i64,
    /// The highest price of the band, in minor units; null for the highest band, which has no upper bound.
    #[schema(example = 499)]
    pub price_max: Option<i64>,
    /// Number of products.
    #[schema(example = 2)]
    pub products: i64,
}

/// Products whose descriptions begin with a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Suggestions {
    /// The suggestions by name, A to Z.
    pub suggestions: Vec<Suggestion>,
}

/// A product whose description begins with a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Suggestion {
    /// The product's id.
    #[schema(example = "85123A")]
    pub sku: String,
    /// The whole description.
    #[schema(example = "WHITE HANGING HEART T-LIGHT HOLDER")]
    pub description: String,
}

pub(super) fn queries() -> Queries {
    vec![
        routes!(list_products),
        routes!(suggest_products),
        routes!(get_product),
    ]
}

/// Products, found by words, misspelt words and prices.
///
/// A 400 has the code SEARCH_REQUIRED, CURRENCY_REQUIRED, INVALID_CURRENCY or INVALID_PRICE_RANGE, or one of those
/// below.
#[utoipa::path(get, path = "/products", tag = "catalog", params(ListQuery), responses(
    (status = 200, description = "One page.", body = ProductPage,
        headers(("Cache-Control" = String, description = "The time for which a cache may keep the answer."))),
    ListProblems))]
async fn list_products(
    State(databases): State<Databases>,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<([(HeaderName, &'static str); 2], Json<ProductPage>), Problem> {
    let filter = Filter::check(query)?;
    let page = answer_filtered(&SELECTIVE_FILTERS, || find_page(&databases, &filter)).await?;
    Ok((CACHED, Json(page)))
}

/// Products whose descriptions begin with a prefix, for a search field that completes names.
#[utoipa::path(get, path = "/products/suggestions", tag = "catalog", params(SuggestionsQuery), responses(
    (status = 200, description = "The first products by name. The list is empty if no product matches.", body = Suggestions,
        headers(("Cache-Control" = String, description = "The time for which a cache may keep the answer."))),
    ListProblems))]
async fn suggest_products(
    State(databases): State<Databases>,
    ApiQuery(query): ApiQuery<SuggestionsQuery>,
) -> Result<([(HeaderName, &'static str); 2], Json<Suggestions>), Problem> {
    let prefix = Prefix::check(&query)?;
    let rows = answer(|| statements::find_by_prefix(&databases, &prefix)).await?;
    let suggestions = rows.into_iter().map(|row| Suggestion {
        sku: row.sku,
        description: row.description,
    });
    let suggestions = suggestions.collect();
    Ok((CACHED, Json(Suggestions { suggestions })))
}

/// One product with its current price.
///
/// A malformed SKU has the code INVALID_SKU.
#[utoipa::path(get, path = "/products/{sku}", tag = "catalog", params(ProductPath), responses(
    (status = 200, description = "The product.", body = Product,
        headers(("Cache-Control" = String, description = "The time for which a cache may keep the answer."))),
    (status = 404, description = "PRODUCT_NOT_FOUND: no product has this SKU.", body = Problem),
    ResourceProblems))]
async fn get_product(
    State(databases): State<Databases>,
    ApiPath(ProductPath { sku }): ApiPath<ProductPath>,
    ApiQuery(NoParameters {}): ApiQuery<NoParameters>,
) -> Result<([(HeaderName, &'static str); 2], Versioned<Product>), Problem> {
    if let Err(error) = Sku::parse(&sku) {
        let status = StatusCode::BAD_REQUEST;
        return Err(Problem::new(status, "INVALID_SKU", format!("sku: {error}")));
    }
    let found = answer(|| statements::find_one(&databases, &sku)).await?;
    let body = found.map(product).ok_or_else(|| {
        let detail = format!("no product has the SKU {sku}: pass a SKU from GET /api/v1/products");
        Problem::new(StatusCode::NOT_FOUND, "PRODUCT_NOT_FOUND", detail)
    })?;
    let version = body.version;
    Ok((CACHED, Versioned { version, body }))
}

async fn find_page(databases: &Databases, filter: &Filter) -> Result<ProductPage, QueryError> {
    let (matches, bands) = statements::find_page(databases, filter).await?;
    let (matches, next_cursor) = cut(filter, matches);
    Ok(ProductPage {
        products: matches
            .into_iter()
            .map(|found| product(found.row))
            .collect(),
        facets: bands.map(facets),
        next_cursor,
    })
}

/// The matches of the page, and the cursor of the next page in the filter's sort order.
fn cut(filter: &Filter, matches: Vec<Match>) -> (Vec<Match>, Option<String>) {
    let (list, limit) = (&filter.list, filter.limit);
    match filter.sort {
        Sort::Relevance => paging::cut(list, matches, limit, |found| ByRelevance {
            relevance: found.relevance,
            sku: found.row.sku.clone(),
        }),
        Sort::Name => paging::cut(list, matches, limit, |found| ByName {
            name: found.row.name.clone(),
            sku: found.row.sku.clone(),
        }),
        // A list by price is limited to one currency, so each of its products has a price.
        Sort::PriceAsc | Sort::PriceDesc => paging::cut(list, matches, limit, |found| ByPrice {
            price: found.row.price.unwrap_or_default(),
            sku: found.row.sku.clone(),
        }),
        Sort::Newest => paging::cut(list, matches, limit, |found| Newest {
            created_at: found.row.created_at.0,
            sku: found.row.sku.clone(),
        }),
    }
}

fn product(row: ProductRow) -> Product {
    Product {
        sku: row.sku,
        description: row.description,
        price: row
            .price
            .zip(row.currency)
            .map(|(amount, currency)| Amount { amount, currency }),
        created_at: row.created_at.0.to_string(),
        version: row.version,
    }
}

fn facets(counts: Vec<BandCount>) -> Facets {
    let mut facets = Facets::default();
    let mut currencies = BTreeMap::<String, i64>::new();
    for count in counts {
        let (Some(currency), Some(band)) = (count.currency, count.band) else {
            facets.unpriced += count.products;
            continue;
        };
        facets.priced += count.products;
        *currencies.entry(currency.clone()).or_default() += count.products;
        let (price_min, price_max) = bounds(band);
        facets.price_bands.push(PriceBand {
            currency,
            price_min,
            price_max,
            products: count.products,
        });
    }
    let currencies = currencies.into_iter();
    facets.currencies = currencies
        .map(|(currency, products)| CurrencyCount { currency, products })
        .collect();
    facets
}

/// The lowest and the highest price of a band.
fn bounds(band: i32) -> (i64, Option<i64>) {
    let band = usize::try_from(band).unwrap_or_default();
    let lowest = band
        .checked_sub(1)
        .and_then(|before| PRICE_BANDS.get(before));
    let highest = PRICE_BANDS.get(band).map(|next| next - 1);
    (lowest.copied().unwrap_or_default(), highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_follow_each_other_without_a_gap() {
        let bands: Vec<_> = (0..).take(PRICE_BANDS.len() + 1).map(bounds).collect();
        assert_eq!(bands.first(), Some(&(0, Some(99))));
        assert_eq!(bands.last(), Some(&(5_000, None)));
        for pair in bands.windows(2) {
            assert_eq!(pair[0].1, Some(pair[1].0 - 1), "{bands:?}");
        }
    }

    #[test]
    fn facets_count_every_product_once() {
        let count = |currency: Option<&str>, band, products| BandCount {
            currency: currency.map(str::to_owned),
            band,
            products,
        };
        let facets = facets(vec![
            count(Some("EUR"), Some(0), 1),
            count(Some("GBP"), Some(0), 2),
            count(Some("GBP"), Some(4), 3),
            count(None, None, 4),
        ]);
        assert_eq!((facets.priced, facets.unpriced), (6, 4));
        let currencies: Vec<_> = facets
            .currencies
            .iter()
            .map(|count| (&*count.currency, count.products))
            .collect();
        assert_eq!(currencies, [("EUR", 1), ("GBP", 5)]);
        let last = facets.price_bands.last().unwrap();
        assert_eq!(
            (last.price_min, last.price_max, last.products),
            (5_000, None, 3)
        );
    }
}
