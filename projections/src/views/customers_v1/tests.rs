//! Given events, then rows.

use super::{
    CustomerRow, Customers, CustomersView,
    query::{GreatestTotal, LatestOrder},
};
use crate::{
    paging::check_golden,
    postgres::Instant,
    recorded::FoldError,
    spec::given,
    view::View,
    views::samples::{at, credit_note, in_currency, line, ordered_at, sale},
};
use schemas::{Currency, Timestamp, orders::Event};

const LATER: Timestamp = Timestamp(1_291_278_360_000_000);

fn sale_of(customer: Option<&str>, amount: i64) -> Event {
    sale("536365", customer, vec![line("85123A", 1, amount)])
}

/// The row of a customer with one order of `total` pence.
fn row(customer_id: &str, total: i64) -> CustomerRow {
    CustomerRow {
        customer_id: customer_id.into(),
        currency: "GBP".into(),
        orders: 1,
        credit_notes: 0,
        total,
        first_ordered_at: Instant(ordered_at()),
        last_ordered_at: Instant(ordered_at()),
    }
}

#[test]
fn an_order_makes_its_customer() {
    given::<Customers>([])
        .when(("order_1", sale_of(Some("17850"), 255)))
        .then([row("17850", 255)]);
}

#[test]
fn orders_and_credit_notes_of_a_customer_are_summed() {
    let note = credit_note("C1", Some("17850"), vec![line("85123A", -1, -55)]);
    given::<Customers>([
        ("order_1", sale_of(Some("17850"), 255)),
        ("order_2", sale_of(Some("17850"), 100)),
    ])
    .when(("creditnote_1", note))
    .then([CustomerRow {
        orders: 2,
        credit_notes: 1,
        ..row("17850", 300)
    }]);
}

#[test]
fn the_order_of_the_events_does_not_matter() {
    let (early, late) = (sale_of(Some("1"), 1), at(LATER, sale_of(Some("1"), 2)));
    let expected = CustomerRow {
        orders: 2,
        last_ordered_at: Instant(LATER),
        ..row("1", 3)
    };
    given::<Customers>([("order_1", early.clone())])
        .when(("order_2", late.clone()))
        .then([expected.clone()]);
    given::<Customers>([("order_2", late)])
        .when(("order_1", early))
        .then([expected]);
}

#[test]
fn each_currency_of_a_customer_has_a_row_of_its_own() {
    let euros = in_currency(Currency::parse("EUR").unwrap(), sale_of(Some("1"), 2));
    let in_euros = CustomerRow {
        currency: "EUR".into(),
        ..row("1", 2)
    };
    given::<Customers>([("order_1", sale_of(Some("1"), 1))])
        .when(("order_2", euros))
        .then([in_euros, row("1", 1)]);
}

#[test]
fn orders_without_a_customer_have_no_row() {
    given::<Customers>([("order_1", sale_of(None, 1))])
        .when(("order_2", sale_of(Some(""), 1)))
        .then([]);
}

#[test]
fn a_sum_beyond_64_bits_is_refused() {
    given::<Customers>([("order_1", sale_of(Some("1"), i64::MAX))])
        .when(("order_2", sale_of(Some("1"), 1)))
        .then_refused(FoldError::Overflow {
            key: "order_2".into(),
            offset: 11,
        });
}

#[test]
fn a_time_outside_of_the_calendar_is_refused() {
    given::<Customers>([])
        .when(("order_1", at(Timestamp(i64::MAX), sale_of(Some("1"), 1))))
        .then_refused(FoldError::Time {
            key: "order_1".into(),
            offset: 10,
            time: Timestamp(i64::MAX),
        });
}

#[test]
fn the_cursors_have_their_golden_form() {
    let by_last_order = LatestOrder {
        last_ordered_at: ordered_at(),
        customer_id: "17850".into(),
        currency: "GBP".into(),
    };
    check_golden(
        &format!("{}_last_order", CustomersView::NAME),
        &by_last_order,
    );
    let by_total = GreatestTotal {
        total: -255,
        customer_id: "17850".into(),
    };
    check_golden(&format!("{}_total", CustomersView::NAME), &by_total);
}
