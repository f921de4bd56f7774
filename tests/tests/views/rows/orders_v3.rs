//! The rows of `orders_v3` and of its lines.

use crate::{
    backends::{PostgresBackend, run},
    queries::{credit_note, sale},
    rows::events::{BEFORE_1970, EARLIEST, LATEST, TEXT, imported, issued},
    spec::{InPostgres, in_postgres},
};
use projections::{
    postgres::Instant,
    views::orders_v3::{LineRow, OrderRow, OrdersView},
};
use schemas::{
    Quantity, Sku, UnitPrice,
    orders::{CreditNoteIssued, SaleImported, SaleLine},
};

type Orders = InPostgres<OrdersView>;

#[tokio::test(flavor = "multi_thread")]
async fn the_stored_rows_are_those_of_the_events() {
    run(async |backend: &PostgresBackend| {
        let mut orders = in_postgres::<OrdersView>(backend).await;
        an_order_needs_no_customer(&mut orders).await;
        equal_lines_are_different_rows(&mut orders).await;
        texts_are_kept_and_an_empty_one_is_not_missing(&mut orders).await;
        a_credit_note_may_be_read_before_its_order(&mut orders).await;
        the_last_event_of_an_order_decides_its_rows(&mut orders).await;
    })
    .await;
}

/// The row of an order that is `sale(1)`.
fn order(order_id: &str) -> OrderRow {
    OrderRow {
        order_id: order_id.into(),
        kind: "SALE".into(),
        invoice: "1".into(),
        customer_id: Some("1".into()),
        country: "Norway".into(),
        ordered_at: Instant(sale(1).ordered_at),
        currency: "GBP".into(),
        total: 255,
        line_count: 1,
        version: 1,
    }
}

/// The row of a line like that of `sale(1)`.
fn line(order_id: &str, line_number: i32) -> LineRow {
    LineRow {
        order_id: order_id.into(),
        line_number,
        sku: "85123A".into(),
        description: None,
        quantity: 1,
        unit_price: 2_550_000,
        amount: 255,
    }
}

async fn an_order_needs_no_customer(orders: &mut Orders) {
    let event = SaleImported {
        customer: None,
        ordered_at: BEFORE_1970,
        ..sale(1)
    };
    let row = OrderRow {
        customer_id: None,
        ordered_at: Instant(BEFORE_1970),
        ..order("order_1")
    };
    orders
        .given([])
        .when(("order_1", imported(event)))
        .then((vec![row], vec![line("order_1", 1)]))
        .await;
}

async fn equal_lines_are_different_rows(orders: &mut Orders) {
    let event_line = SaleLine {
        quantity: Quantity(i64::MIN),
        unit_price: UnitPrice(i64::MAX),
        amount: i64::MIN,
        ..sale(1).lines.remove(0)
    };
    let event = SaleImported {
        lines: vec![event_line.clone(), event_line],
        total: i64::MIN,
        ..sale(1)
    };
    let row = OrderRow {
        total: i64::MIN,
        line_count: 2,
        ..order("order_2")
    };
    let line = |number| LineRow {
        quantity: i64::MIN,
        unit_price: i64::MAX,
        amount: i64::MIN,
        ..line("order_2", number)
    };
    orders
        .given([])
        .when(("order_2", imported(event)))
        .then((vec![row], vec![line(1), line(2)]))
        .await;
}

async fn texts_are_kept_and_an_empty_one_is_not_missing(orders: &mut Orders) {
    let sku = "it's a_b/%\"\\$1";
    let event_line = |description: &str| SaleLine {
        sku: Sku::parse(sku).unwrap(),
        description: Some(description.into()),
        ..sale(1).lines.remove(0)
    };
    let event = SaleImported {
        invoice: TEXT.into(),
        customer: Some(String::new()),
        country: TEXT.into(),
        lines: vec![event_line(""), event_line(TEXT)],
        ..sale(1)
    };
    let row = OrderRow {
        invoice: TEXT.into(),
        customer_id: Some(String::new()),
        country: TEXT.into(),
        line_count: 2,
        ..order("order_3")
    };
    let line = |number, description: &str| LineRow {
        sku: sku.into(),
        description: Some(description.into()),
        ..line("order_3", number)
    };
    orders
        .given([])
        .when(("order_3", imported(event)))
        .then((vec![row], vec![line(1, ""), line(2, TEXT)]))
        .await;
}

async fn a_credit_note_may_be_read_before_its_order(orders: &mut Orders) {
    let event_line = SaleLine {
        quantity: Quantity(-1),
        amount: -255,
        ..sale(1).lines.remove(0)
    };
    let note = CreditNoteIssued {
        order_id: Some("order_4".into()),
        issued_at: EARLIEST,
        lines: vec![event_line],
        total: -255,
        ..credit_note(1)
    };
    let note_row = OrderRow {
        kind: "CREDIT_NOTE".into(),
        invoice: "C1".into(),
        ordered_at: Instant(EARLIEST),
        total: -255,
        ..order("creditnote_1")
    };
    let note_line = LineRow {
        quantity: -1,
        amount: -255,
        ..line("creditnote_1", 1)
    };
    orders
        .given([("creditnote_1", issued(note))])
        .when(("order_4", imported(sale(1))))
        .then((
            vec![note_row, order("order_4")],
            vec![note_line, line("order_4", 1)],
        ))
        .await;
}

async fn the_last_event_of_an_order_decides_its_rows(orders: &mut Orders) {
    let event_line = SaleLine {
        amount: i64::MAX,
        ..sale(1).lines.remove(0)
    };
    let last = SaleImported {
        customer: None,
        ordered_at: LATEST,
        lines: vec![event_line],
        total: i64::MAX,
        ..sale(1)
    };
    let row = OrderRow {
        customer_id: None,
        ordered_at: Instant(LATEST),
        total: i64::MAX,
        version: 2,
        ..order("order_5")
    };
    let line = LineRow {
        amount: i64::MAX,
        ..line("order_5", 1)
    };
    orders
        .given([("order_5", imported(sale(1)))])
        .when(("order_5", imported(last)))
        .then((vec![row], vec![line]))
        .await;
}
