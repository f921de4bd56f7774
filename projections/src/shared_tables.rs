//! The database in Postgres, and its tables that all views share: the lists of builds, checkpoints and parked events.

use sqlx::{
    Connection, PgConnection, PgPool, Postgres, Transaction, migrate::Migrator,
    postgres::PgConnectOptions,
};
use std::sync::LazyLock;

/// The database to connect to when another one is created.
const MAINTENANCE_DATABASE: &str = "postgres";
/// Key of the advisory lock held while tables are created, in either database. Without the lock, one of two nodes that
/// create the same table at once would fail, and some CQL stores would create two tables with one name.
const SCHEMA_CREATION_LOCK: i64 = 0x6461_7962_6f6f_6b01;
/// The tables that all views share, with a version for each change: one file each in `projections/migrations`. sqlx's
/// own lock belongs to a connection, which would keep the lock after a failure; our lock ends with the transaction.
static SHARED_TABLES: LazyLock<Migrator> = LazyLock::new(|| {
    let mut shared = sqlx::migrate!("./migrations");
    shared.set_locking(false);
    shared
});
/// SQLSTATE of a database that does not exist.
const NO_DATABASE: &str = "3D000";
/// SQLSTATEs that report that another node has created the database meanwhile.
const DATABASE_EXISTS: [&str; 2] = ["42P04", "23505"];

/// Begins a transaction; creates the database and the shared tables first if they are missing.
///
/// # Errors
/// Postgres's error, or [`sqlx::Error::Migrate`] for shared tables of a newer program.
pub(crate) async fn begin_with_tables(
    pool: &PgPool,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut transaction = begin_creating_database(pool).await?;
    // Checks for the tables first, because a role that may read and write may lack the right to create them.
    if !has_shared_tables(&mut transaction).await? {
        lock_schema_creation(&mut transaction).await?;
        SHARED_TABLES
            .run_direct(None, &mut *transaction, false)
            .await
            .map_err(|error| sqlx::Error::Migrate(Box::new(error)))?;
        transaction.commit().await?;
        transaction = pool.begin().await?;
    }
    Ok(transaction)
}

/// Postgres ends the transaction after this idle time. Tables are created in the CQL store while the transaction is idle, so
/// the time is longer than one attempt to open a build.
const SCHEMA_CREATION_TIMEOUT: &str = "SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// Locks the creation of tables in both databases until the end of the transaction. Waits for a node that has the lock.
///
/// # Errors
/// Postgres's error.
pub(crate) async fn lock_schema_creation(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(SCHEMA_CREATION_TIMEOUT)
        .execute(&mut *connection)
        .await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(SCHEMA_CREATION_LOCK)
        .execute(connection)
        .await?;
    Ok(())
}

async fn has_shared_tables(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        return Ok(false);
    }
    let newest: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
        .fetch_one(connection)
        .await?;
    Ok(newest == SHARED_TABLES.iter().map(|one| one.version).max())
}

/// Begins a transaction; creates the database first if it is missing.
async fn begin_creating_database(
    pool: &PgPool,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    match pool.begin().await {
        Err(error) if state(&error).is_some_and(|state| state == NO_DATABASE) => {
            create_database(&pool.connect_options()).await?;
            pool.begin().await
        }
        begun => begun,
    }
}

async fn create_database(options: &PgConnectOptions) -> Result<(), sqlx::Error> {
    // Without the name of a database, Postgres uses the name of the role.
    let name = options.get_database().unwrap_or(options.get_username());
    tracing::info!(database = name, "creating database");
    let maintenance = options.clone().database(MAINTENANCE_DATABASE);
    let mut connection = PgConnection::connect_with(&maintenance).await?;
    let quoted = name.replace('"', "\"\"");
    // The name is quoted, so nothing in it can end the identifier.
    let statement = sqlx::AssertSqlSafe(format!("CREATE DATABASE \"{quoted}\""));
    let created = sqlx::raw_sql(statement).execute(&mut connection).await;
    connection.close().await?;
    match created {
        Err(error) if state(&error).is_none_or(|state| !DATABASE_EXISTS.contains(&&*state)) => {
            Err(error)
        }
        Err(_) | Ok(_) => Ok(()),
    }
}

fn state(error: &sqlx::Error) -> Option<std::borrow::Cow<'_, str>> {
    error.as_database_error()?.code()
}
