//! The versions of a view: which one answers, the switch between them, and the drop of a version.

use crate::{
    backends::{BothBackends, change_schema, run},
    log::{create_builds, open},
    queries::{assert_problem, get, serve},
};
use projections::{
    Databases, View,
    admin::{self, AdminError},
    builds::{RegistryError, State, registry},
    cql::CqlStore,
    postgres::PostgresStore,
    views::{orders_by_customer_v2::OrdersByCustomer, orders_v2, orders_v3},
};
use sqlx::PgPool;

const FORMER: &str = "orders_v2";
const NEXT: &str = "orders_v3";
/// A version that this program does not have.
const OTHER: &str = "orders_v9";

/// The builds of all versions of the view that are not dropped.
async fn builds(databases: &Databases) -> Vec<(String, i32, State)> {
    let entries = registry::all(&databases.postgres).await.unwrap();
    let of_view = entries
        .into_iter()
        .filter(|one| [FORMER, NEXT, OTHER].contains(&one.view.as_str()));
    of_view
        .map(|one| (one.view, one.build, one.state))
        .collect()
}

fn expected(builds: &[(&str, i32, State)]) -> Vec<(String, i32, State)> {
    let builds = builds.iter();
    builds
        .map(|(view, build, state)| ((*view).to_owned(), *build, *state))
        .collect()
}

/// Makes the list that of a database in which the former version answers, and the next one is projected beside it.
async fn former_answers(databases: &Databases) {
    let pool = &databases.postgres;
    let forget = sqlx::query("DELETE FROM view_builds WHERE view_name = $1");
    forget.bind(NEXT).execute(pool).await.unwrap();
    for names in [&[FORMER][..], &[FORMER, NEXT]] {
        registry::create_first_builds(pool, names).await.unwrap();
    }
    let caught_up = sqlx::query("UPDATE view_builds SET caught_up = true WHERE view_name = $1");
    caught_up.bind(FORMER).execute(pool).await.unwrap();
    read_list(databases).await;
}

/// Reads the list, as a node does each second.
async fn read_list(databases: &Databases) {
    let entries = registry::all(&databases.postgres).await.unwrap();
    databases.serving.set(&entries);
}

async fn set_position(view: &str, next_offset: i64, pool: &PgPool) {
    let insert = "INSERT INTO view_build_checkpoints VALUES ($1, 1, 'journal.orders', 0, $2, '{}') \
        ON CONFLICT (view_name, build, topic, partition) DO UPDATE SET next_offset = $2";
    let insert = sqlx::query(insert).bind(view).bind(next_offset);
    insert.execute(pool).await.unwrap();
}

/// The tables whose names begin with a text.
async fn tables(beginning: &str, pool: &PgPool) -> Vec<String> {
    let find = "SELECT tablename::text FROM pg_tables WHERE starts_with(tablename, $1) \
        ORDER BY tablename COLLATE \"C\"";
    let find = sqlx::query_scalar(find).bind(beginning);
    find.fetch_all(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_database_has_only_the_newest_version() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let found = builds(&backend.databases).await;
        assert_eq!(found, expected(&[(NEXT, 1, State::Serving)]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_version_is_projected_beside_the_one_that_answers() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let databases = &backend.databases;
        former_answers(databases).await;
        let both = expected(&[(FORMER, 1, State::Serving), (NEXT, 1, State::Building)]);
        assert_eq!(builds(databases).await, both);
        // The next start of a node changes nothing.
        create_builds(databases).await;
        assert_eq!(builds(databases).await, both);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_has_read_less_than_the_former_one_does_not_answer() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let databases = &backend.databases;
        former_answers(databases).await;
        set_position(FORMER, 9, &databases.postgres).await;
        set_position(NEXT, 7, &databases.postgres).await;
        let switched = admin::switch(databases, NEXT, 1).await;
        assert!(
            matches!(
                &switched,
                Err(AdminError::Behind {
                    next_offset: 7,
                    serving: 9,
                    ..
                })
            ),
            "{switched:?}"
        );
        let both = [(FORMER, 1, State::Serving), (NEXT, 1, State::Building)];
        assert_eq!(builds(databases).await, expected(&both));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_version_answers_after_a_switch_and_the_former_one_after_undo() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let databases = &backend.databases;
        former_answers(databases).await;
        set_position(FORMER, 9, &databases.postgres).await;
        set_position(NEXT, 9, &databases.postgres).await;
        admin::switch(databases, NEXT, 1).await.unwrap();
        let switched = [(FORMER, 1, State::Previous), (NEXT, 1, State::Serving)];
        assert_eq!(builds(databases).await, expected(&switched));
        let entries = registry::all(&databases.postgres).await.unwrap();
        let next = entries.iter().find(|one| one.view == NEXT).unwrap();
        assert!(next.has_caught_up, "{next:?}");

        let refused = admin::undo(databases, FORMER).await;
        assert!(
            matches!(&refused, Err(AdminError::OtherAnswers { answering, .. }) if answering == NEXT),
            "{refused:?}"
        );
        let former = admin::undo(databases, NEXT).await.unwrap();
        assert_eq!((former.view, former.number), (FORMER, 1));
        let undone = [(FORMER, 1, State::Serving), (NEXT, 1, State::Previous)];
        assert_eq!(builds(databases).await, expected(&undone));
        // The name without a version stands for the one that answers.
        let next = admin::undo(databases, "orders").await.unwrap();
        assert_eq!((next.view, next.number), (NEXT, 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_version_answers_with_its_own_parameters() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let databases = &backend.databases;
        let pool = &databases.postgres;
        former_answers(databases).await;
        open(&PostgresStore::<orders_v2::OrdersView>::new(
            pool.clone(),
            1,
        ))
        .await;
        open(&PostgresStore::<orders_v3::OrdersView>::new(
            pool.clone(),
            1,
        ))
        .await;
        let api = serve(databases).await;
        let with_invoice = format!("{api}/orders?invoice=7");
        let code = "UNKNOWN_OR_INVALID_PARAMETER";
        assert_problem(&with_invoice, 400, code).await;
        assert_eq!(get(&format!("{api}/orders")).await.0, 200);
        admin::switch(databases, NEXT, 1).await.unwrap();
        read_list(databases).await;
        let (status, page) = get(&with_invoice).await;
        assert_eq!(status, 200, "{page}");
        admin::undo(databases, NEXT).await.unwrap();
        read_list(databases).await;
        assert_problem(&with_invoice, 400, code).await;
    })
    .await;
}

/// Otherwise its clients would get answers from rows that are no longer switched to, or a 503 without the reason.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_without_the_version_that_answers_names_it() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let databases = &backend.databases;
        registry::create(&databases.postgres, OTHER).await.unwrap();
        let mut connection = databases.postgres.acquire().await.unwrap();
        registry::switch(OTHER, 1, &mut connection).await.unwrap();
        read_list(databases).await;
        let api = serve(databases).await;
        let url = format!("{api}/orders");
        assert_problem(&url, 503, "VIEW_VERSION_MISSING").await;
        assert_eq!(get(&url).await.1["version"], OTHER);
        let totals = projections::totals(databases, 1).await;
        let error = totals.expect_err("the totals of another version");
        assert!(error.to_string().contains(OTHER), "no {OTHER} in: {error}");
        // Another view is answered.
        assert_problem(&format!("{api}/products"), 503, "DATABASE_UNAVAILABLE").await;

        let former = admin::undo(databases, OTHER).await.unwrap();
        assert_eq!((former.view, former.number), (NEXT, 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_answers_is_not_dropped() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let databases = &backend.databases;
        let refused = admin::drop_version(databases, NEXT).await;
        assert!(
            matches!(
                &refused,
                Err(AdminError::Builds(RegistryError::WrongState { .. }))
            ),
            "{refused:?}"
        );
        let found = builds(databases).await;
        assert_eq!(found, expected(&[(NEXT, 1, State::Serving)]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_version_has_no_tables_and_is_not_created_again() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let databases = &backend.databases;
        let pool = &databases.postgres;
        former_answers(databases).await;
        open(&PostgresStore::<orders_v3::OrdersView>::new(
            pool.clone(),
            1,
        ))
        .await;
        assert_eq!(tables("orders_v3", pool).await.len(), 2);
        admin::drop_version(databases, NEXT).await.unwrap();
        assert_eq!(tables("orders_v3", pool).await, Vec::<String>::new());
        let left = expected(&[(FORMER, 1, State::Serving)]);
        assert_eq!(builds(databases).await, left);
        create_builds(databases).await;
        assert_eq!(builds(databases).await, left);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_of_a_version_that_this_program_does_not_have_can_be_dropped() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let databases = &backend.databases;
        let pool = &databases.postgres;
        registry::create(pool, OTHER).await.unwrap();
        let create = "CREATE TABLE orders_v9_b1 (); CREATE TABLE orders_v9_lines_b1 (); \
            CREATE TABLE orders_v9_b11 (); CREATE TABLE orders_v90_b1 ()";
        sqlx::raw_sql(create).execute(pool).await.unwrap();
        let described = admin::describe(databases, Some(OTHER)).await.unwrap();
        assert_eq!(described.len(), 1, "{described:?}");
        admin::drop_version(databases, OTHER).await.unwrap();
        let left = ["orders_v90_b1", "orders_v9_b11"].map(str::to_owned);
        assert_eq!(tables("orders_v9", pool).await, left);
        let found = builds(databases).await;
        assert_eq!(found, expected(&[(NEXT, 1, State::Serving)]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_of_a_version_in_the_cql_store_can_be_dropped_without_its_code() {
    run::<BothBackends>(async |backend: &BothBackends| {
        let databases = &backend.databases;
        let (cql, pool) = (databases.cql.clone(), databases.postgres.clone());
        let session = databases.cql.session().unwrap();
        open(&CqlStore::<OrdersByCustomer>::new(cql, pool, 1)).await;
        let create = format!(
            "CREATE TABLE {}.orders_v9_b1 (id text PRIMARY KEY)",
            backend.name
        );
        change_schema(create, &databases.cql).await;
        let insert = "INSERT INTO {keyspace}.view_build_checkpoints \
            (view_name, build, topic, partition, next_offset, checkpoint) \
            VALUES ('orders_v9', 1, 'journal.orders', 0, 7, '{}') IF NOT EXISTS";
        session.execute(insert, ()).await.unwrap();
        registry::create(&databases.postgres, OTHER).await.unwrap();
        admin::drop_version(databases, OTHER).await.unwrap();
        let find = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
        let found: Vec<(String,)> = session.fetch(find, (&backend.name,)).await.unwrap();
        let names: Vec<&str> = found.iter().map(|(name,)| name.as_str()).collect();
        assert!(!names.contains(&"orders_v9_b1"), "{names:?}");
        let kept = format!("{}_b1", OrdersByCustomer::NAME);
        assert!(names.contains(&kept.as_str()), "no {kept} in: {names:?}");
        let checkpoints = "SELECT next_offset FROM {keyspace}.view_build_checkpoints \
            WHERE view_name = 'orders_v9' AND build = 1 AND topic = 'journal.orders'";
        let left: Vec<(i64,)> = session.fetch(checkpoints, ()).await.unwrap();
        assert_eq!(left, []);
    })
    .await;
}
