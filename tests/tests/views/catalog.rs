//! The queries of the catalog: search, filters by price, suggestions, and the sort orders of the list.

use crate::{
    backends::{BothBackends, run},
    log::{apply_batch, batch, commit, open},
    queries::{assert_problem, get, serve},
};
use journal::Valid;
use projections::{
    Databases, View,
    builds::Build,
    columns::Columns,
    postgres::PostgresStore,
    views::catalog_v1::{CatalogView, ProductRow},
};
use reqwest::header;
use schemas::{
    Currency, Money, Sku,
    catalog::{Event, ProductCreated, ProductEvent, ProductPriceChanged},
};
use serde_json::{Value, json};

/// SKU, description, and price in pence.
type Product = (&'static str, &'static str, Option<i64>);

/// Two of the products have the same price, and two have the same description.
const PRODUCTS: [Product; 8] = [
    ("85123A", "WHITE HANGING HEART T-LIGHT HOLDER", Some(295)),
    ("21733", "RED HANGING HEART T-LIGHT HOLDER", Some(295)),
    ("22464", "HANGING METAL HEART LANTERN", Some(165)),
    ("22224", "WHITE LOVEBIRD LANTERN", Some(99)),
    ("71053", "WHITE METAL LANTERN", Some(5_000)),
    ("71053B", "WHITE METAL LANTERN", Some(375)),
    ("22423", "REGENCY CAKESTAND 3 TIER", Some(1_275)),
    ("79323P", "CAF\u{c9} CHAIR", None),
];

fn commits() -> Vec<Valid<Event>> {
    let mut commits = Vec::new();
    for (sku, description, price) in PRODUCTS {
        let key = format!("product_{sku}");
        let created = ProductEvent::ProductCreated(ProductCreated {
            sku: Sku::parse(sku).unwrap(),
            description: description.to_owned(),
        });
        let next = |commits: &Vec<_>| i64::try_from(commits.len()).unwrap();
        commits.push(commit(next(&commits), &key, 1, Event::Product(created)));
        if let Some(amount) = price {
            let new = Money {
                amount,
                currency: Currency::GBP,
            };
            let changed = ProductEvent::ProductPriceChanged(ProductPriceChanged { old: None, new });
            commits.push(commit(next(&commits), &key, 2, Event::Product(changed)));
        }
    }
    commits
}

async fn apply(databases: &Databases) {
    let commits = commits();
    let next_offset = i64::try_from(commits.len()).unwrap();
    let store = PostgresStore::<CatalogView>::new(databases.postgres.clone(), 1);
    open(&store).await;
    apply_batch(&store, &batch(0, next_offset, commits))
        .await
        .unwrap();
}

/// The SKUs of a list, from its first page to its last.
async fn read_all_pages(url: &str) -> Vec<String> {
    let (mut walked, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = get(&format!("{url}{cursor}")).await;
        assert_eq!(status, 200, "{url}: {page}");
        let products = page["products"].as_array().unwrap().iter();
        walked.extend(products.map(|product| product["sku"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return walked,
        }
    }
}

fn sorted(mut skus: Vec<String>) -> Vec<String> {
    skus.sort();
    skus
}

#[tokio::test(flavor = "multi_thread")]
async fn words_find_their_products_and_the_best_match_comes_first() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        apply(databases).await;
        let api = serve(databases).await;
        let found = read_all_pages(&format!("{api}/products?q=lanterns")).await;
        assert_eq!(sorted(found), ["22224", "22464", "71053", "71053B"]);
        let found = read_all_pages(&format!("{api}/products?q=Metal%20lantern&limit=1")).await;
        // A similar description without one of the words is not enough.
        assert_eq!(sorted(found), ["22464", "71053", "71053B"]);
        let found = read_all_pages(&format!("{api}/products?q=caf%C3%89")).await;
        assert_eq!(found[0], "79323P", "{found:?}");
        let found = read_all_pages(&format!("{api}/products?q=85123a")).await;
        assert_eq!(found, ["85123A"]);
        let found = read_all_pages(&format!("{api}/products?q=umbrella")).await;
        assert_eq!(found, Vec::<String>::new());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn misspelt_words_find_similar_products_if_no_product_has_the_words() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        apply(databases).await;
        let api = serve(databases).await;
        for (misspelt, first) in [
            ("lantren", "lantern"),
            ("hangng", "hanging"),
            ("cakstand", "cake"),
        ] {
            let (_, page) = get(&format!("{api}/products?q={misspelt}")).await;
            let description = page["products"][0]["description"].as_str();
            let description = description.unwrap_or_default().to_lowercase();
            assert!(
                description.contains(first),
                "{misspelt}: no {first:?} in {page}"
            );
        }
        let found = read_all_pages(&format!("{api}/products?q=hanging%20heart&limit=1")).await;
        let both = ["21733", "22464", "85123A"].map(str::to_owned);
        assert_eq!(sorted(found), both);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_has_every_product_once_over_all_pages() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        apply(databases).await;
        let api = serve(databases).await;
        let by = |mut products: Vec<Product>, key: fn(&Product) -> (i64, String)| {
            products.sort_by_key(key);
            let skus = products.into_iter().map(|(sku, ..)| sku.to_owned());
            skus.collect::<Vec<_>>()
        };
        let by_price = |product: &Product| (product.2.unwrap(), product.0.to_owned());
        let by_name =
            |product: &Product| (0, format!("{}/{}", product.1.to_lowercase(), product.0));
        let priced: Vec<_> = PRODUCTS
            .into_iter()
            .filter(|product| product.2.is_some())
            .collect();
        let rising = by(priced, by_price);
        let falling: Vec<String> = rising.iter().rev().cloned().collect();
        for limit in [1, 3, 100] {
            let url = format!("{api}/products?limit={limit}");
            assert_eq!(
                read_all_pages(&url).await,
                by(PRODUCTS.to_vec(), by_name),
                "{limit}"
            );
            let found = read_all_pages(&format!("{url}&sort=price_asc&currency=GBP")).await;
            assert_eq!(found, rising, "{limit}");
            let found = read_all_pages(&format!("{url}&sort=price_desc&currency=GBP")).await;
            assert_eq!(found, falling, "{limit}");
            // All products have the same log time, so the SKU decides.
            let mut skus = PRODUCTS.map(|(sku, ..)| sku.to_owned());
            skus.sort();
            skus.reverse();
            assert_eq!(
                read_all_pages(&format!("{url}&sort=newest")).await,
                skus,
                "{limit}"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn products_are_filtered_and_counted_by_price() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        apply(databases).await;
        let api = serve(databases).await;
        let range = "currency=GBP&price_min=165&price_max=295";
        let found = read_all_pages(&format!("{api}/products?{range}")).await;
        assert_eq!(sorted(found), ["21733", "22464", "85123A"]);
        assert_eq!(read_all_pages(&format!("{api}/products?priced=false")).await, ["79323P"]);
        let found = read_all_pages(&format!("{api}/products?currency=EUR")).await;
        assert_eq!(found, Vec::<String>::new());

        let (_, page) = get(&format!("{api}/products?facets=true&limit=1")).await;
        let band = |price_min, price_max: Option<i64>, products| {
            json!({"currency": "GBP", "price_min": price_min, "price_max": price_max, "products": products})
        };
        let expected = json!({
            "priced": 7,
            "unpriced": 1,
            "currencies": [{"currency": "GBP", "products": 7}],
            "price_bands": [
                band(0, Some(99), 1),
                band(100, Some(499), 4),
                band(1_000, Some(4_999), 1),
                band(5_000, None, 1),
            ],
        });
        assert_eq!(page["facets"], expected);
        let (_, page) = get(&format!("{api}/products?facets=true&q=lantern&{range}")).await;
        assert_eq!(page["facets"]["priced"], 1, "{page}");
        let (_, page) = get(&format!("{api}/products")).await;
        assert_eq!(page["facets"], Value::Null);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_suggests_the_names_that_begin_with_it() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        apply(databases).await;
        let api = serve(databases).await;
        let suggested = async |query: &str| {
            let (status, answer) = get(&format!("{api}/products/suggestions?{query}")).await;
            assert_eq!(status, 200, "{answer}");
            let suggestions = answer["suggestions"].as_array().unwrap().iter();
            let skus = suggestions.map(|one| one["sku"].as_str().unwrap().to_owned());
            skus.collect::<Vec<_>>()
        };
        assert_eq!(
            suggested("prefix=White").await,
            ["85123A", "22224", "71053", "71053B"]
        );
        assert_eq!(suggested("prefix=white%20m&limit=1").await, ["71053"]);
        assert_eq!(suggested("prefix=Caf%C3%A9").await, ["79323P"]);
        // `%` and `_` are not wildcards in a prefix.
        for wildcard in ["%25", "_hite"] {
            let found = suggested(&format!("prefix={wildcard}")).await;
            assert_eq!(found, Vec::<String>::new(), "{wildcard}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_is_shown_with_its_price_and_its_version_as_the_tag() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        apply(databases).await;
        let api = serve(databases).await;
        let response = reqwest::get(format!("{api}/products/85123A"))
            .await
            .unwrap();
        let headers = response.headers().clone();
        assert_eq!(headers[header::ETAG], "\"2\"");
        assert_eq!(headers[header::CACHE_CONTROL], "public, max-age=5");
        let product: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        let expected = json!({
            "sku": "85123A",
            "description": "WHITE HANGING HEART T-LIGHT HOLDER",
            "price": {"amount": 295, "currency": "GBP"},
            "created_at": "1970-01-01T00:00:00Z",
            "version": 2,
        });
        assert_eq!(product, expected);
        for (path, status, code) in [
            ("products/none", 404, "PRODUCT_NOT_FOUND"),
            ("products/%20", 400, "INVALID_SKU"),
            ("products?sort=price_asc", 400, "CURRENCY_REQUIRED"),
            ("products?colour=red", 400, "UNKNOWN_OR_INVALID_PARAMETER"),
        ] {
            assert_problem(&format!("{api}/{path}"), status, code).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_create_the_extension_gets_an_error_that_says_so() {
    run(
        async |BothBackends {
                   databases, name, ..
               }: &BothBackends| {
            apply(databases).await;
            let build = Build::first(CatalogView::NAME);
            let (table, role) = (build.table(ProductRow::TABLE), format!("{name}_role"));
            let set_up = format!(
                "DROP TABLE {table}; DROP EXTENSION pg_trgm; CREATE ROLE {role}; \
             GRANT ALL ON SCHEMA public TO {role}; SET ROLE {role};"
            );
            let mut connection = databases.postgres.acquire().await.unwrap().detach();
            let run_sql = async |sql: String, connection: &mut sqlx::PgConnection| {
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
                    .execute(connection)
                    .await
            };
            run_sql(set_up, &mut connection).await.unwrap();
            let schema = <CatalogView as projections::postgres::PostgresView>::SCHEMA;
            let refused = run_sql(build.fill(schema), &mut connection)
                .await
                .unwrap_err();
            let message = refused.to_string();
            run_sql(
                format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role};"),
                &mut connection,
            )
            .await
            .unwrap();
            assert!(
                message.contains("run CREATE EXTENSION pg_trgm"),
                "no \"run CREATE EXTENSION pg_trgm\" in: {message}"
            );
        },
    )
    .await;
}
