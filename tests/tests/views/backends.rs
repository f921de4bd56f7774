//! The databases of a single test, which are dropped whether the test passes or fails.

use crate::products::{ProductRow, ProductsView};
use futures_util::FutureExt;
use projections::{
    CqlSettings, Databases, PostgresSettings, Store,
    cql::{Cql, CqlStore},
    postgres::{self, PostgresStore},
};
use schemas::catalog::Event;
use scylla::statement::unprepared::Statement;
use sqlx::PgPool;
use std::{
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// Longest wait for a change of the CQL schema.
const SCHEMA_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for a connection to the CQL store.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// The databases of a test.
pub trait Backend: Sized {
    async fn set_up() -> Self;
    async fn tear_down(self);
}

/// The database of a test in the suite for all stores.
pub trait StoreBackend: Backend {
    type Store: Store<Event = Event>;

    /// Another handle to the same view.
    fn store(&self) -> Self::Store;

    /// The view's products, each with a stamp that changes with every write of its row, unless the write repeats
    /// the stored one.
    async fn products(&self) -> Vec<(ProductRow, i64)>;

    /// The view's prices: SKU, currency and amount.
    async fn prices(&self) -> Vec<(String, String, i64)>;

    /// Drops a table, as an operator would.
    async fn drop_table(&self, table: &str);
}

/// Runs a test, and drops its databases.
pub async fn run<B: Backend>(test: impl AsyncFnOnce(&B)) {
    let backend = B::set_up().await;
    let outcome = AssertUnwindSafe(test(&backend)).catch_unwind().await;
    backend.tear_down().await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// A database in Postgres.
pub struct OnPostgres {
    name: String,
    pool: PgPool,
}

/// A keyspace in the CQL store.
pub struct OnCql {
    name: String,
    cql: Cql,
}

/// A database in Postgres and a keyspace in the CQL store.
pub struct OnBoth {
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

async fn drop_database(name: &str, pool: &PgPool) {
    pool.close().await;
    let maintenance = postgres::connect_lazily(&postgres_settings("postgres")).unwrap();
    let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
    let dropping = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&maintenance);
    dropping.await.unwrap();
    maintenance.close().await;
}

async fn change_schema(statement: String, cql: &Cql) {
    let session = cql.session().unwrap();
    let mut statement = Statement::new(statement);
    // Other tests change the schema at the same time, and the server makes one change after the other.
    statement.set_request_timeout(Some(SCHEMA_TIMEOUT));
    let changing = session.driver().get_session().query_unpaged(statement, ());
    changing.await.unwrap();
}

impl Backend for OnPostgres {
    async fn set_up() -> Self {
        let name = fresh_name();
        let pool = postgres::connect_lazily(&postgres_settings(&name)).unwrap();
        Self { name, pool }
    }

    async fn tear_down(self) {
        drop_database(&self.name, &self.pool).await;
    }
}

impl StoreBackend for OnPostgres {
    type Store = PostgresStore<ProductsView>;

    fn store(&self) -> Self::Store {
        PostgresStore::new(self.pool.clone())
    }

    /// The stamp is the transaction that wrote the row.
    async fn products(&self) -> Vec<(ProductRow, i64)> {
        #[derive(sqlx::FromRow)]
        struct Stamped {
            #[sqlx(flatten)]
            row: ProductRow,
            stamp: i64,
        }
        let rows: Vec<Stamped> =
            sqlx::query_as("SELECT *, xmin::text::bigint AS stamp FROM products_v1 ORDER BY sku")
                .fetch_all(&self.pool)
                .await
                .unwrap();
        rows.into_iter().map(|row| (row.row, row.stamp)).collect()
    }

    async fn prices(&self) -> Vec<(String, String, i64)> {
        sqlx::query_as(
            "SELECT sku, currency, amount FROM products_v1_prices ORDER BY sku, currency",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    async fn drop_table(&self, table: &str) {
        let statement = sqlx::AssertSqlSafe(format!("DROP TABLE {table}"));
        sqlx::raw_sql(statement).execute(&self.pool).await.unwrap();
    }
}

impl Backend for OnCql {
    async fn set_up() -> Self {
        let name = fresh_name();
        let cql = Cql::connect_lazily(&cql_settings(&name)).unwrap();
        cql.session_within(CONNECT_TIMEOUT).await.unwrap();
        Self { name, cql }
    }

    async fn tear_down(self) {
        change_schema(format!("DROP KEYSPACE {}", self.name), &self.cql).await;
    }
}

impl StoreBackend for OnCql {
    type Store = CqlStore<ProductsView>;

    fn store(&self) -> Self::Store {
        CqlStore::new(self.cql.clone())
    }

    /// The stamp is the time of the write.
    async fn products(&self) -> Vec<(ProductRow, i64)> {
        const ALL: &str = "SELECT sku, description, changes, version, WRITETIME(version) \
            FROM {keyspace}.products_v1";
        let session = self.cql.session().unwrap();
        let rows: Vec<(String, String, i64, i64, i64)> = session.fetch(ALL, ()).await.unwrap();
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

    async fn prices(&self) -> Vec<(String, String, i64)> {
        const ALL: &str = "SELECT sku, currency, amount FROM {keyspace}.products_v1_prices";
        let session = self.cql.session().unwrap();
        let mut rows: Vec<(String, String, i64)> = session.fetch(ALL, ()).await.unwrap();
        rows.sort();
        rows
    }

    async fn drop_table(&self, table: &str) {
        change_schema(format!("DROP TABLE {}.{table}", self.name), &self.cql).await;
    }
}

impl Backend for OnBoth {
    async fn set_up() -> Self {
        let name = fresh_name();
        let (postgres, cql) = (postgres_settings(&name), cql_settings(&name));
        let databases = Databases::connect_lazily(&postgres, &cql).unwrap();
        databases.cql.session_within(CONNECT_TIMEOUT).await.unwrap();
        Self { name, databases }
    }

    async fn tear_down(self) {
        drop_database(&self.name, &self.databases.postgres).await;
        let statement = format!("DROP KEYSPACE {}", self.name);
        change_schema(statement, &self.databases.cql).await;
    }
}
