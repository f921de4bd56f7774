//! The parameters of the queries for products, and their validation.

use super::{
    sort::{After, Sort},
    tables::{CatalogView, NAME_CHARS_MAX},
};
use crate::{order, paging, view::View};
use axum::http::StatusCode;
use serde::Deserialize;
use service::problem::Problem;
use utoipa::IntoParams;

/// Maximum length of a search text, in bytes.
pub const SEARCH_BYTES_MAX: usize = 200;
/// Maximum number of suggestions.
pub const SUGGESTIONS_MAX: u16 = 20;
/// Number of suggestions if the query has no `limit`.
const SUGGESTIONS_DEFAULT: u16 = 10;

/// The parameters of the list: filters, sort order and page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Words of the description, or a SKU. If no product has all of them, it finds products with similar names, so words
    /// may be misspelt. The search has no operators. At most 200 bytes.
    #[param(example = "hanging heart", max_length = 200)]
    q: Option<String>,
    /// Only products with a price in this currency, ISO 4217.
    #[param(example = "GBP", min_length = 3, max_length = 3)]
    currency: Option<String>,
    /// Only products of at least this price, in minor units of `currency`.
    #[param(example = 100, minimum = 0)]
    price_min: Option<i64>,
    /// Only products of at most this price, in minor units of `currency`.
    #[param(example = 500, minimum = 0)]
    price_max: Option<i64>,
    /// Only products with a price, or only products without one.
    #[param(example = true)]
    priced: Option<bool>,
    /// The sort order. Default: `relevance` with `q`, `name` without it. `relevance` needs `q`; `price_asc` and
    /// `price_desc` need `currency`.
    #[param(inline, example = "name")]
    sort: Option<Sort>,
    /// Whether the answer has the numbers of all matching products by price.
    #[param(example = true)]
    facets: Option<bool>,
    /// Products per page, 1 to 100; 20 by default.
    #[param(example = 20, minimum = 1, maximum = 100)]
    limit: Option<u16>,
    /// The `next_cursor` of the previous page.
    #[param(example = "cursor-of-the-next-page")]
    cursor: Option<String>,
}

/// The parameters of the suggestions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SuggestionsQuery {
    /// The beginning of the description, in upper or lower case; 1 to 100 characters.
    #[param(example = "white hang", min_length = 1, max_length = 100)]
    prefix: String,
    /// Maximum number of suggestions, 1 to 20; 10 by default.
    #[param(example = 10, minimum = 1, maximum = 20)]
    limit: Option<u16>,
}

/// A validated [`ListQuery`].
#[derive(Debug, PartialEq)]
pub(super) struct Filter {
    /// The name of the list with these filters and this sort order: cursors of another list are rejected.
    pub list: String,
    /// The search text in lower case, trimmed.
    pub search: Option<String>,
    pub currency: Option<String>,
    pub price_min: Option<i64>,
    pub price_max: Option<i64>,
    pub priced: Option<bool>,
    pub sort: Sort,
    pub facets: bool,
    pub limit: u16,
    pub after: Option<After>,
}

/// A validated [`SuggestionsQuery`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    /// The prefix in lower case.
    pub text: String,
    pub limit: u16,
}

impl Filter {
    pub(super) fn check(query: ListQuery) -> Result<Self, Problem> {
        let search = query.q.as_deref().map(search).transpose()?;
        let currency = query.currency.as_deref();
        let currency = currency
            .map(|text| order::currency("currency", text))
            .transpose()?;
        let sort = query.sort.unwrap_or(match search {
            Some(_) => Sort::Relevance,
            None => Sort::Name,
        });
        let (price_min, price_max) = (query.price_min, query.price_max);
        check_required(
            sort,
            search.is_some(),
            currency.is_some(),
            price_min,
            price_max,
        )?;
        let filters = (&search, &currency, price_min, price_max, query.priced, sort);
        let list = paging::list(CatalogView::NAME, &filters);
        Ok(Self {
            after: after(sort, &list, query.cursor.as_deref())?,
            list,
            search,
            currency,
            price_min,
            price_max,
            priced: query.priced,
            sort,
            facets: query.facets.unwrap_or(false),
            limit: paging::limit(query.limit)?,
        })
    }
}

impl Prefix {
    pub(super) fn check(query: &SuggestionsQuery) -> Result<Self, Problem> {
        let text = paging::text("prefix", &query.prefix)?.to_lowercase();
        if !(1..=NAME_CHARS_MAX).contains(&text.chars().count()) {
            let detail = format!("prefix: pass 1 to {NAME_CHARS_MAX} characters");
            return Err(refused("INVALID_TEXT", detail));
        }
        match query.limit.unwrap_or(SUGGESTIONS_DEFAULT) {
            limit @ 1..=SUGGESTIONS_MAX => Ok(Self { text, limit }),
            limit => {
                let detail = format!("limit is {limit}; pass a number from 1 to {SUGGESTIONS_MAX}");
                Err(refused("INVALID_LIMIT", detail))
            }
        }
    }
}

fn search(text: &str) -> Result<String, Problem> {
    let search = paging::text("q", text)?.to_lowercase();
    match search.len() {
        1..=SEARCH_BYTES_MAX => Ok(search),
        _ => {
            let detail = format!("q: pass 1 to {SEARCH_BYTES_MAX} bytes");
            Err(refused("INVALID_TEXT", detail))
        }
    }
}

/// Prices of different currencies can't be compared, and only a search has a relevance.
fn check_required(
    sort: Sort,
    has_search: bool,
    has_currency: bool,
    price_min: Option<i64>,
    price_max: Option<i64>,
) -> Result<(), Problem> {
    let sorts_by_price = match sort {
        Sort::PriceAsc | Sort::PriceDesc => true,
        Sort::Relevance if !has_search => {
            let detail = "sort=relevance: pass the search text in q, or another sort";
            return Err(refused("SEARCH_REQUIRED", detail));
        }
        Sort::Relevance | Sort::Name | Sort::Newest => false,
    };
    if !has_currency && (sorts_by_price || price_min.is_some() || price_max.is_some()) {
        let detail = "price_min, price_max, sort=price_asc and sort=price_desc: pass the prices' currency in currency";
        return Err(refused("CURRENCY_REQUIRED", detail));
    }
    if let (Some(min), Some(max)) = (price_min, price_max)
        && min > max
    {
        let detail = "price_min is above price_max: pass a price_min that is at most price_max";
        return Err(refused("INVALID_PRICE_RANGE", detail));
    }
    Ok(())
}

/// Parses the cursor of a list with this sort order.
fn after(sort: Sort, list: &str, cursor: Option<&str>) -> Result<Option<After>, Problem> {
    Ok(match sort {
        Sort::Relevance => paging::cursor(list, cursor)?.map(After::Relevance),
        Sort::Name => paging::cursor(list, cursor)?.map(After::Name),
        Sort::PriceAsc | Sort::PriceDesc => paging::cursor(list, cursor)?.map(After::Price),
        Sort::Newest => paging::cursor(list, cursor)?.map(After::Newest),
    })
}

fn refused(code: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, code, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str) -> Result<Filter, &'static str> {
        let uri = format!("/products?{query}").parse().unwrap();
        let query = axum::extract::Query::try_from_uri(&uri).unwrap().0;
        Filter::check(query).map_err(|problem| problem.code)
    }

    #[test]
    fn the_order_is_by_relevance_only_with_a_search() {
        assert_eq!(check("").map(|filter| filter.sort), Ok(Sort::Name));
        let searched = check("q=%20Heart").unwrap();
        assert_eq!(searched.sort, Sort::Relevance);
        assert_eq!(searched.search.as_deref(), Some("heart"));
        assert_eq!(check("sort=relevance"), Err("SEARCH_REQUIRED"));
        assert_eq!(
            check("q=a&sort=newest").map(|filter| filter.sort),
            Ok(Sort::Newest)
        );
    }

    #[test]
    fn prices_need_their_currency_and_a_range() {
        for refused in [
            "price_min=1",
            "price_max=1",
            "sort=price_asc",
            "sort=price_desc",
        ] {
            assert_eq!(check(refused), Err("CURRENCY_REQUIRED"), "{refused}");
            let filter = check(&format!("{refused}&currency=GBP"));
            assert!(
                filter.is_ok(),
                "with a currency, {refused} is an error: {filter:?}"
            );
        }
        assert_eq!(
            check("price_min=2&price_max=1&currency=GBP"),
            Err("INVALID_PRICE_RANGE")
        );
        assert_eq!(check("currency=gbp"), Err("INVALID_CURRENCY"));
    }

    #[test]
    fn a_search_and_a_prefix_have_a_length() {
        for query in ["q=", "q=%20", &format!("q={}", "a".repeat(201))] {
            assert_eq!(check(query), Err("INVALID_TEXT"), "{query}");
        }
        let prefix = |prefix: &str, limit| {
            let prefix = prefix.to_owned();
            let checked = Prefix::check(&SuggestionsQuery { prefix, limit });
            checked.map_err(|problem| problem.code)
        };
        assert_eq!(prefix("", None), Err("INVALID_TEXT"));
        assert_eq!(prefix(&"a".repeat(101), None), Err("INVALID_TEXT"));
        assert_eq!(prefix("a", Some(21)), Err("INVALID_LIMIT"));
        let text = "white".to_owned();
        assert_eq!(prefix("White", None), Ok(Prefix { text, limit: 10 }));
    }

    #[test]
    fn a_cursor_is_accepted_only_with_the_filters_and_the_order_of_its_page() {
        let lists = [
            "currency=GBP",
            "currency=EUR",
            "q=heart&sort=name",
            "currency=GBP&price_min=1",
            "currency=GBP&price_max=1",
            "priced=true",
            "sort=newest",
        ];
        let key = super::super::sort::ByName {
            name: "heart".into(),
            sku: "85123A".into(),
        };
        for of_page in lists {
            let cursor = paging::encode(&check(of_page).unwrap().list, &key);
            for list in lists {
                let next = check(&format!("{list}&facets=true&limit=7&cursor={cursor}"));
                match list == of_page && !list.contains("newest") {
                    true => assert_eq!(
                        next.unwrap().after,
                        Some(After::Name(key.clone())),
                        "{list}"
                    ),
                    false => assert_eq!(next, Err("INVALID_CURSOR"), "{list}"),
                }
            }
        }
    }
}
