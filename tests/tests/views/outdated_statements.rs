//! Prepared statements that Postgres refuses, because a column was altered since, or because a proxy has discarded the
//! statements: the next attempt succeeds, on every connection of a pool.

use crate::{
    backends::{BothBackends, run},
    log::{apply_batch, batch, open},
    queries::{get, sale, sale_commit, serve},
};
use futures_util::future::join_all;
use projections::{
    Databases, Failure,
    postgres::PostgresStore,
    views::{
        catalog_v1::CatalogView, country_sales_v1::CountrySalesView, customers_v1::CustomersView,
        orders_v3::OrdersView,
    },
};
use std::time::Duration;
use tokio::time::Instant;

/// Number of the pool's connections.
const CONNECTIONS: u32 = 4;
/// Longest wait until every query waits for a lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(9);
/// Time between two counts of these queries.
const LOCK_INTERVAL: Duration = Duration::from_millis(20);
/// The result of a statement that returns the column has another type afterwards.
const ALTER: &str = "ALTER TABLE orders_v3_b1 ALTER COLUMN country TYPE varchar(200)";
/// Discards the prepared statements of a connection, as a proxy does that gives it to another client.
const DISCARD: &str = "DEALLOCATE ALL";

fn orders(databases: &Databases) -> PostgresStore<OrdersView> {
    PostgresStore::new(databases.postgres.clone(), 1)
}

/// Sends as many queries as the pool has connections, and lets each use one until all of them have begun.
async fn get_on_every_connection(url: &str, databases: &Databases) -> Vec<u16> {
    let pool = &databases.projectors;
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE orders_v3_b1 IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let releasing = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity \
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            let count: i64 = sqlx::query_scalar(waiting).fetch_one(pool).await.unwrap();
            if count == i64::from(CONNECTIONS) {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{count} of {CONNECTIONS} queries wait"
            );
            tokio::time::sleep(LOCK_INTERVAL).await;
        }
        transaction.rollback().await.unwrap();
    };
    let queries = join_all((0..CONNECTIONS).map(|_| get(url)));
    let (answers, ()) = tokio::join!(queries, releasing);
    answers.into_iter().map(|(status, _)| status).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_on_every_connection_are_answered_after_a_column_was_altered() {
    run(async |backend: &BothBackends| {
        let databases = backend.with_connections(CONNECTIONS);
        open(&orders(&databases)).await;
        let url = format!("{}/orders", serve(&databases).await);
        let all = vec![200; CONNECTIONS as usize];
        assert_eq!(get_on_every_connection(&url, &databases).await, all);
        sqlx::query(ALTER)
            .execute(&databases.projectors)
            .await
            .unwrap();
        assert_eq!(get_on_every_connection(&url, &databases).await, all);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_query_after_the_other_is_answered_after_a_column_was_altered() {
    run(async |backend: &BothBackends| {
        let databases = backend.with_connections(CONNECTIONS);
        open(&orders(&databases)).await;
        let url = format!("{}/orders", serve(&databases).await);
        let all = vec![200; CONNECTIONS as usize];
        assert_eq!(get_on_every_connection(&url, &databases).await, all);
        sqlx::query(ALTER)
            .execute(&databases.projectors)
            .await
            .unwrap();
        for number in 0..2 * CONNECTIONS {
            let (status, page) = get(&url).await;
            assert_eq!(status, 200, "query {number}: {page}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_is_answered_after_its_statements_were_discarded() {
    run(async |backend: &BothBackends| {
        let databases = backend.with_one_connection();
        let pool = &databases.postgres;
        open(&orders(&databases)).await;
        open(&PostgresStore::<CatalogView>::new(pool.clone(), 1)).await;
        open(&PostgresStore::<CustomersView>::new(pool.clone(), 1)).await;
        open(&PostgresStore::<CountrySalesView>::new(pool.clone(), 1)).await;
        let api = serve(&databases).await;
        for (path, expected) in [
            ("orders", 200),
            ("products", 200),
            ("products/suggestions?prefix=a", 200),
            ("products/A", 404),
            ("customers", 200),
            ("customers/1", 404),
            ("countries", 200),
        ] {
            let url = format!("{api}/{path}");
            assert_eq!(get(&url).await.0, expected, "{path}, before");
            sqlx::raw_sql(DISCARD).execute(pool).await.unwrap();
            let (status, answer) = get(&url).await;
            assert_eq!(status, expected, "{path}: {answer}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_opened_by_another_attempt_after_its_statements_were_discarded() {
    run(async |backend: &BothBackends| {
        let databases = backend.with_one_connection();
        let store = orders(&databases);
        let start = open(&store).await;
        sqlx::raw_sql(DISCARD)
            .execute(&databases.postgres)
            .await
            .unwrap();
        assert_eq!(open(&store).await, start);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_attempt_applies_a_batch_after_a_column_was_altered() {
    run(async |backend: &BothBackends| {
        let databases = backend.with_one_connection();
        let store = orders(&databases);
        open(&store).await;
        let commit = |number| sale_commit(number, number, sale(number));
        apply_batch(&store, &batch(0, 1, vec![commit(0)]))
            .await
            .unwrap();
        sqlx::query(ALTER)
            .execute(&databases.projectors)
            .await
            .unwrap();
        let next = batch(1, 2, vec![commit(1)]);
        // An error in another test may have replaced the connection already.
        if let Err(error) = apply_batch(&store, &next).await {
            assert_eq!(error.failure(), Some(Failure::Transient), "{error}");
            apply_batch(&store, &next).await.unwrap();
        }
        assert_eq!(open(&store).await.next_offset, 2);
    })
    .await;
}
