//! The views on real databases: posted once, never by a zombie, whole or not at all; and their
//! queries. Each test has a database and a keyspace of its own.

#![allow(
    clippy::unwrap_used,
    reason = "a test program; clippy knows only its test functions"
)]

use journal::{Batch, Checkpoint, Valid};
use projections::{
    CqlSettings, Databases, PostError, PostgresSettings, Store,
    cql::CqlStore,
    order::Kind,
    postgres::PostgresStore,
    totals::{Totals, cql_totals, postgres_totals},
    views::{orders_by_customer_v1, orders_v1},
};
use schemas::{
    Body, Commit, Currency, Decision, Origin, Quantity, Sku, Timestamp, UnitPrice,
    orders::{CreditNoteIssued, Event, SaleImported, SaleLine},
};
use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};

const TOPIC: &str = "journal.orders";
const PARTITION: i32 = 2;
/// How long the CQL store may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(20);

type Postgres = PostgresStore<orders_v1::View>;
type Cql = CqlStore<orders_by_customer_v1::View>;

/// Runs a test on a database and a keyspace that are its own, and drops them whatever comes of it.
async fn with_databases<Test, Done>(name: &str, test: Test)
where
    Test: FnOnce(Databases) -> Done,
    Done: Future<Output = ()> + Send + 'static,
{
    let name = format!("daybook_test_views_{name}_{}", std::process::id());
    let variable = |name: &str| {
        std::env::var(name).unwrap_or_else(|_| panic!("{name} must name a running server"))
    };
    let url = variable("DAYBOOK_POSTGRES_URL");
    let (server, _) = url.rsplit_once('/').unwrap();
    let postgres = |database: &str| PostgresSettings {
        url: format!("{server}/{database}"),
        ..PostgresSettings::default()
    };
    let cql = CqlSettings {
        nodes: variable("DAYBOOK_CQL_NODES"),
        keyspace: name.clone(),
        ..CqlSettings::default()
    };
    let databases = Databases::connect_lazily(&postgres(&name), &cql).unwrap();
    let session = databases.cql.session_within(PATIENCE).await.unwrap();
    let outcome = tokio::spawn(test(databases.clone())).await;

    databases.postgres.close().await;
    let others = Databases::connect_lazily(&postgres("postgres"), &cql).unwrap();
    let drop_database = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
    sqlx::raw_sql(sqlx::AssertSqlSafe(drop_database))
        .execute(&others.postgres)
        .await
        .unwrap();
    let drop_keyspace = format!("DROP KEYSPACE {name}");
    let dropped = session
        .driver()
        .get_session()
        .query_unpaged(drop_keyspace, ());
    dropped.await.unwrap();
    if let Err(error) = outcome {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// An order of `number`, of one line; customers are `number` modulo 3, of which 0 is none.
fn sale(number: i64) -> SaleImported {
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

fn credit_note(number: i64) -> CreditNoteIssued {
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

fn id(number: i64) -> String {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    schemas::ids::CommandId(bytes).aggregate_id("order")
}

fn commit(offset: i64, key: String, event: Event) -> Valid<Event> {
    let decision = Decision {
        aggregate_type: "order".into(),
        version: 0,
        command_id: [0; 16],
        command_hash: [0; 16],
        origin: Origin::Keyed,
        actor: "service:test".into(),
        correlation_id: [0; 16],
        causation_id: None,
        traceparent: None,
        outcome: None,
        events: vec![event],
    };
    let commit = Commit {
        prev: [0; 32],
        term: [0; 16],
        epoch: 1,
        seq: offset,
        recorded_at: Timestamp(0),
        body: Body::Decision(decision),
    };
    Valid {
        offset,
        key: key.into(),
        commit,
    }
}

/// Orders whose number is their offset.
fn sales(numbers: std::ops::Range<i64>) -> Vec<Valid<Event>> {
    numbers
        .map(|number| commit(number, id(number), Event::SaleImported(sale(number))))
        .collect()
}

fn batch(from: i64, next_offset: i64, commits: Vec<Valid<Event>>) -> Batch<Event> {
    let checkpoint = Checkpoint {
        next_offset,
        ..Checkpoint::start(TOPIC, PARTITION)
    };
    Batch {
        partition: PARTITION,
        from,
        commits,
        void: 0,
        checkpoint,
    }
}

async fn stored(store: &impl Store) -> Checkpoint {
    let partition = usize::try_from(PARTITION).unwrap();
    store.open().await.unwrap()[partition].clone()
}

/// All rows of `orders_v1`, as text.
async fn rows(databases: &Databases) -> Vec<String> {
    sqlx::query_scalar("SELECT o::text FROM orders_v1 o ORDER BY order_id")
        .fetch_all(&databases.postgres)
        .await
        .unwrap()
}

/// All rows of `orders_by_customer_v1`, with the time of their writing.
async fn cql_rows(databases: &Databases) -> BTreeSet<(String, String, i64, i64)> {
    const ALL: &str = "SELECT customer_id, order_id, total, WRITETIME(total) \
        FROM {keyspace}.orders_by_customer_v1";
    let session = databases.cql.session().unwrap();
    let rows = session.fetch(ALL, ()).await.unwrap();
    rows.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_takes_a_batch_once() {
    with_databases("once", async |databases: Databases| {
        let store = Postgres::new(databases.postgres.clone());
        assert_eq!(stored(&store).await, Checkpoint::start(TOPIC, PARTITION));
        let first = batch(0, 10, sales(0..10));
        store.post(&first).await.unwrap();
        let before = rows(&databases).await;
        assert_eq!(before.len(), 10);

        let again = store.post(&first).await.unwrap_err();
        assert!(matches!(again, PostError::Overtaken { expected: 0, .. }));
        assert_eq!(rows(&databases).await, before);
        assert_eq!(stored(&store).await, first.checkpoint);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_of_postgres_changes_nothing() {
    with_databases("zombie", async |databases: Databases| {
        let store = Postgres::new(databases.postgres.clone());
        let zombie = Postgres::new(databases.postgres.clone());
        stored(&store).await;
        store.post(&batch(0, 10, sales(0..10))).await.unwrap();
        store.post(&batch(10, 20, sales(10..20))).await.unwrap();
        let before = rows(&databases).await;

        let mut other = sale(3);
        other.country = "Atlantis".into();
        let commits = vec![commit(10, id(3), Event::SaleImported(other))];
        let late = zombie.post(&batch(10, 11, commits)).await.unwrap_err();
        assert!(matches!(late, PostError::Overtaken { expected: 10, .. }));
        assert!(!late.is_transient());
        assert_eq!(rows(&databases).await, before);
        assert_eq!(stored(&zombie).await.next_offset, 20);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_checkpoint_of_postgres_fail_together() {
    with_databases("together", async |databases: Databases| {
        let store = Postgres::new(databases.postgres.clone());
        stored(&store).await;
        // The orders would fit, one of the lines does not: Postgres has no NUL in text.
        let mut poison = sale(5);
        poison.lines[0].description = Some("a\0b".into());
        let mut commits = sales(0..5);
        commits.push(commit(5, id(5), Event::SaleImported(poison)));
        let refused = store.post(&batch(0, 6, commits)).await.unwrap_err();
        assert!(matches!(refused, PostError::Postgres(_)), "{refused}");
        assert!(!refused.is_transient(), "{refused}");
        assert!(rows(&databases).await.is_empty());
        assert_eq!(stored(&store).await.next_offset, 0);

        store.post(&batch(0, 6, sales(0..6))).await.unwrap();
        assert_eq!(rows(&databases).await.len(), 6);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_that_open_at_once_share_what_they_make() {
    with_databases("at_once", async |databases: Databases| {
        let open = |_| {
            let store = Postgres::new(databases.postgres.clone());
            tokio::spawn(async move { store.open().await.map(|checkpoints| checkpoints.len()) })
        };
        let opened: Vec<_> = (0..4).map(open).collect();
        for store in opened {
            assert_eq!(store.await.unwrap().unwrap(), 4);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cql_takes_a_batch_again_without_a_change() {
    with_databases("cql_again", async |databases: Databases| {
        let store = Cql::new(databases.cql.clone());
        assert_eq!(stored(&store).await, Checkpoint::start(TOPIC, PARTITION));
        let first = batch(0, 250, sales(0..250));
        store.post(&first).await.unwrap();
        let before = cql_rows(&databases).await;
        assert_eq!(before.len(), 250);
        assert!(before.contains(&("1".into(), id(7), 7 * 255, 2 * 7 + 1)));

        store.post(&first).await.unwrap();
        assert_eq!(cql_rows(&databases).await, before);
        assert_eq!(stored(&store).await, first.checkpoint);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_in_the_journal_loses_in_cql() {
    with_databases("cql_older", async |databases: Databases| {
        let store = Cql::new(databases.cql.clone());
        stored(&store).await;
        let telling = |offset, total| {
            let mut sale = sale(1);
            sale.total = total;
            vec![commit(offset, id(1), Event::SaleImported(sale))]
        };
        store.post(&batch(20, 21, telling(20, 2))).await.unwrap();
        // A zombie comes with what was before.
        store.post(&batch(10, 11, telling(10, 1))).await.unwrap();
        let rows = cql_rows(&databases).await;
        assert_eq!(rows, BTreeSet::from([("1".into(), id(1), 2, 41)]));
        assert_eq!(stored(&store).await.next_offset, 21);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_databases_add_up_to_the_same() {
    with_databases("totals", async |databases: Databases| {
        let mut commits = sales(0..40);
        let note = Event::CreditNoteIssued(credit_note(-4));
        commits.push(commit(40, id(-4).replace("order", "creditnote"), note));
        let batch = batch(0, 41, commits);
        let postgres = Postgres::new(databases.postgres.clone());
        let cql = Cql::new(databases.cql.clone());
        stored(&postgres).await;
        stored(&cql).await;
        postgres.post(&batch).await.unwrap();
        cql.post(&batch).await.unwrap();
        let expected = Totals {
            invoices: 41,
            sales: 40,
            credit_notes: 1,
            lines: 41,
            total_minor: 255 * ((0..40).sum::<i64>() - 4),
        };
        let session = databases.cql.session().unwrap();
        assert_eq!(
            postgres_totals(&databases.postgres).await.unwrap(),
            expected
        );
        assert_eq!(cql_totals(&session).await.unwrap(), expected);
    })
    .await;
}

/// Serves the queries; gives their address.
async fn serve(databases: &Databases) -> String {
    let (router, _) = projections::routes(databases).split_for_parts();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

async fn get(url: &str) -> (u16, Value) {
    let response = reqwest::get(url).await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap())
}

/// Follows the cursors from the first page to the last: `(ordered_at, id)` of every order.
async fn walk(url: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = get(&format!("{url}{cursor}")).await;
        assert_eq!(status, 200, "{page}");
        let orders = page["orders"].as_array().unwrap();
        seen.extend(
            orders
                .iter()
                .map(|o| (text(&o["ordered_at"]), text(&o["id"]))),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return seen,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_every_row_once_and_newest_first() {
    with_databases("pages", async |databases: Databases| {
        let all = batch(0, 60, sales(0..60));
        let postgres = Postgres::new(databases.postgres.clone());
        let cql = Cql::new(databases.cql.clone());
        stored(&postgres).await;
        stored(&cql).await;
        postgres.post(&all).await.unwrap();
        cql.post(&all).await.unwrap();
        let api = serve(&databases).await;
        let expected = |wanted: fn(&i64) -> bool| {
            let numbers = (0..60).filter(wanted);
            let place = |number| (sale(number).ordered_at.to_string(), id(number));
            let mut places: Vec<_> = numbers.map(place).collect();
            places.sort();
            places.reverse();
            places
        };
        for limit in [1, 7, 20, 100] {
            let of = |filter: &str| format!("{api}/{filter}limit={limit}");
            assert_eq!(walk(&of("orders?")).await, expected(|_| true));
            let walked = walk(&of("orders?customer=1&country=Norway&kind=SALE&")).await;
            assert_eq!(walked, expected(|n| n % 3 == 1 && n % 2 == 1));
            let walked = walk(&of("customers/2/orders?")).await;
            assert_eq!(walked, expected(|n| n % 3 == 2));
        }
        let (from, to) = (sale(8).ordered_at, sale(16).ordered_at);
        let walked = walk(&format!("{api}/orders?from={from}&to={to}")).await;
        assert_eq!(walked, expected(|n| (8..16).contains(n)));
        for nobody in ["9", "none:2010-12-01", "0"] {
            assert!(
                walk(&format!("{api}/customers/{nobody}/orders?"))
                    .await
                    .is_empty()
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_shown_with_its_lines_or_a_problem() {
    with_databases("one", async |databases: Databases| {
        let api = serve(&databases).await;
        // Before the projector was there, no table is.
        for path in ["orders", "customers/1/orders"] {
            let (status, problem) = get(&format!("{api}/{path}")).await;
            assert_eq!(
                (status, &problem["code"]),
                (503, &"DATABASE_UNAVAILABLE".into())
            );
        }
        let store = Postgres::new(databases.postgres.clone());
        stored(&store).await;
        store.post(&batch(0, 6, sales(0..6))).await.unwrap();
        let (status, order) = get(&format!("{api}/orders/{}", id(5))).await;
        assert_eq!(status, 200);
        assert_eq!(order["kind"], Kind::Sale.as_str());
        assert_eq!(order["ordered_at"], "2010-12-01T08:26:00.001001Z");
        assert_eq!(
            order["total"],
            serde_json::json!({"amount": 1275, "currency": "GBP"})
        );
        let line = serde_json::json!({"sku": "85123A", "description": null, "quantity": 5,
            "unit_price_millionths": 2_550_000, "amount": {"amount": 1275, "currency": "GBP"}});
        assert_eq!(order["lines"], serde_json::json!([line]));
        for (path, status, code) in [
            (format!("orders/{}", id(6)), 404, "ORDER_NOT_FOUND"),
            ("orders/product_1".into(), 400, "INVALID_ORDER_ID"),
        ] {
            let (found, problem) = get(&format!("{api}/{path}")).await;
            assert_eq!((found, &problem["code"]), (status, &code.into()));
        }
    })
    .await;
}
