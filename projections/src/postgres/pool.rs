//! The connection pool.

use super::outdated::may_be_outdated;
use crate::settings::{PostgresSettings, SettingsError};
use sqlx::{PgPool, postgres::PgPoolOptions};
use std::time::Duration;

/// Longest wait for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest time for one statement on the server, in milliseconds.
const STATEMENT_TIMEOUT_MS: &str = "10000";
/// Longest time between two statements of a transaction, in milliseconds: the server then ends the session. A process that
/// is suspended, or whose machine is gone, must not keep its locks.
const IDLE_TRANSACTION_TIMEOUT_MS: &str = "10000";

/// A pool that connects when it is first used.
///
/// # Errors
/// [`SettingsError`] for invalid settings.
pub fn connect_lazily(settings: &PostgresSettings) -> Result<PgPool, SettingsError> {
    settings.check()?;
    let options = settings.options()?.application_name("daybook").options([
        ("statement_timeout", STATEMENT_TIMEOUT_MS),
        (
            "idle_in_transaction_session_timeout",
            IDLE_TRANSACTION_TIMEOUT_MS,
        ),
        // "already exists, skipping" is not worth a log line.
        ("client_min_messages", "warning"),
    ]);
    Ok(PgPoolOptions::new()
        .max_connections(settings.connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .before_acquire(|_, connection| {
            let is_usable = !may_be_outdated(connection.age);
            Box::pin(async move { Ok(is_usable) })
        })
        .connect_lazy_with(options))
}
