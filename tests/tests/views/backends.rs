//! The databases of a single test, which are dropped whether the test passes or fails.

use crate::{
    log::create_builds,
    products::{ProductRow, ProductsView},
};
use futures_util::FutureExt;
use projections::{
    CqlSettings, Databases, PostgresSettings, Store, View,
    builds::{Build, registry},
    cql::{Cql, CqlStore, CqlView, Session},
    postgres::{self, PostgresStore},
    settings::CqlConsistency,
};
use schemas::catalog::Event;
use scylla::statement::unprepared::Statement;
use sqlx::PgPool;
use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Longest wait for a change of the CQL schema.
const SCHEMA_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for a connection to the CQL store.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest wait until another transaction waits for a lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two checks for such a transaction.
const LOCK_INTERVAL: Duration = Duration::from_millis(20);

/// The databases of a test.
pub trait Backend: Sized {
    async fn set_up() -> Self;
    async fn tear_down(self);
}

/// The database of a test in the suite for all stores.
pub trait StoreBackend: Backend {
    type Store: Store<Event = Event>;

    /// Another handle to a build of the view. The build must be in the list.
    fn store_of(&self, build: i32) -> Self::Store;

    /// Another handle to the first build of the view.
    fn store(&self) -> Self::Store {
        self.store_of(1)
    }

    /// The Postgres database that has the list of builds.
    fn list(&self) -> &PgPool;

    /// The view's products, each with a stamp that changes with every write of its row, unless the write repeats
    /// the stored one.
    async fn products_of(&self, build: i32) -> Vec<(ProductRow, i64)>;

    /// The products of the first build.
    async fn products(&self) -> Vec<(ProductRow, i64)> {
        self.products_of(1).await
    }

    /// The view's prices: SKU, currency and amount.
    async fn prices_of(&self, build: i32) -> Vec<(String, String, i64)>;

    /// The prices of the first build.
    async fn prices(&self) -> Vec<(String, String, i64)> {
        self.prices_of(1).await
    }

    /// Drops a table of a build, as an operator would.
    async fn drop_table(&self, build: i32, table: &str);

    /// Changes a table of a build by a part of `ALTER TABLE`, as an operator would.
    async fn alter_table(&self, build: i32, table: &str, change: &str);
}

/// Runs a test, and drops its databases.
pub async fn run<B: Backend>(test: impl AsyncFnOnce(&B)) {
    run_on(B::set_up().await, test).await;
}

/// Runs a test on these databases, and drops them.
pub async fn run_on<B: Backend>(backend: B, test: impl AsyncFnOnce(&B)) {
    let outcome = AssertUnwindSafe(test(&backend)).catch_unwind().await;
    backend.tear_down().await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// A database in Postgres.
pub struct PostgresBackend {
    name: String,
    pool: PgPool,
}

/// A keyspace in the CQL store, and a database in Postgres with the list of builds.
pub struct CqlBackend {
    name: String,
    cql: Cql,
    /// The Postgres database that has the list of builds.
    pool: PgPool,
}

/// A database in Postgres and a keyspace in the CQL store.
pub struct BothBackends {
    pub name: String,
    pub databases: Databases,
}

/// A name that no other test has, short enough for a keyspace.
fn fresh_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("daybook_test_views_{}_{number}", std::process::id())
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("set {name} to the address of a running server"))
}

fn postgres_settings(database: &str) -> PostgresSettings {
    let url = variable("DAYBOOK_POSTGRES_URL");
    let (server, _) = url.rsplit_once('/').unwrap();
    PostgresSettings {
        url: format!("{server}/{database}"),
        ..PostgresSettings::default()
    }
}

fn cql_settings(keyspace: &str) -> CqlSettings {
    CqlSettings {
        nodes: variable("DAYBOOK_CQL_NODES"),
        keyspace: keyspace.to_owned(),
        ..CqlSettings::default()
    }
}

fn build_of(number: i32) -> Build {
    Build {
        view: ProductsView::NAME,
        number,
    }
}

/// Creates the database, and the view's first build in the list.
async fn create_build(pool: &PgPool) {
    let created = registry::create_first_builds(pool, &[ProductsView::NAME]);
    created.await.unwrap();
}

async fn drop_database(name: &str, pool: &PgPool) {
    pool.close().await;
    let maintenance = postgres::connect_lazily(&postgres_settings("postgres")).unwrap();
    let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
    let dropping = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&maintenance);
    dropping.await.unwrap();
    maintenance.close().await;
}

/// Waits until a transaction waits for a lock.
pub async fn is_locked_out(pool: &PgPool) {
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

/// Waits until a session waits for a lock that the session `holder` has: the session `waiter`, or any. Each session is
/// named by its process on the server.
pub async fn waits_for(waiter: Option<i32>, holder: i32, pool: &PgPool) {
    let waiting = "SELECT pid FROM pg_stat_activity \
        WHERE $1 = ANY(pg_blocking_pids(pid)) AND pid = coalesce($2, pid)";
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        let found = sqlx::query_scalar(waiting).bind(holder).bind(waiter);
        let found: Vec<i32> = found.fetch_all(pool).await.unwrap();
        if !found.is_empty() {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{found:?} instead of {waiter:?} wait for {holder}"
        );
        tokio::time::sleep(LOCK_INTERVAL).await;
    }
}

/// Changes the schema of the CQL store.
pub async fn change_schema(statement: String, cql: &Cql) {
    let session = cql.session().unwrap();
    let mut statement = Statement::new(statement);
    // Other tests change the schema at the same time, and the server makes one change after the other.
    statement.set_request_timeout(Some(SCHEMA_TIMEOUT));
    let changing = session.driver().get_session().query_unpaged(statement, ());
    changing.await.unwrap();
}

impl Backend for PostgresBackend {
    async fn set_up() -> Self {
        let name = fresh_name();
        let pool = postgres::connect_lazily(&postgres_settings(&name)).unwrap();
        create_build(&pool).await;
        Self { name, pool }
    }

    async fn tear_down(self) {
        drop_database(&self.name, &self.pool).await;
    }
}

impl StoreBackend for PostgresBackend {
    type Store = PostgresStore<ProductsView>;

    fn store_of(&self, build: i32) -> Self::Store {
        PostgresStore::new(self.pool.clone(), build)
    }

    fn list(&self) -> &PgPool {
        &self.pool
    }

    /// The stamp is the transaction that wrote the row.
    async fn products_of(&self, build: i32) -> Vec<(ProductRow, i64)> {
        #[derive(sqlx::FromRow)]
        struct Stamped {
            #[sqlx(flatten)]
            row: ProductRow,
            stamp: i64,
        }
        let table = build_of(build).table("products_v1");
        let all = format!("SELECT *, xmin::text::bigint AS stamp FROM {table} ORDER BY sku");
        let rows: Vec<Stamped> = sqlx::query_as(sqlx::AssertSqlSafe(all))
            .fetch_all(&self.pool)
            .await
            .unwrap();
        rows.into_iter().map(|row| (row.row, row.stamp)).collect()
    }

    async fn prices_of(&self, build: i32) -> Vec<(String, String, i64)> {
        let table = build_of(build).table("products_v1_prices");
        let all = format!("SELECT sku, currency, amount FROM {table} ORDER BY sku, currency");
        sqlx::query_as(sqlx::AssertSqlSafe(all))
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    async fn drop_table(&self, build: i32, table: &str) {
        let table = build_of(build).table(table);
        let statement = sqlx::AssertSqlSafe(format!("DROP TABLE {table}"));
        sqlx::raw_sql(statement).execute(&self.pool).await.unwrap();
    }

    async fn alter_table(&self, build: i32, table: &str, change: &str) {
        let table = build_of(build).table(table);
        let statement = sqlx::AssertSqlSafe(format!("ALTER TABLE {table} {change}"));
        sqlx::raw_sql(statement).execute(&self.pool).await.unwrap();
    }
}

impl CqlBackend {
    /// Databases with other settings of the CQL store than the default ones.
    pub async fn with_settings(change: impl FnOnce(&mut CqlSettings)) -> Self {
        let name = fresh_name();
        let mut settings = cql_settings(&name);
        change(&mut settings);
        let cql = Cql::connect_lazily(&settings).unwrap();
        cql.session_within(CONNECT_TIMEOUT).await.unwrap();
        let pool = postgres::connect_lazily(&postgres_settings(&name)).unwrap();
        create_build(&pool).await;
        Self { name, cql, pool }
    }

    /// The session of the test's keyspace.
    pub fn session(&self) -> Arc<Session> {
        self.cql.session().unwrap()
    }

    /// Another session of the test's keyspace, with this consistency.
    pub async fn session_with(&self, consistency: CqlConsistency) -> Arc<Session> {
        let settings = CqlSettings {
            consistency,
            ..cql_settings(&self.name)
        };
        let cql = Cql::connect_lazily(&settings).unwrap();
        cql.session_within(CONNECT_TIMEOUT).await.unwrap()
    }

    /// The name of the test's keyspace.
    pub fn keyspace(&self) -> &str {
        &self.name
    }

    /// A build of any view. The build must be in the list.
    pub fn store_of_view<V: CqlView>(&self, build: i32) -> CqlStore<V> {
        CqlStore::new(self.cql.clone(), self.pool.clone(), build)
    }

    /// Changes the schema, as an operator would. `{keyspace}` stands for the test's keyspace.
    pub async fn change(&self, statement: &str) {
        change_schema(statement.replace("{keyspace}", &self.name), &self.cql).await;
    }
}

impl Backend for CqlBackend {
    async fn set_up() -> Self {
        Self::with_settings(|_| ()).await
    }

    async fn tear_down(self) {
        drop_database(&self.name, &self.pool).await;
        change_schema(format!("DROP KEYSPACE {}", self.name), &self.cql).await;
    }
}

impl StoreBackend for CqlBackend {
    type Store = CqlStore<ProductsView>;

    fn store_of(&self, build: i32) -> Self::Store {
        self.store_of_view(build)
    }

    fn list(&self) -> &PgPool {
        &self.pool
    }

    /// The stamp is the time of the write.
    async fn products_of(&self, build: i32) -> Vec<(ProductRow, i64)> {
        const ALL: &str = "SELECT sku, description, changes, version, WRITETIME(version) \
            FROM {keyspace}.products_v1{build}";
        let session = self.cql.session().unwrap();
        let all = build_of(build).fill(ALL);
        let rows: Vec<(String, String, i64, i64, i64)> = session.fetch(&all, ()).await.unwrap();
        let product = |(sku, description, changes, version, stamp)| {
            let row = ProductRow {
                sku,
                description,
                changes,
                version,
            };
            (row, stamp)
        };
        let mut rows: Vec<_> = rows.into_iter().map(product).collect();
        rows.sort_by(|(a, _), (b, _)| a.sku.cmp(&b.sku));
        rows
    }

    async fn prices_of(&self, build: i32) -> Vec<(String, String, i64)> {
        const ALL: &str = "SELECT sku, currency, amount FROM {keyspace}.products_v1_prices{build}";
        let session = self.cql.session().unwrap();
        let all = build_of(build).fill(ALL);
        let mut rows: Vec<(String, String, i64)> = session.fetch(&all, ()).await.unwrap();
        rows.sort();
        rows
    }

    async fn drop_table(&self, build: i32, table: &str) {
        let table = build_of(build).table(table);
        change_schema(format!("DROP TABLE {}.{table}", self.name), &self.cql).await;
    }

    async fn alter_table(&self, build: i32, table: &str, change: &str) {
        let table = build_of(build).table(table);
        let statement = format!("ALTER TABLE {}.{table} {change}", self.name);
        change_schema(statement, &self.cql).await;
    }
}

impl BothBackends {
    /// The same databases with a single connection to Postgres, which all queries use.
    pub fn with_one_connection(&self) -> Databases {
        self.with_connections(1)
    }

    /// The same databases with at most this many connections to Postgres for queries.
    pub fn with_connections(&self, connections_max: u32) -> Databases {
        let settings = PostgresSettings {
            connections_max,
            ..postgres_settings(&self.name)
        };
        Databases {
            postgres: postgres::connect_lazily(&settings).unwrap(),
            ..self.databases.clone()
        }
    }
}

impl Backend for BothBackends {
    async fn set_up() -> Self {
        let name = fresh_name();
        let (postgres, cql) = (postgres_settings(&name), cql_settings(&name));
        let databases = Databases::connect_lazily(&postgres, &cql).unwrap();
        databases.cql.session_within(CONNECT_TIMEOUT).await.unwrap();
        create_builds(&databases).await;
        Self { name, databases }
    }

    async fn tear_down(self) {
        drop_database(&self.name, &self.databases.postgres).await;
        let statement = format!("DROP KEYSPACE {}", self.name);
        change_schema(statement, &self.databases.cql).await;
    }
}
