//! The rows of `orders_by_customer_v2`.

use crate::{
    backends::{CqlBackend, run},
    queries::{credit_note, sale},
    rows::events::{BEFORE_1970, EARLIEST, LATEST, TEXT, imported, issued},
    spec::{InCql, in_cql},
};
use projections::views::orders_by_customer_v2::{OrderRow, OrdersByCustomer};
use schemas::orders::{CreditNoteIssued, Event, SaleImported};

type Orders = InCql<OrdersByCustomer>;

#[tokio::test(flavor = "multi_thread")]
async fn the_stored_rows_are_those_of_the_events() {
    run(async |backend: &CqlBackend| {
        let mut orders = in_cql::<OrdersByCustomer>(backend).await;
        orders_without_a_customer_have_a_partition_of_their_day(&mut orders).await;
        texts_are_kept(&mut orders).await;
        a_credit_note_may_be_read_before_its_order(&mut orders).await;
        the_last_event_of_an_order_decides_its_row(&mut orders).await;
    })
    .await;
}

/// The row of an order that is `sale(1)`.
fn order(order_id: &str) -> OrderRow {
    OrderRow {
        customer_id: "1".into(),
        ordered_at_us: sale(1).ordered_at.0,
        order_id: order_id.into(),
        kind: "SALE".into(),
        invoice: "1".into(),
        country: "Norway".into(),
        currency: "GBP".into(),
        total: 255,
        line_count: 1,
        version: 1,
    }
}

async fn orders_without_a_customer_have_a_partition_of_their_day(orders: &mut Orders) {
    let sold_to = |customer: Option<&str>| -> Event {
        imported(SaleImported {
            customer: customer.map(str::to_owned),
            ordered_at: BEFORE_1970,
            ..sale(1)
        })
    };
    let row = |order_id: &str, partition: &str| OrderRow {
        customer_id: partition.into(),
        ordered_at_us: -1,
        ..order(order_id)
    };
    orders
        .given([("order_1", sold_to(None)), ("order_2", sold_to(Some("")))])
        .when(("order_3", sold_to(Some("none:1969-12-31"))))
        .then((vec![
            row("order_1", "none:1969-12-31"),
            row("order_2", "none:1969-12-31"),
            row("order_3", "none::1969-12-31"),
        ],))
        .await;
}

async fn texts_are_kept(orders: &mut Orders) {
    let event = SaleImported {
        invoice: TEXT.into(),
        customer: Some(TEXT.into()),
        country: TEXT.into(),
        ordered_at: EARLIEST,
        ..sale(1)
    };
    let row = OrderRow {
        customer_id: TEXT.into(),
        ordered_at_us: EARLIEST.0,
        invoice: TEXT.into(),
        country: TEXT.into(),
        ..order("order_4")
    };
    orders
        .given([])
        .when(("order_4", imported(event)))
        .then((vec![row],))
        .await;
}

async fn a_credit_note_may_be_read_before_its_order(orders: &mut Orders) {
    let note = CreditNoteIssued {
        order_id: Some("order_5".into()),
        issued_at: LATEST,
        total: i64::MIN,
        ..credit_note(1)
    };
    let event = SaleImported {
        ordered_at: LATEST,
        total: i64::MAX,
        ..sale(1)
    };
    let note_row = OrderRow {
        ordered_at_us: LATEST.0,
        kind: "CREDIT_NOTE".into(),
        invoice: "C1".into(),
        total: i64::MIN,
        ..order("creditnote_1")
    };
    let row = OrderRow {
        ordered_at_us: LATEST.0,
        total: i64::MAX,
        ..order("order_5")
    };
    orders
        .given([("creditnote_1", issued(note))])
        .when(("order_5", imported(event)))
        .then((vec![note_row, row],))
        .await;
}

async fn the_last_event_of_an_order_decides_its_row(orders: &mut Orders) {
    let last = SaleImported {
        lines: [sale(1).lines, sale(1).lines].concat(),
        total: -510,
        ..sale(1)
    };
    let row = OrderRow {
        total: -510,
        line_count: 2,
        version: 2,
        ..order("order_6")
    };
    orders
        .given([("order_6", imported(sale(1)))])
        .when(("order_6", imported(last)))
        .then((vec![row],))
        .await;
}
