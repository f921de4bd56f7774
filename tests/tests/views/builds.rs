//! The list of builds in Postgres: switches, and builds that have caught up.

use crate::{
    backends::{BothBackends, is_locked_out, run, waits_for},
    queries::{assert_problem, serve},
};
use projections::{
    Databases,
    admin::{self, AdminError},
    builds::{Build, BuildId, Entry, State, registry},
};
use schemas::Timestamp;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

/// A view in Postgres.
const VIEW: &str = "orders_v3";

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

/// A transaction, and the server's process of its session. Only the test ends it: a session looks for a deadlock after
/// its own `deadlock_timeout`, and then ends its own transaction.
async fn begin_without_end(pool: &PgPool) -> (Transaction<'static, Postgres>, i32) {
    let mut transaction = pool.begin().await.unwrap();
    let without_end = "SET LOCAL deadlock_timeout = '1h'; SET LOCAL statement_timeout = 0; \
        SET LOCAL idle_in_transaction_session_timeout = 0";
    sqlx::raw_sql(without_end)
        .execute(&mut *transaction)
        .await
        .unwrap();
    let process = sqlx::query_scalar("SELECT pg_backend_pid()");
    let process = process.fetch_one(&mut *transaction).await.unwrap();
    (transaction, process)
}

/// A transaction that has locked a build.
async fn lock_build(build: i32, pool: &PgPool) -> (Transaction<'static, Postgres>, i32) {
    let (mut transaction, process) = begin_without_end(pool).await;
    let lock = "SELECT build FROM view_builds WHERE view_name = $1 AND build = $2 FOR UPDATE";
    let lock = sqlx::query_scalar::<_, i32>(lock).bind(VIEW).bind(build);
    assert_eq!(lock.fetch_one(&mut *transaction).await.unwrap(), build);
    (transaction, process)
}

/// A transaction that has locked a table by this statement.
async fn lock_table(lock: &'static str, pool: &PgPool) -> (Transaction<'static, Postgres>, i32) {
    let (mut transaction, process) = begin_without_end(pool).await;
    let locking = sqlx::raw_sql(lock).execute(&mut *transaction);
    locking.await.unwrap();
    (transaction, process)
}

async fn entry(databases: &Databases, build: i32) -> Entry {
    let entries = registry::all(&databases.postgres).await.unwrap();
    let mut entries = entries.into_iter();
    let entry = entries.find(|one| one.view == VIEW && one.build == build);
    entry.unwrap()
}

/// The builds of the view that are not dropped, with their states.
async fn states(databases: &Databases) -> Vec<(i32, State)> {
    let entries = registry::all(&databases.postgres).await.unwrap();
    let of_view = entries.iter().filter(|one| one.view == VIEW);
    of_view.map(|one| (one.build, one.state)).collect()
}

/// The number of tables of build 2.
async fn tables_of_build_2(pool: &PgPool) -> i64 {
    let count =
        "SELECT count(*) FROM pg_class WHERE relname IN ('orders_v3_b2', 'orders_v3_lines_b2')";
    sqlx::query_scalar(count).fetch_one(pool).await.unwrap()
}

async fn serving(databases: &Databases) -> i32 {
    let entries = registry::all(&databases.postgres).await.unwrap();
    let mut entries = entries.iter();
    let serving = entries.find(|one| one.view == VIEW && one.state == State::Serving);
    serving.unwrap().build
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

/// Adds the builds 2 and 3, and changes build 3. The first attempt of the change is ended by a deadlock.
///
/// A change locks the builds in the order of their numbers. It has the first one, and waits for the second one until
/// the other transaction waits for the change. Then it also gets the second one, and waits for the other transaction.
/// So it is the last one that waits, and it finds the deadlock.
async fn through_a_deadlock<T, Change>(
    databases: &Databases,
    change: impl FnOnce(Databases, i32) -> Change,
) -> T
where
    T: Send + 'static,
    Change: Future<Output = T> + Send + 'static,
{
    let pool = &databases.postgres;
    set_position(databases, 1, 5).await;
    let (second, target) = (add_build(databases, 5).await, add_build(databases, 5).await);
    let before = states(databases).await;
    let (mut other, process) = lock_build(target, pool).await;
    let (gate, gate_process) = lock_build(second, pool).await;
    let task = tokio::spawn(change(databases.clone(), target));
    waits_for(None, gate_process, pool).await;
    // Unlike the lock of a row, this one is passed on when the attempt ends: the next attempt can't get it first.
    let lock = sqlx::raw_sql("LOCK TABLE view_builds IN EXCLUSIVE MODE");
    let opening = async {
        waits_for(Some(process), gate_process, pool).await;
        gate.rollback().await.unwrap();
    };
    let (locked, ()) = tokio::join!(lock.execute(&mut *other), opening);
    locked.unwrap();
    // The attempt has ended without a change.
    assert_eq!(states(databases).await, before);
    other.rollback().await.unwrap();
    task.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_is_ended_by_a_deadlock_is_attempted_again() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let switched = through_a_deadlock(&backend.databases, |databases, build| async move {
            admin::switch(&databases, VIEW, build).await
        });
        switched.await.unwrap();
        let expected = [
            (1, State::Previous),
            (2, State::Building),
            (3, State::Serving),
        ];
        assert_eq!(states(&backend.databases).await, expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_ended_by_a_deadlock_is_attempted_again() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let added = through_a_deadlock(&backend.databases, |databases, _| async move {
            admin::rebuild(&databases, VIEW).await
        });
        assert_eq!(added.await.unwrap(), 4);
        let added = [2, 3, 4].map(|build| (build, State::Building));
        let expected = [&[(1, State::Serving)][..], &added].concat();
        assert_eq!(states(&backend.databases).await, expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_that_is_ended_by_a_deadlock_is_attempted_again() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let replaced = through_a_deadlock(&backend.databases, |databases, build| async move {
            admin::reset(&databases, VIEW, build).await
        });
        assert_eq!(replaced.await.unwrap(), 4);
        let expected = [
            (1, State::Serving),
            (2, State::Building),
            (4, State::Building),
        ];
        assert_eq!(states(&backend.databases).await, expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_that_is_ended_by_a_deadlock_is_attempted_again() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let dropped = through_a_deadlock(&backend.databases, |databases, build| async move {
            admin::drop_build(&databases, VIEW, build).await
        });
        dropped.await.unwrap();
        let expected = [(1, State::Serving), (2, State::Building)];
        assert_eq!(states(&backend.databases).await, expected);
    })
    .await;
}

/// A drop locks the table of orders before that of their lines. As in [`through_a_deadlock`], it is the last one that
/// waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_drop_whose_tables_are_in_a_deadlock_is_attempted_again() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let databases = backend.databases.clone();
        let pool = &databases.postgres;
        let build = admin::rebuild(&databases, VIEW).await.unwrap();
        assert_eq!(build, 2);
        let create =
            sqlx::raw_sql("CREATE TABLE orders_v3_b2 (); CREATE TABLE orders_v3_lines_b2 ()");
        create.execute(pool).await.unwrap();
        let lock = "LOCK TABLE orders_v3_lines_b2 IN ACCESS SHARE MODE";
        let (mut other, process) = lock_table(lock, pool).await;
        let lock = "LOCK TABLE orders_v3_b2 IN ACCESS SHARE MODE";
        let (gate, gate_process) = lock_table(lock, pool).await;
        let of_task = databases.clone();
        let task = tokio::spawn(async move { admin::drop_build(&of_task, VIEW, build).await });
        waits_for(None, gate_process, pool).await;
        let lock = sqlx::raw_sql("LOCK TABLE orders_v3_b2 IN ACCESS EXCLUSIVE MODE");
        let opening = async {
            waits_for(Some(process), gate_process, pool).await;
            gate.rollback().await.unwrap();
        };
        let (locked, ()) = tokio::join!(lock.execute(&mut *other), opening);
        locked.unwrap();
        // The attempt has ended without a drop.
        assert_eq!(tables_of_build_2(pool).await, 2);
        other.rollback().await.unwrap();
        task.await.unwrap().unwrap();
        assert_eq!(tables_of_build_2(pool).await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_build_is_compared_with_a_serving_one_that_lacks_a_position() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let databases = &backend.databases;
        sqlx::query("UPDATE view_builds SET has_tables = true WHERE view_name = $1")
            .bind(VIEW)
            .execute(&databases.postgres)
            .await
            .unwrap();
        let build = add_build(databases, 5).await;
        let switched = admin::switch(databases, VIEW, build).await;
        assert!(
            matches!(&switched, Err(AdminError::NoPosition { partition: 0, .. })),
            "{switched:?}"
        );
        assert_eq!(serving(databases).await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_measured_build_has_caught_up_and_not_another_one_with_its_number() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let databases = &backend.databases;
        let number = add_build(databases, 5).await;
        sqlx::query("UPDATE view_builds SET has_tables = true WHERE view_name = $1")
            .bind(VIEW)
            .execute(&databases.postgres)
            .await
            .unwrap();
        let measured = BuildId {
            build: Build { view: VIEW, number },
            created_at: entry(databases, number).await.created_at,
        };
        let lost = BuildId {
            created_at: Timestamp(measured.created_at.0 - 1),
            ..measured
        };
        for (id, has_caught_up) in [(lost, false), (measured, true)] {
            let is_stored = registry::set_caught_up(id, &databases.postgres).await;
            assert_eq!(is_stored.unwrap(), has_caught_up, "{id:?}");
            let found = entry(databases, number).await.has_caught_up;
            assert_eq!(found, has_caught_up, "{id:?}");
        }
    })
    .await;
}

/// The column is added to the list of a version that did not have it.
#[tokio::test(flavor = "multi_thread")]
async fn serving_builds_with_tables_have_caught_up_after_the_migration() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let databases = &backend.databases;
        let build = add_build(databases, 5).await;
        let before = "ALTER TABLE view_builds DROP COLUMN caught_up; \
            DROP TABLE view_parked_decisions; \
            DELETE FROM _sqlx_migrations WHERE version >= 2; \
            UPDATE view_builds SET has_tables = true WHERE view_name = 'orders_v3'";
        sqlx::raw_sql(before)
            .execute(&databases.postgres)
            .await
            .unwrap();
        let created = registry::create_first_builds(&databases.postgres, &[VIEW]);
        created.await.unwrap();
        let entries = registry::all(&databases.postgres).await.unwrap();
        let caught_up = entries.iter().filter(|entry| entry.has_caught_up);
        let caught_up: Vec<_> = caught_up.map(|entry| (&*entry.view, entry.build)).collect();
        assert_eq!(caught_up, [(VIEW, 1)]);
        assert_eq!(entry(databases, build).await.state, State::Building);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_has_caught_up_after_a_switch_from_one_that_has() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let databases = &backend.databases;
        set_position(databases, 1, 0).await;
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
