//! The view of the catalog behind its queries.

use crate::{
    api::{assert_problem, get, pages, serve, texts},
    backends::{OnBoth, run},
    log::{batch, commit, open},
};
use projections::{Databases, Store, postgres::PostgresStore, views::catalog_v1::CatalogView};
use schemas::{
    Currency, Money, Sku,
    catalog::{Event, ProductCreated, ProductEvent, ProductPriceChanged},
};
use serde_json::{Value, json};

/// SKU, description, and the price, if the product has one.
type Product = (&'static str, &'static str, Option<(i64, &'static str)>);

const PRODUCTS: [Product; 8] = [
    (
        "85123A",
        "WHITE HANGING HEART T-LIGHT HOLDER",
        Some((255, "GBP")),
    ),
    ("85123a", "Red hanging hearts", Some((255, "GBP"))),
    ("71053", "WHITE METAL LANTERN", Some((339, "GBP"))),
    (
        "84406B",
        "CREAM CUPID HEARTS COAT HANGER",
        Some((275, "GBP")),
    ),
    (
        "22752",
        "SET 7 BABUSHKA NESTING BOXES",
        Some((76_500, "JPY")),
    ),
    ("GIFT_50%", "50%_off voucher", Some((5_000, "GBP"))),
    ("POST", "", None),
    ("22423", "REGENCY CAKESTAND 3 TIER", None),
];

/// Applies each product's events; the prices come in a second batch.
async fn apply(databases: &Databases) {
    let (mut created, mut priced) = (Vec::new(), Vec::new());
    for (offset, (sku, description, price)) in (0..).zip(PRODUCTS) {
        let key = format!("product_{sku}");
        let product = ProductEvent::ProductCreated(ProductCreated {
            sku: Sku::parse(sku).unwrap(),
            description: description.into(),
        });
        created.push(commit(offset, &key, 1, Event::Product(product)));
        let Some((amount, currency)) = price else {
            continue;
        };
        let currency = Currency::parse(currency).unwrap();
        let price = ProductEvent::ProductPriceChanged(ProductPriceChanged {
            old: None,
            new: Money { amount, currency },
        });
        priced.push(commit(8 + offset, &key, 2, Event::Product(price)));
    }
    let store = PostgresStore::<CatalogView>::new(databases.postgres.clone());
    open(&store).await;
    store.apply(&batch(0, 8, created)).await.unwrap();
    store.apply(&batch(8, 16, priced)).await.unwrap();
}

/// The SKUs of every page of a list.
async fn skus(url: &str) -> Vec<String> {
    texts(&pages(url, "products").await, "sku")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_is_shown_with_its_price() {
    run(async |OnBoth { databases, .. }: &OnBoth| {
        apply(databases).await;
        let api = serve(databases).await;
        let (status, product) = get(&format!("{api}/products/85123A")).await;
        assert_eq!(status, 200, "{product}");
        let expected = json!({
            "sku": "85123A",
            "description": "WHITE HANGING HEART T-LIGHT HOLDER",
            "price": {"amount": 255, "currency": "GBP"},
            "version": 2,
        });
        assert_eq!(product, expected);
        let (_, product) = get(&format!("{api}/products/POST")).await;
        assert_eq!(product["price"], Value::Null, "{product}");
        assert_problem(&format!("{api}/products/NONE"), 404, "PRODUCT_NOT_FOUND").await;
        assert_problem(&format!("{api}/products/%20"), 400, "INVALID_SKU").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_finds_words_in_any_form_and_skus() {
    run(async |OnBoth { databases, .. }: &OnBoth| {
        apply(databases).await;
        let api = serve(databases).await;
        for (q, expected) in [
            ("hanging+hearts", vec!["85123A", "85123a"]),
            ("heart", vec!["84406B", "85123A", "85123a"]),
            ("heart+-cream", vec!["85123A", "85123a"]),
            ("lantern+or+cakestand", vec!["22423", "71053"]),
            ("22752", vec!["22752"]),
            // No product has these words, so spelling counts.
            ("lantren", vec!["71053"]),
            ("babuska", vec!["22752"]),
            ("cakstand", vec!["22423"]),
            ("nothing+like+this", vec![]),
            ("'%22:*%26|!(", vec![]),
        ] {
            let mut found = skus(&format!("{api}/products?limit=2&q={q}")).await;
            found.sort();
            assert_eq!(found, expected, "{q}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn products_are_sorted_by_sku_price_or_relevance() {
    run(async |OnBoth { databases, .. }: &OnBoth| {
        apply(databases).await;
        let api = serve(databases).await;
        for limit in [1, 3, 100] {
            let list = format!("{api}/products?limit={limit}");
            let mut all: Vec<&str> = PRODUCTS.iter().map(|(sku, ..)| *sku).collect();
            all.sort_unstable();
            assert_eq!(skus(&list).await, all);
            let by_price = format!("{list}&currency=GBP&sort=price_");
            let mut ascending = vec!["85123A", "85123a", "84406B", "71053", "GIFT_50%"];
            assert_eq!(skus(&format!("{by_price}asc")).await, ascending);
            ascending.reverse();
            assert_eq!(skus(&format!("{by_price}desc")).await, ascending);
            let in_range = format!("{by_price}asc&price_min=255&price_max=339&q=white");
            assert_eq!(skus(&in_range).await, ["85123A", "71053"]);
            let by_relevance = skus(&format!("{list}&q=hanging+heart")).await;
            let again = skus(&format!("{api}/products?sort=relevance&q=hanging+heart")).await;
            assert_eq!(by_relevance, again);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn facets_count_what_the_search_finds() {
    run(async |OnBoth { databases, .. }: &OnBoth| {
        apply(databases).await;
        let api = serve(databases).await;
        let (_, page) = get(&format!("{api}/products?facets=true&limit=1&currency=JPY")).await;
        let range = |min: Option<i64>, max: Option<i64>, products: i64| {
            json!({"price_min": min, "price_max": max, "products": products})
        };
        let expected = json!({
            "products": 8,
            "is_complete": true,
            "without_price": 2,
            "currencies": [
                {
                    "currency": "GBP",
                    "products": 5,
                    "lowest": {"amount": 255, "currency": "GBP"},
                    "highest": {"amount": 5000, "currency": "GBP"},
                    "ranges": [
                        range(Some(250), Some(499), 4),
                        range(Some(5_000), Some(9_999), 1),
                    ],
                },
                {
                    "currency": "JPY",
                    "products": 1,
                    "lowest": {"amount": 76_500, "currency": "JPY"},
                    "highest": {"amount": 76_500, "currency": "JPY"},
                    "ranges": [range(Some(10_000), None, 1)],
                },
            ],
        });
        assert_eq!(page["facets"], expected);
        let (_, page) = get(&format!("{api}/products?facets=true&q=heart")).await;
        assert_eq!(page["facets"]["products"], 3, "{page}");
        let (_, page) = get(&format!("{api}/products?q=heart")).await;
        assert_eq!(page.get("facets"), None, "{page}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suggestions_begin_with_the_prefix() {
    run(async |OnBoth { databases, .. }: &OnBoth| {
        apply(databases).await;
        let api = serve(databases).await;
        for (prefix, expected) in [
            ("white", vec!["85123A", "71053"]),
            ("White+m", vec!["71053"]),
            ("851", vec!["85123A", "85123a"]),
            // These characters have no meaning of their own.
            ("50%25_", vec!["GIFT_50%"]),
            ("%25", vec![]),
            ("_", vec![]),
        ] {
            let url = format!("{api}/products/suggestions?prefix={prefix}");
            let (status, found) = get(&url).await;
            assert_eq!(status, 200, "{found}");
            let found = found["suggestions"].as_array().unwrap();
            assert_eq!(texts(found, "sku"), expected, "{prefix}");
        }
        let (_, found) = get(&format!("{api}/products/suggestions?prefix=white&limit=1")).await;
        assert_eq!(found["suggestions"].as_array().unwrap().len(), 1, "{found}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_filter_or_a_missing_parameter_is_refused() {
    run(async |OnBoth { databases, .. }: &OnBoth| {
        let api = serve(databases).await;
        for (query, code) in [
            ("products?category=1", "UNKNOWN_OR_INVALID_PARAMETER"),
            ("products?facets=maybe", "UNKNOWN_OR_INVALID_PARAMETER"),
            ("products?price_min=1", "PARAMETER_MISSING"),
            ("products?sort=price_asc", "PARAMETER_MISSING"),
            ("products?sort=relevance", "PARAMETER_MISSING"),
            ("products?currency=pounds", "INVALID_CURRENCY"),
            ("products?q=", "INVALID_TEXT"),
            ("products/suggestions", "UNKNOWN_OR_INVALID_PARAMETER"),
            ("products/suggestions?prefix=", "INVALID_TEXT"),
            ("products/suggestions?prefix=a&limit=101", "INVALID_LIMIT"),
        ] {
            assert_problem(&format!("{api}/{query}"), 400, code).await;
        }
    })
    .await;
}
