//! Given events, then rows.

use super::{
    CatalogView, ProductRow, Products,
    sort_keys::{ByPrice, ByRelevance, BySku},
};
use crate::{
    paging::check_golden,
    recorded::FoldError,
    spec::given,
    view::View,
    views::samples::{price_changed, product_created},
};
use schemas::Currency;

/// The row of a product that has just been created.
fn row(sku: &str, version: i64) -> ProductRow {
    ProductRow {
        sku: sku.into(),
        description: "HEART".into(),
        price: None,
        currency: None,
        version,
    }
}

#[test]
fn a_product_has_no_price_at_first() {
    given::<Products>([])
        .when(("product_85123A", product_created("85123A", "HEART")))
        .then([row("85123A", 1)]);
}

#[test]
fn the_last_price_is_the_products() {
    let priced = ProductRow {
        price: Some(255),
        currency: Some("EUR".into()),
        ..row("85123A", 3)
    };
    let euros = Currency::parse("EUR").unwrap();
    given::<Products>([
        ("product_85123A", product_created("85123A", "HEART")),
        ("product_85123A", price_changed(Currency::GBP, 210)),
    ])
    .when(("product_85123A", price_changed(euros, 255)))
    .then([priced]);
}

#[test]
fn a_sku_may_have_underscores() {
    let priced = ProductRow {
        price: Some(1),
        currency: Some("GBP".into()),
        ..row("gift_0001_20", 2)
    };
    given::<Products>([(
        "product_gift_0001_20",
        product_created("gift_0001_20", "HEART"),
    )])
    .when(("product_gift_0001_20", price_changed(Currency::GBP, 1)))
    .then([priced]);
}

#[test]
fn a_price_without_its_product_is_refused() {
    given::<Products>([])
        .when(("product_85123A", price_changed(Currency::GBP, 1)))
        .then_refused(FoldError::MissingRow {
            key: "product_85123A".into(),
            offset: 10,
            version: 1,
        });
}

#[test]
fn the_cursors_have_their_golden_form() {
    let list = |sort: &str| format!("{}_{sort}", CatalogView::NAME);
    let sku = || "85123A".to_owned();
    check_golden(&list("sku"), &BySku { sku: sku() });
    let by_price = ByPrice {
        price: 255,
        sku: sku(),
    };
    check_golden(&list("price"), &by_price);
    let by_relevance = ByRelevance {
        relevance: 1_060_793,
        sku: sku(),
    };
    check_golden(&list("relevance"), &by_relevance);
}
