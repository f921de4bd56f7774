//! The rows of `customers_v1`.

use crate::{
    backends::{PostgresBackend, run},
    queries::{credit_note, sale},
    rows::{
        events::{COMPOSED, DECOMPOSED, EARLIEST, LATEST, TEXT, imported, issued},
        sales::{greatest_sale, keys_in_two_partitions, least_credit_note, sale_in_yen},
    },
    spec::{InPostgres, in_postgres},
};
use projections::{
    postgres::Instant,
    views::customers_v1::{CustomerRow, CustomersView},
};
use schemas::orders::{CreditNoteIssued, Event, SaleImported};

type Customers = InPostgres<CustomersView>;

#[tokio::test(flavor = "multi_thread")]
async fn the_stored_rows_are_those_of_the_events() {
    run(async |backend: &PostgresBackend| {
        let mut customers = in_postgres::<CustomersView>(backend).await;
        two_partitions_feed_one_row(&mut customers).await;
        a_credit_note_needs_no_order(&mut customers).await;
        each_currency_has_a_row(&mut customers).await;
        each_spelling_has_a_row(&mut customers).await;
        an_order_without_a_customer_has_no_row(&mut customers).await;
    })
    .await;
}

/// A sale like `sale(1)` to a customer.
fn sold_to(customer: Option<&str>) -> Event {
    imported(SaleImported {
        customer: customer.map(str::to_owned),
        ..sale(1)
    })
}

/// The row of a customer with one sale like `sale(1)`.
fn customer(customer_id: &str) -> CustomerRow {
    let at = Instant(sale(1).ordered_at);
    CustomerRow {
        customer_id: customer_id.into(),
        currency: "GBP".into(),
        orders: 1,
        credit_notes: 0,
        lines: 1,
        total: 255,
        first_order_at: at,
        last_order_at: at,
    }
}

async fn two_partitions_feed_one_row(customers: &mut Customers) {
    let (order_key, note_key) = keys_in_two_partitions();
    let row = CustomerRow {
        credit_notes: 1,
        lines: 3,
        total: -1,
        first_order_at: Instant(EARLIEST),
        last_order_at: Instant(LATEST),
        ..customer("1")
    };
    customers
        .given([(order_key, imported(greatest_sale(LATEST)))])
        .when((note_key, issued(least_credit_note(EARLIEST))))
        .then((vec![row],))
        .await;
}

async fn a_credit_note_needs_no_order(customers: &mut Customers) {
    let note = CreditNoteIssued {
        customer: Some("2".into()),
        total: i64::MIN,
        ..credit_note(1)
    };
    let row = CustomerRow {
        orders: 0,
        credit_notes: 1,
        total: i64::MIN,
        ..customer("2")
    };
    customers
        .given([])
        .when(("creditnote_2", issued(note)))
        .then((vec![row],))
        .await;
}

async fn each_currency_has_a_row(customers: &mut Customers) {
    let in_yen = SaleImported {
        customer: Some("3".into()),
        ..sale_in_yen()
    };
    let row = CustomerRow {
        currency: "JPY".into(),
        total: i64::MAX,
        ..customer("3")
    };
    customers
        .given([("order_2", sold_to(Some("3")))])
        .when(("order_3", imported(in_yen)))
        .then((vec![customer("3"), row],))
        .await;
}

async fn each_spelling_has_a_row(customers: &mut Customers) {
    customers
        .given([
            ("order_4", sold_to(Some(COMPOSED))),
            ("order_5", sold_to(Some(DECOMPOSED))),
        ])
        .when(("order_6", sold_to(Some(TEXT))))
        .then((vec![
            customer(COMPOSED),
            customer(DECOMPOSED),
            customer(TEXT),
        ],))
        .await;
}

async fn an_order_without_a_customer_has_no_row(customers: &mut Customers) {
    customers
        .given([("order_7", sold_to(None))])
        .when(("order_8", sold_to(Some(""))))
        .then((vec![],))
        .await;
}
