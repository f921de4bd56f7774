//! Given events, then rows.

use super::{
    Countries, CountryRow, CountrySalesView,
    query::{ByCountry, GreatestTotal},
};
use crate::{
    paging::check_golden,
    postgres::Instant,
    recorded::FoldError,
    spec::given,
    view::View,
    views::samples::{at, credit_note, in_country, in_currency, line, ordered_at, sale},
};
use schemas::{Currency, Timestamp, orders::Event};

const LATER: Timestamp = Timestamp(1_291_278_360_000_000);

fn sale_in(country: &str, amount: i64) -> Event {
    let sale = sale("536365", None, vec![line("85123A", 1, amount)]);
    in_country(country, sale)
}

/// The row of a country with one order of `total` pence.
fn row(country: &str, total: i64) -> CountryRow {
    CountryRow {
        country: country.into(),
        currency: "GBP".into(),
        orders: 1,
        credit_notes: 0,
        total,
        first_ordered_at: Instant(ordered_at()),
        last_ordered_at: Instant(ordered_at()),
    }
}

#[test]
fn orders_are_summed_by_country() {
    given::<Countries>([
        ("order_1", sale_in("EIRE", 1)),
        ("order_2", sale_in("France", 2)),
    ])
    .when(("order_3", sale_in("EIRE", 4)))
    .then([
        CountryRow {
            orders: 2,
            ..row("EIRE", 5)
        },
        row("France", 2),
    ]);
}

#[test]
fn a_credit_note_lowers_the_total_of_its_country() {
    let note = credit_note("C1", None, vec![line("85123A", -1, -2)]);
    let row = CountryRow {
        credit_notes: 1,
        ..row("EIRE", 3)
    };
    given::<Countries>([("order_1", sale_in("EIRE", 5))])
        .when(("creditnote_1", in_country("EIRE", note)))
        .then([row]);
}

#[test]
fn each_currency_of_a_country_has_a_row_of_its_own() {
    let euros = in_currency(Currency::parse("EUR").unwrap(), sale_in("EIRE", 2));
    let in_euros = CountryRow {
        currency: "EUR".into(),
        ..row("EIRE", 2)
    };
    given::<Countries>([("order_1", sale_in("EIRE", 1))])
        .when(("order_2", euros))
        .then([in_euros, row("EIRE", 1)]);
}

#[test]
fn the_order_of_the_events_does_not_matter() {
    let (early, late) = (sale_in("EIRE", 1), at(LATER, sale_in("EIRE", 2)));
    let expected = CountryRow {
        orders: 2,
        last_ordered_at: Instant(LATER),
        ..row("EIRE", 3)
    };
    given::<Countries>([("order_1", early.clone())])
        .when(("order_2", late.clone()))
        .then([expected.clone()]);
    given::<Countries>([("order_2", late)])
        .when(("order_1", early))
        .then([expected]);
}

#[test]
fn a_sum_beyond_64_bits_is_refused() {
    given::<Countries>([("order_1", sale_in("EIRE", i64::MIN))])
        .when(("order_2", sale_in("EIRE", -1)))
        .then_refused(FoldError::Overflow {
            key: "order_2".into(),
            offset: 11,
        });
}

#[test]
fn the_cursors_have_their_golden_form() {
    let by_country = ByCountry {
        country: "United Kingdom".into(),
        currency: "GBP".into(),
    };
    check_golden(&format!("{}_country", CountrySalesView::NAME), &by_country);
    let by_total = GreatestTotal {
        total: -255,
        country: "United Kingdom".into(),
    };
    check_golden(&format!("{}_total", CountrySalesView::NAME), &by_total);
}
