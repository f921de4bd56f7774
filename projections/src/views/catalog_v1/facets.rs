//! Facets: how many of the products that match a search have which currency and price.

use super::search::{Search, push_matching};
use crate::{order::Amount, problems::QueryError};
use serde::Serialize;
use sqlx::{FromRow, PgPool, Postgres, QueryBuilder};
use utoipa::ToSchema;

/// Most products that are counted. A facet is a hint for the reader, and must not cost more than the list.
const COUNTED_MAX: i64 = 20_000;
/// Where the ranges of prices begin, in minor units; the first range ends at the first bound.
const RANGE_BOUNDS: [i64; 7] = [100, 250, 500, 1_000, 2_500, 5_000, 10_000];

/// The currencies and prices of the products that match `q`, whatever the other filters are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct CatalogFacets {
    /// Number of products that were counted.
    #[schema(example = 412)]
    pub products: i64,
    /// Whether every product that matches was counted; if not, narrow `q`.
    #[schema(example = true)]
    pub is_complete: bool,
    /// Number of products without a price.
    #[schema(example = 3)]
    pub without_price: i64,
    /// The prices in each currency, by its code.
    pub currencies: Vec<CurrencyFacet>,
}

/// The products with a price in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CurrencyFacet {
    /// ISO 4217.
    #[schema(example = "GBP")]
    pub currency: String,
    /// Number of products.
    #[schema(example = 409)]
    pub products: i64,
    /// The lowest price.
    pub lowest: Amount,
    /// The highest price.
    pub highest: Amount,
    /// Ranges with at least one product, from the cheapest on.
    pub ranges: Vec<PriceRange>,
}

/// The products in a range of prices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PriceRange {
    /// The lowest price of the range, in minor units: a value for `price_min`; null for the first range.
    #[schema(example = 250)]
    pub price_min: Option<i64>,
    /// The highest price of the range, in minor units: a value for `price_max`; null for the last range.
    #[schema(example = 499)]
    pub price_max: Option<i64>,
    /// Number of products.
    #[schema(example = 120)]
    pub products: i64,
}

/// The products of one currency and range.
#[derive(Debug, FromRow)]
struct Group {
    /// `None` without a price.
    currency: Option<String>,
    /// The number of bounds at or below the price; `None` without a price.
    range: Option<i32>,
    products: i64,
    lowest: Option<i64>,
    highest: Option<i64>,
}

/// Counts the products that match a text, or all.
pub(super) async fn find(pool: &PgPool, text: Option<&str>) -> Result<CatalogFacets, QueryError> {
    let search = Search {
        text,
        is_ranked: false,
    };
    let mut query = QueryBuilder::<Postgres>::new("SELECT currency, width_bucket(price, ");
    query.push_bind(RANGE_BOUNDS.to_vec()).push(
        ") AS range, count(*) AS products, min(price) AS lowest, max(price) AS highest \
         FROM (SELECT currency, price FROM (",
    );
    push_matching(&mut query, search, "currency, price", |_| {});
    // One product more, to know whether all were counted.
    query
        .push(") AS matches LIMIT ")
        .push_bind(COUNTED_MAX + 1)
        .push(") AS counted GROUP BY currency, range ORDER BY currency, range");
    let groups: Vec<Group> = query.build_query_as().fetch_all(pool).await?;
    Ok(facets(groups))
}

/// The facets of groups that are sorted by currency and range.
fn facets(groups: Vec<Group>) -> CatalogFacets {
    let mut facets = CatalogFacets::default();
    for group in groups {
        facets.products += group.products;
        let (Some(currency), Some(range), Some(lowest), Some(highest)) =
            (group.currency, group.range, group.lowest, group.highest)
        else {
            facets.without_price += group.products;
            continue;
        };
        let (lowest, highest) = (
            Amount::new(lowest, &currency),
            Amount::new(highest, &currency),
        );
        let range = price_range(range, group.products);
        match facets.currencies.last_mut() {
            Some(facet) if facet.currency == currency => {
                facet.products += group.products;
                facet.highest = highest;
                facet.ranges.push(range);
            }
            Some(_) | None => facets.currencies.push(CurrencyFacet {
                currency,
                products: group.products,
                lowest,
                highest,
                ranges: vec![range],
            }),
        }
    }
    facets.is_complete = facets.products <= COUNTED_MAX;
    facets
}

/// The range with this number of bounds at or below its prices.
fn price_range(bounds_below: i32, products: i64) -> PriceRange {
    let index = usize::try_from(bounds_below).unwrap_or_default();
    let begins = index
        .checked_sub(1)
        .and_then(|index| RANGE_BOUNDS.get(index));
    PriceRange {
        price_min: begins.copied(),
        price_max: RANGE_BOUNDS.get(index).map(|end| end - 1),
        products,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(currency: Option<&str>, range: i32, products: i64, price: i64) -> Group {
        Group {
            currency: currency.map(str::to_owned),
            range: currency.map(|_| range),
            products,
            lowest: currency.map(|_| price),
            highest: currency.map(|_| price + 1),
        }
    }

    #[test]
    fn groups_become_ranges_of_their_currency() {
        let found = facets(vec![
            group(Some("EUR"), 7, 1, 10_000),
            group(Some("GBP"), 0, 2, 5),
            group(Some("GBP"), 2, 3, 300),
            group(None, 0, 4, 0),
        ]);
        let range = |price_min, price_max, products| PriceRange {
            price_min,
            price_max,
            products,
        };
        let expected = CatalogFacets {
            products: 10,
            is_complete: true,
            without_price: 4,
            currencies: vec![
                CurrencyFacet {
                    currency: "EUR".into(),
                    products: 1,
                    lowest: Amount::new(10_000, "EUR"),
                    highest: Amount::new(10_001, "EUR"),
                    ranges: vec![range(Some(10_000), None, 1)],
                },
                CurrencyFacet {
                    currency: "GBP".into(),
                    products: 5,
                    lowest: Amount::new(5, "GBP"),
                    highest: Amount::new(301, "GBP"),
                    ranges: vec![range(None, Some(99), 2), range(Some(250), Some(499), 3)],
                },
            ],
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn facets_that_reach_the_limit_say_so() {
        let found = facets(vec![group(None, 0, COUNTED_MAX + 1, 0)]);
        assert!(!found.is_complete, "{found:?}");
    }
}
