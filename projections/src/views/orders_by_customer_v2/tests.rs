//! Tests the rows that events produce.

use super::{OrderRow, Orders, OrdersByCustomer, partition_of};
use crate::{
    paging::{NewestFirst, check_golden},
    recorded::FoldError,
    spec::given,
    view::View,
    views::samples::{credit_note, line, ordered_at, sale},
};
use schemas::{
    Timestamp,
    orders::{Event, OrderEvent, SaleLine},
};
use std::collections::BTreeSet;

/// The row of a sale with one line of `total` pence.
fn order(order_id: &str, customer_id: &str, total: i64) -> OrderRow {
    OrderRow {
        customer_id: customer_id.into(),
        ordered_at_us: ordered_at().0,
        order_id: order_id.into(),
        kind: "SALE".into(),
        invoice: "536365".into(),
        country: "United Kingdom".into(),
        currency: "GBP".into(),
        total,
        line_count: 1,
        version: 1,
    }
}

fn lines(amount: i64) -> Vec<SaleLine> {
    vec![line("85123A", 1, amount)]
}

#[test]
fn an_order_is_in_its_customers_partition() {
    let note = OrderRow {
        kind: "CREDIT_NOTE".into(),
        ..order("creditnote_1", "17850", -255)
    };
    given::<Orders>([("order_1", sale("536365", Some("17850"), lines(255)))])
        .when((
            "creditnote_1",
            credit_note("536365", Some("17850"), lines(-255)),
        ))
        .then([note, order("order_1", "17850", 255)]);
}

#[test]
fn orders_without_a_customer_have_a_partition_per_day() {
    given::<Orders>([])
        .when(("order_1", sale("536365", None, lines(255))))
        .then([order("order_1", "none:2010-12-01", 255)]);
}

#[test]
fn the_last_event_of_an_order_decides_its_row() {
    let event = |amount| sale("536365", Some("17850"), lines(amount));
    let row = OrderRow {
        version: 2,
        ..order("order_1", "17850", 2)
    };
    given::<Orders>([("order_1", event(1))])
        .when(("order_1", event(2)))
        .then([row]);
}

#[test]
fn a_time_outside_of_the_calendar_is_refused() {
    let mut event = sale("536365", None, lines(255));
    if let Event::Order(OrderEvent::SaleImported(sale)) = &mut event {
        sale.ordered_at = Timestamp(i64::MAX);
    }
    given::<Orders>([])
        .when(("order_1", event))
        .then_refused(FoldError::Time {
            key: "order_1".into(),
            offset: 10,
            time: Timestamp(i64::MAX),
        });
}

#[test]
fn no_customer_shares_a_partition_with_orders_that_have_none() {
    let noon = Timestamp::parse("2010-12-01T12:00:00Z").unwrap();
    let without_customer = partition_of(None, noon);
    assert_eq!(without_customer, "none:2010-12-01");
    assert_ne!(
        partition_of(Some(&without_customer), noon),
        without_customer
    );
    assert_eq!(partition_of(Some(""), noon), without_customer);
    let ids = [
        "none",
        "none:",
        "none::",
        "none:2010-12-01",
        "none::2010-12-01",
    ];
    let partitions: BTreeSet<_> = ids.iter().map(|id| partition_of(Some(id), noon)).collect();
    assert_eq!(partitions.len(), ids.len());
}

#[test]
fn the_cursor_has_its_golden_form() {
    let key = NewestFirst {
        ordered_at: ordered_at(),
        order_id: "order_01h455vb4pex5vsknk084sn02q".into(),
    };
    check_golden(OrdersByCustomer::NAME, &key);
}
