//! Tests the rows that events produce.

use super::{Countries, CountryRow, CountrySalesView, query::ByCountry};
use crate::{
    paging::check_golden,
    postgres::Instant,
    spec::given,
    view::View,
    views::samples::{at, credit_note, line, of_country, ordered_at, sale},
};
use schemas::Timestamp;

/// The row of a country with one sale of one line.
fn country(country: &str, total: i64) -> CountryRow {
    CountryRow {
        country: country.into(),
        currency: "GBP".into(),
        orders: 1,
        credit_notes: 0,
        lines: 1,
        total,
        first_order_at: Instant(ordered_at()),
        last_order_at: Instant(ordered_at()),
    }
}

#[test]
fn a_country_has_the_sums_and_times_of_orders_and_credit_notes() {
    let before = Timestamp::parse("2010-11-30T00:00:00Z").unwrap();
    let note = credit_note("C1", None, vec![line("A", -1, -255), line("B", -1, -1)]);
    let row = CountryRow {
        credit_notes: 1,
        lines: 3,
        first_order_at: Instant(before),
        ..country("United Kingdom", 1274)
    };
    let event = sale("1", Some("17850"), vec![line("A", 6, 1530)]);
    given::<Countries>([("order_1", event.clone())])
        .when(("creditnote_1", at(before, note.clone())))
        .then([row.clone()]);
    given::<Countries>([("creditnote_1", at(before, note))])
        .when(("order_1", event))
        .then([row]);
}

#[test]
fn each_country_has_a_row() {
    let event = |amount| sale("1", None, vec![line("A", 1, amount)]);
    given::<Countries>([("order_1", event(100))])
        .when(("order_2", of_country("EIRE", event(200))))
        .then([country("EIRE", 200), country("United Kingdom", 100)]);
}

#[test]
fn the_cursor_has_its_golden_form() {
    let key = ByCountry {
        country: "United Kingdom".into(),
        currency: "GBP".into(),
    };
    check_golden(CountrySalesView::NAME, &key);
}
