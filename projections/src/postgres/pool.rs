//! The connection pool, and the creation of the database.

use super::errors::{NO_DATABASE, state};
use crate::settings::{PostgresSettings, SettingsError};
use sqlx::{
    Connection, PgConnection, PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::time::Duration;

/// Longest wait for a connection.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest time for one statement on the server.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Least similarity of a passage to a search text, from 0 to 1. Two exchanged letters of a word with seven give 0.5,
/// which is below the default of 0.6.
const WORD_SIMILARITY_MIN: &str = "0.45";
/// The database to connect to when another one is created.
const MAINTENANCE_DATABASE: &str = "postgres";

/// SQLSTATEs of a database that another node has created meanwhile.
const DATABASE_EXISTS: [&str; 2] = ["42P04", "23505"];

/// A pool that connects when it is first used.
pub fn connect_lazily(settings: &PostgresSettings) -> Result<PgPool, SettingsError> {
    settings.check()?;
    let options = settings.options()?.application_name("daybook").options([
        (
            "statement_timeout",
            &*STATEMENT_TIMEOUT.as_millis().to_string(),
        ),
        ("pg_trgm.word_similarity_threshold", WORD_SIMILARITY_MIN),
        // "already exists, skipping" is not worth a log line.
        ("client_min_messages", "warning"),
    ]);
    Ok(PgPoolOptions::new()
        .max_connections(settings.connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(options))
}

/// Begins a transaction; creates the database first if it is missing.
pub(super) async fn begin_creating_database(
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
    // Without a database's name, Postgres uses the role's.
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
