//! The rows of `catalog_v1`.

use crate::{
    backends::{PostgresBackend, run},
    rows::events::TEXT,
    spec::{InPostgres, in_postgres, recorded_at},
};
use projections::{
    postgres::Instant,
    views::catalog_v1::{CatalogView, ProductRow},
};
use schemas::{
    Currency, Money, Sku,
    catalog::{Event, ProductCreated, ProductEvent, ProductPriceChanged},
};

type Catalog = InPostgres<CatalogView>;

#[tokio::test(flavor = "multi_thread")]
async fn the_stored_rows_are_those_of_the_events() {
    run(async |backend: &PostgresBackend| {
        let mut catalog = in_postgres::<CatalogView>(backend).await;
        a_new_product_has_no_price(&mut catalog).await;
        the_last_price_is_kept(&mut catalog).await;
        texts_are_kept(&mut catalog).await;
        the_case_of_a_sku_counts(&mut catalog).await;
    })
    .await;
}

fn created(sku: &str, description: &str) -> Event {
    Event::Product(ProductEvent::ProductCreated(ProductCreated {
        sku: Sku::parse(sku).unwrap(),
        description: description.into(),
    }))
}

fn priced(amount: i64, currency: &str) -> Event {
    let currency = Currency::parse(currency).unwrap();
    let new = Money { amount, currency };
    Event::Product(ProductEvent::ProductPriceChanged(ProductPriceChanged {
        old: None,
        new,
    }))
}

/// The row of a product that was created and not priced.
fn product(sku: &str, description: &str, name: &str) -> ProductRow {
    ProductRow {
        sku: sku.into(),
        description: description.into(),
        name: name.into(),
        price: None,
        currency: None,
        created_at: Instant(recorded_at(1)),
        version: 1,
    }
}

async fn a_new_product_has_no_price(catalog: &mut Catalog) {
    catalog
        .given([])
        .when(("product_1", created("1", "")))
        .then((vec![product("1", "", "")],))
        .await;
}

async fn the_last_price_is_kept(catalog: &mut Catalog) {
    let row = ProductRow {
        price: Some(i64::MIN),
        currency: Some("JPY".into()),
        version: 3,
        ..product("2", "LANTERN", "lantern")
    };
    catalog
        .given([
            ("product_2", created("2", "LANTERN")),
            ("product_2", priced(i64::MAX, "GBP")),
        ])
        .when(("product_2", priced(i64::MIN, "JPY")))
        .then((vec![row],))
        .await;
}

async fn texts_are_kept(catalog: &mut Catalog) {
    let sku = "it's 3_b/%\"\\$1";
    let name = "o'brien \"\\\" $1 ? {build} {keyspace} e\u{301} \u{1f9c2} ";
    let row = ProductRow {
        price: Some(i64::MAX),
        currency: Some("GBP".into()),
        version: 2,
        ..product(sku, TEXT, name)
    };
    catalog
        .given([("product_it's 3_b/%\"\\$1", created(sku, TEXT))])
        .when(("product_it's 3_b/%\"\\$1", priced(i64::MAX, "GBP")))
        .then((vec![row],))
        .await;
}

async fn the_case_of_a_sku_counts(catalog: &mut Catalog) {
    catalog
        .given([("product_4a", created("4a", "small"))])
        .when(("product_4A", created("4A", "large")))
        .then((vec![
            product("4A", "large", "large"),
            product("4a", "small", "small"),
        ],))
        .await;
}
