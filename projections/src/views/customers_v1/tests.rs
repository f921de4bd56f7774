//! Tests the rows that events produce.

use super::{
    CustomerRow, Customers, CustomersView,
    query::{ByLastOrder, ByTotal},
};
use crate::{
    paging::check_golden,
    postgres::Instant,
    recorded::FoldError,
    spec::given,
    view::View,
    views::samples::{at, credit_note, line, ordered_at, sale},
};
use schemas::Timestamp;

/// The row of a customer with one sale of one line.
fn customer(customer_id: &str, total: i64) -> CustomerRow {
    CustomerRow {
        customer_id: customer_id.into(),
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
fn a_customer_has_the_sums_of_orders_and_credit_notes() {
    let lines = vec![line("85123A", 6, 1530), line("D", 1, 470)];
    let note = credit_note("C1", Some("17850"), vec![line("85123A", -1, -255)]);
    let row = CustomerRow {
        credit_notes: 1,
        lines: 3,
        ..customer("17850", 1745)
    };
    given::<Customers>([("order_1", sale("1", Some("17850"), lines))])
        .when(("creditnote_1", note))
        .then([row]);
}

#[test]
fn the_times_do_not_depend_on_the_order_of_events() {
    let times = [
        "2010-12-02T00:00:00Z",
        "2010-12-01T00:00:00Z",
        "2010-12-03T00:00:00Z",
    ];
    let times = times.map(|time| Timestamp::parse(time).unwrap());
    let event = |time| at(time, sale("1", Some("17850"), vec![line("A", 1, 100)]));
    let row = CustomerRow {
        orders: 3,
        lines: 3,
        first_order_at: Instant(times[1]),
        last_order_at: Instant(times[2]),
        ..customer("17850", 300)
    };
    for [first, second, third] in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        given::<Customers>([
            ("order_1", event(times[first])),
            ("order_2", event(times[second])),
        ])
        .when(("order_3", event(times[third])))
        .then([row.clone()]);
    }
}

#[test]
fn each_customer_has_a_row_and_an_order_without_one_has_none() {
    let event = |customer| sale("1", customer, vec![line("A", 1, 100)]);
    given::<Customers>([("order_1", event(Some("17850"))), ("order_2", event(None))])
        .when(("order_3", event(Some(""))))
        .then([customer("17850", 100)]);
}

#[test]
fn a_sum_beyond_64_bits_is_refused() {
    let event = |amount| sale("1", Some("17850"), vec![line("A", 1, amount)]);
    given::<Customers>([("order_1", event(i64::MAX))])
        .when(("order_2", event(1)))
        .then_refused(FoldError::Overflow {
            key: "order_2".into(),
            offset: 11,
            column: "total",
        });
}

#[test]
fn the_cursors_have_their_golden_forms() {
    let customer_id = || "17850".to_owned();
    let list = |sort: &str| format!("{}_by_{sort}", CustomersView::NAME);
    let by_total = ByTotal {
        total: 255,
        customer_id: customer_id(),
    };
    check_golden(&list("total"), &by_total);
    let by_time = ByLastOrder {
        last_order_at: ordered_at(),
        customer_id: customer_id(),
        currency: "GBP".into(),
    };
    check_golden(&list("time"), &by_time);
}
