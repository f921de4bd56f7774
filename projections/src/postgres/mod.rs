//! Postgres: the pool, and which of its errors another try may mend.

pub mod instant;
pub mod store;

pub use store::{PostgresStore, PostgresView};

use crate::settings::{PostgresSettings, SettingsError};
use sqlx::{
    Connection, PgConnection, PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::time::Duration;

/// Longest wait for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for one statement on the server, in milliseconds.
const STATEMENT_TIMEOUT_MS: &str = "10000";
/// Where one connects to create another database.
const MAINTENANCE_DATABASE: &str = "postgres";

/// SQLSTATEs of what waiting or another try mends, beside the classes below.
const TRANSIENT_STATES: [&str; 9] = [
    "25006", // read-only: a standby that is about to be promoted
    "40001", // serialization failure
    "40P01", // deadlock
    "55P03", // lock not available
    "57014", // cancelled: a statement took too long
    "57P01", // the server is shut down
    "57P02", // the server crashed
    "57P03", // the server starts up
    "57P05", // idle for too long
];
/// Connections, authorization (an operator mends it, the batch is not at fault), and resources:
/// memory, disk, connections.
const TRANSIENT_CLASSES: [&str; 3] = ["08", "28", "53"];
/// SQLSTATE of a database that does not exist.
const NO_DATABASE: &str = "3D000";
/// SQLSTATE of a table that does not exist.
const NO_TABLE: &str = "42P01";
/// SQLSTATEs of a database that was created meanwhile.
const DATABASE_EXISTS: [&str; 2] = ["42P04", "23505"];

/// A pool that connects when it is first used.
pub fn connect_lazily(settings: &PostgresSettings) -> Result<PgPool, SettingsError> {
    settings.check()?;
    let options = settings.options()?.application_name("daybook").options([
        ("statement_timeout", STATEMENT_TIMEOUT_MS),
        // "already exists, skipping" is no news.
        ("client_min_messages", "warning"),
    ]);
    Ok(PgPoolOptions::new()
        .max_connections(settings.connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(options))
}

/// Whether another try may help.
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        error => state(error).is_some_and(|state| is_transient_state(&state)),
    }
}

/// Whether a query found no database or no table, because no projector made it yet.
pub fn is_schema_missing(error: &sqlx::Error) -> bool {
    state(error).is_some_and(|state| [NO_DATABASE, NO_TABLE].contains(&&*state))
}

fn is_transient_state(state: &str) -> bool {
    let mut classes = TRANSIENT_CLASSES.iter();
    TRANSIENT_STATES.contains(&state) || classes.any(|class| state.starts_with(class))
}

fn state(error: &sqlx::Error) -> Option<std::borrow::Cow<'_, str>> {
    error.as_database_error()?.code()
}

/// Begins a transaction; creates the database first if it is not there.
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
    // Without a name of its own, a connection means the database of its role's name.
    let name = options.get_database().unwrap_or(options.get_username());
    tracing::info!(database = name, "creating the database");
    let maintenance = options.clone().database(MAINTENANCE_DATABASE);
    let mut connection = PgConnection::connect_with(&maintenance).await?;
    let quoted = name.replace('"', "\"\"");
    // The name is quoted: no other text ends the identifier.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waiting_mends_is_transient() {
        for state in [
            "57P01", "57P02", "57P03", "53300", "53100", "40001", "40P01", "57014", "08006",
            "28P01", "25006",
        ] {
            assert!(is_transient_state(state), "{state}");
        }
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(is_transient(&sqlx::Error::Io(reset)));
        assert!(is_transient(&sqlx::Error::PoolTimedOut));
    }

    #[test]
    fn what_the_batch_is_at_fault_for_is_not() {
        for state in [
            "22021", "22003", "22008", "23502", "23505", "42P01", "42501", "3D000", "XX000",
        ] {
            assert!(!is_transient_state(state), "{state}");
        }
        assert!(!is_transient(&sqlx::Error::RowNotFound));
        assert!(!is_transient(&sqlx::Error::PoolClosed));
        assert!(!is_transient(&sqlx::Error::Encode("no".into())));
    }
}
