//! The list of builds in Postgres: switches, and builds that have caught up.

use crate::{
    backends::{BothBackends, run},
    queries::{assert_problem, serve},
};
use projections::{
    Databases,
    admin::{self, AdminError},
    builds::{Entry, State, registry},
};
use sqlx::{PgConnection, PgPool};
use std::time::Duration;
use tokio::time::Instant;

/// A view in Postgres.
const VIEW: &str = "orders_v2";
/// Longest wait for another transaction.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two checks for it.
const LOCK_INTERVAL: Duration = Duration::from_millis(20);

/// Creates a build that has read the journal up to an offset.
async fn add_build(databases: &Databases, next_offset: i64) -> i32 {
    let build = admin::rebuild(databases, VIEW).await.unwrap();
    set_position(databases, build, next_offset).await;
    build
}

async fn set_position(databases: &Databases, build: i32, next_offset: i64) {
    let insert =
        "INSERT INTO view_build_checkpoints VALUES ($1, $2, 'journal.orders', 0, $3, '{}')";
    sqlx::query(insert)
        .bind(VIEW)
        .bind(build)
        .bind(next_offset)
        .execute(&databases.postgres)
        .await
        .unwrap();
}

/// Switches as another process would that has compared the positions already.
async fn switch_at_once(build: i32, connection: &mut PgConnection) {
    registry::switch(VIEW, build, connection).await.unwrap();
}

async fn entry(databases: &Databases, build: i32) -> Entry {
    let entries = registry::all(&databases.postgres).await.unwrap();
    let mut entries = entries.into_iter();
    let entry = entries.find(|one| one.view == VIEW && one.build == build);
    entry.unwrap()
}

async fn serving(databases: &Databases) -> i32 {
    let entries = registry::all(&databases.postgres).await.unwrap();
    let mut entries = entries.iter();
    let serving = entries.find(|one| one.view == VIEW && one.state == State::Serving);
    serving.unwrap().build
}

/// Waits until a transaction waits for a lock.
async fn is_locked_out(pool: &PgPool) {
    let waiting = "SELECT count(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        let count: i64 = sqlx::query_scalar(waiting).fetch_one(pool).await.unwrap();
        if count > 0 {
            return;
        }
        assert!(Instant::now() < deadline, "{count} transactions wait");
        tokio::time::sleep(LOCK_INTERVAL).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_has_read_as_much_as_the_serving_one_answers_after_a_switch() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let databases = &backend.databases;
        set_position(databases, 1, 5).await;
        let build = add_build(databases, 5).await;
        admin::switch(databases, VIEW, build).await.unwrap();
        assert_eq!(serving(databases).await, build);
        assert_eq!(entry(databases, 1).await.state, State::Previous);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_compares_the_positions_with_the_build_that_serves_then() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let databases = backend.databases.clone();
        set_position(&databases, 1, 5).await;
        let (ahead, behind) = (
            add_build(&databases, 9).await,
            add_build(&databases, 7).await,
        );
        // Another switch is under way, to the build that has read more.
        let mut transaction = databases.postgres.begin().await.unwrap();
        switch_at_once(ahead, &mut transaction).await;
        let of_task = databases.clone();
        let task = tokio::spawn(async move { admin::switch(&of_task, VIEW, behind).await });
        is_locked_out(&databases.postgres).await;
        transaction.commit().await.unwrap();
        let switched = task.await.unwrap();
        assert!(
            matches!(&switched, Err(AdminError::Behind { serving: 9, .. })),
            "{switched:?}"
        );
        assert_eq!(serving(&databases).await, ahead);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_has_caught_up_after_a_switch_from_one_that_has() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let databases = &backend.databases;
        let build = add_build(databases, 0).await;
        assert!(!entry(databases, build).await.has_caught_up);
        admin::switch(databases, VIEW, build).await.unwrap();
        assert!(entry(databases, build).await.has_caught_up);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_has_not_caught_up_after_a_switch_from_one_that_has_not() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let databases = &backend.databases;
        let build = add_build(databases, 0).await;
        sqlx::query("UPDATE view_builds SET caught_up = false")
            .execute(&databases.postgres)
            .await
            .unwrap();
        admin::switch(databases, VIEW, build).await.unwrap();
        assert!(!entry(databases, build).await.has_caught_up);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_replaces_a_serving_one_has_not_caught_up() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let databases = &backend.databases;
        assert!(entry(databases, 1).await.has_caught_up);
        let mut transaction = databases.postgres.begin().await.unwrap();
        let replacement = registry::replace(VIEW, 1, &mut transaction).await.unwrap();
        transaction.commit().await.unwrap();
        let found = entry(databases, replacement).await;
        assert_eq!((found.state, found.has_caught_up), (State::Serving, false));
    })
    .await;
}

/// A missing row would not mean that the resource does not exist.
#[tokio::test(flavor = "multi_thread")]
async fn queries_of_builds_that_have_not_caught_up_are_refused() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let databases = &backend.databases;
        let mut entries = registry::all(&databases.postgres).await.unwrap();
        for entry in &mut entries {
            entry.has_caught_up = false;
        }
        databases.serving.set(&entries);
        let address = serve(databases).await;
        for path in [
            "/orders",
            "/orders/order_01h455vb4pex5vsknk084sn02q",
            "/orders/order_01h455vb4pex5vsknk084sn02q/timeline",
            "/customers",
            "/customers/1/orders",
            "/countries",
            "/products",
            "/products/A",
        ] {
            assert_problem(&format!("{address}{path}"), 503, "VIEW_REBUILDING").await;
        }
    })
    .await;
}
