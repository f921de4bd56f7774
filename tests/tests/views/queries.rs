//! The queries of the views of orders, and the views' totals.

use crate::{
    backends::{BothBackends, run},
    log::{PARTITION, PARTITIONS, apply_batch, batch, commit, open},
};
use journal::Valid;
use kafka::partition::of_key;
use projections::{
    Databases, Failure, StoreError, Waits,
    cql::CqlStore,
    order::Kind,
    postgres::PostgresStore,
    versions::Versions,
    views::{
        VIEWS, country_sales_v1::CountrySalesView, orders_by_customer_v2::OrdersByCustomer,
        orders_v3::OrdersView,
    },
};
use schemas::{
    Currency, Quantity, Sku, Timestamp, UnitPrice,
    orders::{CreditNoteEvent, CreditNoteIssued, Event, OrderEvent, SaleImported, SaleLine},
    totals::{Totals, TotalsByCurrency},
};
use serde_json::{Value, json};

/// An order with one line. Its customer is `number` modulo 3, and 0 means no customer.
pub fn sale(number: i64) -> SaleImported {
    SaleImported {
        invoice: number.to_string(),
        customer: Some(number % 3).filter(|n| *n > 0).map(|n| n.to_string()),
        country: ["France", "Norway"][usize::try_from(number % 2).unwrap()].into(),
        // Four orders have each time, so that the order's id must decide among them.
        ordered_at: Timestamp(1_291_191_960_000_001 + number / 4 * 1_000),
        currency: Currency::GBP,
        lines: vec![SaleLine {
            sku: Sku::parse("85123A").unwrap(),
            description: None,
            quantity: Quantity(number),
            unit_price: UnitPrice(2_550_000),
            amount: 255 * number,
        }],
        total: 255 * number,
    }
}

/// A credit note with the customer, the country, the time and the line of [`sale`].
pub fn credit_note(number: i64) -> CreditNoteIssued {
    let sale = sale(number);
    CreditNoteIssued {
        invoice: format!("C{number}"),
        order_id: None,
        customer: sale.customer,
        country: sale.country,
        issued_at: sale.ordered_at,
        currency: sale.currency,
        lines: sale.lines,
        total: sale.total,
    }
}

pub fn id(number: i64) -> String {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    schemas::ids::CommandId(bytes).aggregate_id("order")
}

pub fn sale_commit(offset: i64, number: i64, sale: SaleImported) -> Valid<Event> {
    commit(
        offset,
        &id(number),
        1,
        Event::Order(OrderEvent::SaleImported(sale)),
    )
}

/// Orders whose number is their offset.
fn sales(numbers: std::ops::Range<i64>) -> Vec<Valid<Event>> {
    numbers
        .map(|number| sale_commit(number, number, sale(number)))
        .collect()
}

/// Applies the first batch of the log to both views.
async fn apply(databases: &Databases, commits: Vec<Valid<Event>>) {
    let next_offset = commits.last().unwrap().offset + 1;
    let batch = batch(0, next_offset, commits);
    let postgres = PostgresStore::<OrdersView>::new(databases.postgres.clone(), 1);
    open(&postgres).await;
    apply_batch(&postgres, &batch).await.unwrap();
    let cql =
        CqlStore::<OrdersByCustomer>::new(databases.cql.clone(), databases.postgres.clone(), 1);
    open(&cql).await;
    apply_batch(&cql, &batch).await.unwrap();
}

/// Serves the queries; returns their address.
pub async fn serve(databases: &Databases) -> String {
    let (router, _) = projections::routes(databases, &Waits::default()).split_for_parts();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

pub async fn get(url: &str) -> (u16, Value) {
    let response = reqwest::get(url).await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap())
}

/// Asserts that a request is answered with a problem.
pub async fn assert_problem(url: &str, status: u16, code: &str) {
    let (found, problem) = get(url).await;
    assert_eq!(
        (found, problem["code"].as_str()),
        (status, Some(code)),
        "{url}: {problem}"
    );
}

/// Follows the cursors from the first page to the last: `(ordered_at, id)` of every order.
async fn read_all_pages(url: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (mut walked, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = get(&format!("{url}{cursor}")).await;
        assert_eq!(status, 200, "{page}");
        let orders = page["orders"].as_array().unwrap().iter();
        walked.extend(orders.map(|order| (text(&order["ordered_at"]), text(&order["id"]))));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return walked,
        }
    }
}

/// The expected result of [`read_all_pages`] for orders of numbers below 60.
fn newest_first(wanted: impl Fn(&i64) -> bool) -> Vec<(String, String)> {
    let numbers = (0..60).filter(wanted);
    let mut orders: Vec<_> = numbers
        .map(|number| (sale(number).ordered_at.to_string(), id(number)))
        .collect();
    orders.sort();
    orders.reverse();
    orders
}

#[tokio::test(flavor = "multi_thread")]
async fn all_views_have_equal_totals() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        // A view's totals include an order once the view has read the order's partition up to it.
        let is_here = |id: &str| of_key(id.as_bytes(), PARTITIONS) == PARTITION;
        let numbers = (0..).filter(|number| is_here(&id(*number))).take(40);
        let numbers: Vec<i64> = numbers.collect();
        let note_id = |number: i64| id(-number).replace("order", "creditnote");
        let of_note = (2..)
            .step_by(2)
            .find(|number| is_here(&note_id(*number)))
            .unwrap();
        let mut commits: Vec<_> = (0..)
            .zip(&numbers)
            .map(|(offset, number)| sale_commit(offset, *number, sale(*number)))
            .collect();
        let note = Event::CreditNote(CreditNoteEvent::CreditNoteIssued(credit_note(-of_note)));
        commits.push(commit(40, &note_id(of_note), 1, note));
        apply(databases, commits.clone()).await;
        let countries = PostgresStore::<CountrySalesView>::new(databases.postgres.clone(), 1);
        open(&countries).await;
        apply_batch(&countries, &batch(0, 41, commits))
            .await
            .unwrap();
        let expected = Totals {
            invoices: 41,
            sales: 40,
            credit_notes: 1,
            lines: 41,
            total_minor: 255 * (numbers.iter().sum::<i64>() - of_note),
        };
        let mut by_currency = TotalsByCurrency::default();
        by_currency.add(Currency::GBP, expected).unwrap();
        let totals = projections::totals(databases, PARTITIONS).await.unwrap();
        let names: Vec<&str> = totals.iter().map(|(name, _)| name.as_str()).collect();
        let views = Versions::of_all(VIEWS);
        let newest = views.iter().map(Versions::newest);
        let with_totals = newest.filter(|view| view.totals.is_some());
        let expected = with_totals.map(|view| format!("{} {}", view.database, view.name));
        assert_eq!(names, expected.collect::<Vec<_>>());
        for (name, at) in totals {
            assert_eq!(at.totals, by_currency, "{name}");
            assert_eq!(at.position.get(&PARTITION), Some(&41), "{name}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_postgres_refuses_leaves_no_row() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        let store = PostgresStore::<OrdersView>::new(databases.postgres.clone(), 1);
        open(&store).await;
        // The orders are valid, but one of the lines is not: Postgres has no NUL in text.
        let mut refused = sale(5);
        refused.lines[0].description = Some("a\0b".into());
        let mut commits = sales(0..5);
        commits.push(sale_commit(5, 5, refused));
        let error = apply_batch(&store, &batch(0, 6, commits))
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::Database { .. }),
            "{error:?} instead of StoreError::Database"
        );
        assert_eq!(error.failure(), Some(Failure::Value), "{error}");
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM orders_v3_b1")
            .fetch_one(&databases.postgres)
            .await
            .unwrap();
        assert_eq!(count, 0);
        assert_eq!(open(&store).await.next_offset, 0);
        apply_batch(&store, &batch(0, 6, sales(0..6)))
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_have_every_order_once_and_newest_first() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        apply(databases, sales(0..60)).await;
        let api = serve(databases).await;
        for limit in [1, 7, 20, 100] {
            let walked = read_all_pages(&format!("{api}/orders?limit={limit}")).await;
            assert_eq!(walked, newest_first(|_| true), "limit {limit}");
            let walked = read_all_pages(&format!("{api}/customers/2/orders?limit={limit}")).await;
            assert_eq!(walked, newest_first(|n| n % 3 == 2), "limit {limit}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_filtered_by_customer_country_and_kind() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        apply(databases, sales(0..60)).await;
        let api = serve(databases).await;
        let filter = "customer=1&country=Norway&kind=SALE&limit=7";
        let walked = read_all_pages(&format!("{api}/orders?{filter}")).await;
        assert_eq!(walked, newest_first(|n| n % 3 == 1 && n % 2 == 1));
        assert_eq!(
            read_all_pages(&format!("{api}/orders?kind=CREDIT_NOTE")).await,
            []
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_filtered_by_time() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        apply(databases, sales(0..60)).await;
        let api = serve(databases).await;
        let (from, to) = (sale(8).ordered_at, sale(16).ordered_at);
        let walked = read_all_pages(&format!("{api}/orders?from={from}&to={to}")).await;
        assert_eq!(walked, newest_first(|n| (8..16).contains(n)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_found_by_their_invoice_number() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        apply(databases, sales(0..60)).await;
        let api = serve(databases).await;
        let walked = read_all_pages(&format!("{api}/orders?invoice=7")).await;
        assert_eq!(walked, newest_first(|n| *n == 7));
        for filter in [
            "invoice=7&country=France",
            "invoice=7&kind=CREDIT_NOTE",
            "invoice=C7",
        ] {
            let walked = read_all_pages(&format!("{api}/orders?{filter}")).await;
            assert_eq!(walked, [], "{filter}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_customer_has_no_orders() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        apply(databases, sales(0..6)).await;
        let api = serve(databases).await;
        // The second id is the key under which the table keeps orders without a customer.
        for unknown in ["9", "none:2010-12-01", "0"] {
            let walked = read_all_pages(&format!("{api}/customers/{unknown}/orders?")).await;
            assert_eq!(walked, [], "customer {unknown}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_another_list_is_refused() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        apply(databases, sales(0..6)).await;
        let api = serve(databases).await;
        let (_, page) = get(&format!("{api}/orders?limit=1")).await;
        let cursor = page["next_cursor"].as_str().unwrap();
        let url = format!("{api}/customers/1/orders?cursor={cursor}");
        assert_problem(&url, 400, "INVALID_CURSOR").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_shown_with_its_lines() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        apply(databases, sales(0..6)).await;
        let api = serve(databases).await;
        let (status, order) = get(&format!("{api}/orders/{}", id(5))).await;
        assert_eq!(status, 200, "{order}");
        let expected = json!({
            "id": id(5),
            "kind": Kind::Sale.as_str(),
            "invoice": "5",
            "customer": "2",
            "country": "Norway",
            "ordered_at": "2010-12-01T08:26:00.001001Z",
            "total": {"amount": 1275, "currency": "GBP"},
            "line_count": 1,
            "version": 1,
            "lines": [{
                "sku": "85123A",
                "description": null,
                "quantity": 5,
                "unit_price_millionths": 2_550_000,
                "amount": {"amount": 1275, "currency": "GBP"},
            }],
        });
        assert_eq!(order, expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_order_is_not_found() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        apply(databases, sales(0..6)).await;
        let api = serve(databases).await;
        let url = format!("{api}/orders/{}", id(6));
        assert_problem(&url, 404, "ORDER_NOT_FOUND").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_without_tables_is_unavailable() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        let api = serve(databases).await;
        let timeline = format!("orders/{}/timeline", id(1));
        for path in [
            "orders",
            "customers/1/orders",
            "products",
            "products/suggestions?prefix=a",
            "products/A",
            "customers",
            "customers/1",
            "countries",
            timeline.as_str(),
        ] {
            assert_problem(&format!("{api}/{path}"), 503, "DATABASE_UNAVAILABLE").await;
        }
    })
    .await;
}

/// The operator can repair it, and the projector replaces the build if the column was dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_whose_column_was_renamed_is_told_that_the_view_is_unavailable() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        open(&PostgresStore::<OrdersView>::new(
            databases.postgres.clone(),
            1,
        ))
        .await;
        let api = serve(databases).await;
        let (status, page) = get(&format!("{api}/orders")).await;
        assert_eq!(status, 200, "{page}");
        sqlx::query("ALTER TABLE orders_v3_b1 RENAME COLUMN country TO land")
            .execute(&databases.postgres)
            .await
            .unwrap();
        let (status, problem) = get(&format!("{api}/orders")).await;
        assert_eq!(
            (status, problem["code"].as_str()),
            (503, Some("DATABASE_UNAVAILABLE")),
            "{problem}"
        );
    })
    .await;
}
