//! Tests the rows that events produce.

use super::{LineRow, Lines, OrderRow, Orders};
use crate::{
    paging::{NewestFirst, check_golden},
    postgres::Instant,
    recorded::FoldError,
    spec::given,
    view::View,
    views::samples::{credit_note, line, ordered_at, sale},
};
use schemas::{
    Timestamp,
    orders::{Event, OrderEvent},
};

/// The row of a sale with one line of `amount` pence.
fn order(order_id: &str, customer: Option<&str>, amount: i64) -> OrderRow {
    OrderRow {
        order_id: order_id.into(),
        kind: "SALE".into(),
        invoice: "536365".into(),
        customer_id: customer.map(str::to_owned),
        country: "United Kingdom".into(),
        ordered_at: Instant(ordered_at()),
        currency: "GBP".into(),
        total: amount,
        line_count: 1,
        version: 1,
    }
}

fn line_row(order_id: &str, line_number: i32, quantity: i64, amount: i64) -> LineRow {
    LineRow {
        order_id: order_id.into(),
        line_number,
        sku: "85123A".into(),
        description: Some("HEART".into()),
        quantity,
        unit_price: 2_550_000,
        amount,
    }
}

#[test]
fn a_sale_becomes_an_order() {
    let event = sale("536365", Some("17850"), vec![line("85123A", 6, 1530)]);
    given::<Orders>([])
        .when(("order_1", event))
        .then([order("order_1", Some("17850"), 1530)]);
}

#[test]
fn a_sale_becomes_lines() {
    let event = sale("536365", Some("17850"), vec![line("85123A", 6, 1530)]);
    given::<Lines>([])
        .when(("order_1", event))
        .then([line_row("order_1", 1, 6, 1530)]);
}

#[test]
fn a_credit_note_becomes_an_order_with_a_negative_total() {
    let event = credit_note("C536379", None, vec![line("D", -1, -2750)]);
    let row = OrderRow {
        kind: "CREDIT_NOTE".into(),
        invoice: "C536379".into(),
        ..order("creditnote_1", None, -2750)
    };
    given::<Orders>([])
        .when(("creditnote_1", event))
        .then([row]);
}

#[test]
fn equal_lines_are_different_rows() {
    let lines = vec![line("85123A", 1, 255), line("85123A", 1, 255)];
    given::<Lines>([])
        .when(("order_1", sale("536365", None, lines)))
        .then([
            line_row("order_1", 1, 1, 255),
            line_row("order_1", 2, 1, 255),
        ]);
}

#[test]
fn each_order_has_a_row_of_its_own() {
    let event = |amount| sale("536365", None, vec![line("85123A", 1, amount)]);
    given::<Orders>([("order_2", event(2))])
        .when(("order_1", event(1)))
        .then([order("order_1", None, 1), order("order_2", None, 2)]);
}

#[test]
fn the_last_event_of_an_order_decides_its_row() {
    let first = sale("536365", None, vec![line("85123A", 1, 255)]);
    let second = sale("536365", Some("17850"), vec![line("85123A", 2, 510)]);
    let row = OrderRow {
        version: 2,
        ..order("order_1", Some("17850"), 510)
    };
    given::<Orders>([("order_1", first.clone())])
        .when(("order_1", second.clone()))
        .then([row]);
    given::<Lines>([("order_1", first)])
        .when(("order_1", second))
        .then([line_row("order_1", 1, 2, 510)]);
}

#[test]
fn a_time_outside_of_the_calendar_is_refused() {
    let mut event = sale("536365", None, vec![line("85123A", 1, 255)]);
    if let Event::Order(OrderEvent::SaleImported(sale)) = &mut event {
        sale.ordered_at = Timestamp(i64::MIN);
    }
    given::<Orders>([])
        .when(("order_1", event))
        .then_refused(FoldError::Time {
            key: "order_1".into(),
            offset: 10,
            time: Timestamp(i64::MIN),
        });
}

#[test]
fn the_cursor_has_its_golden_form() {
    let key = NewestFirst {
        ordered_at: ordered_at(),
        order_id: "order_01h455vb4pex5vsknk084sn02q".into(),
    };
    check_golden(super::OrdersView::NAME, &key);
}
