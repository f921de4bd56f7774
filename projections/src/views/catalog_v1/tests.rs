//! Tests the rows that events produce.

use super::{
    CatalogView, ProductRow, Products,
    sort::{ByName, ByPrice, ByRelevance, Newest},
    tables::{NAME_CHARS_MAX, name_of},
};
use crate::{
    paging::check_golden,
    postgres::Instant,
    recorded::FoldError,
    spec::{given, recorded_at},
    view::View,
    views::samples::{created, priced},
};
use schemas::Timestamp;

fn product(sku: &str, price: Option<i64>, version: i64) -> ProductRow {
    ProductRow {
        sku: sku.into(),
        description: "White LANTERN".into(),
        name: "white lantern".into(),
        price,
        currency: price.map(|_| "GBP".into()),
        created_at: Instant(recorded_at(10)),
        version,
    }
}

#[test]
fn a_new_product_has_no_price() {
    given::<Products>([])
        .when(("product_85123A", created("85123A", "White LANTERN")))
        .then([product("85123A", None, 1)]);
}

#[test]
fn a_product_has_its_last_price() {
    let created = created("85123A", "White LANTERN");
    given::<Products>([
        ("product_85123A", created),
        ("product_85123A", priced(None, 255)),
    ])
    .when(("product_85123A", priced(Some(255), 339)))
    .then([product("85123A", Some(339), 3)]);
}

#[test]
fn a_sku_may_have_any_printable_character() {
    let sku = "a_b C/%";
    given::<Products>([])
        .when(("product_a_b C/%", created(sku, "White LANTERN")))
        .then([product(sku, None, 1)]);
}

#[test]
fn a_price_without_a_product_is_refused() {
    given::<Products>([])
        .when(("product_85123A", priced(None, 255)))
        .then_refused(FoldError::MissingRow {
            key: "product_85123A".into(),
            offset: 10,
            version: 1,
        });
}

#[test]
fn a_name_is_the_beginning_in_lower_case() {
    assert_eq!(name_of("T\u{c9}A Cup"), "t\u{e9}a cup");
    let long = "\u{c9}".repeat(NAME_CHARS_MAX + 1);
    assert_eq!(name_of(&long).chars().count(), NAME_CHARS_MAX);
}

#[test]
fn the_cursors_have_their_golden_forms() {
    let sku = || "85123A".to_owned();
    let list = |sort: &str| format!("{}_by_{sort}", CatalogView::NAME);
    let relevance = 2_345_678;
    check_golden(
        &list("relevance"),
        &ByRelevance {
            relevance,
            sku: sku(),
        },
    );
    let name = "white hanging heart t-light holder".to_owned();
    check_golden(&list("name"), &ByName { name, sku: sku() });
    check_golden(
        &list("price"),
        &ByPrice {
            price: 255,
            sku: sku(),
        },
    );
    let created_at = Timestamp::parse("2026-01-31T08:26:00.000001Z").unwrap();
    check_golden(
        &list("time"),
        &Newest {
            created_at,
            sku: sku(),
        },
    );
}

/// The longest cursor must be one that the query accepts.
#[test]
fn a_cursor_of_the_longest_name_is_accepted() {
    let key = ByName {
        name: "\u{10ffff}".repeat(NAME_CHARS_MAX),
        sku: "x".repeat(schemas::ids::CHOSEN_BYTES_MAX),
    };
    let list = crate::paging::list(CatalogView::NAME, &());
    let text = crate::paging::encode(&list, &key);
    assert_eq!(crate::paging::decode(&list, &text), Ok(key));
}
