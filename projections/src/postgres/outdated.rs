//! Prepared statements that a connection can't use any more.
//!
//! Each connection keeps the statements that it has prepared. After a column's type was changed, Postgres refuses every
//! statement that returns the column, and sqlx keeps the statement. So such an error ends the use of every connection
//! that was opened before it, in all pools of the process: they have prepared statements about the same tables. A pool
//! closes these connections one by one, when it is asked for them.

use super::errors::is_statement_outdated;
use std::{
    error::Error,
    iter::successors,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The time of the process's first error about an outdated statement.
static FIRST_ERROR: OnceLock<Instant> = OnceLock::new();
/// The time from the first of these errors to the last one, in nanoseconds. A pool compares it with the age of each
/// connection that it hands out, so it must need no lock.
static LAST_ERROR_AFTER_NS: AtomicU64 = AtomicU64::new(0);

/// Runs a query. If a statement is outdated, runs the query once more, on a connection that was opened afterwards.
///
/// # Errors
/// The query's error. After two outdated statements, a table was altered in between.
pub(crate) async fn with_new_statements<T, E, F>(query: impl Fn() -> F) -> Result<T, E>
where
    E: Error + 'static,
    F: Future<Output = Result<T, E>>,
{
    match query().await {
        Err(error) if close_older_connections(&error) => query().await,
        answer => answer,
    }
}

/// Closes the connections of all pools that were opened before now, if an error or its cause is about an outdated
/// statement. Returns whether it is.
pub(crate) fn close_older_connections(error: &(dyn Error + 'static)) -> bool {
    let mut causes = successors(Some(error), |&error| error.source());
    let is_outdated = causes.any(|cause| {
        let cause = cause.downcast_ref::<sqlx::Error>();
        cause.is_some_and(is_statement_outdated)
    });
    if is_outdated {
        tracing::info!(%error, "a prepared statement is outdated, closing older connections");
        record_error();
    }
    is_outdated
}

fn record_error() {
    let first = FIRST_ERROR.get_or_init(Instant::now);
    let after_ns = u64::try_from(first.elapsed().as_nanos()).unwrap_or(u64::MAX);
    LAST_ERROR_AFTER_NS.fetch_max(after_ns, Ordering::Relaxed);
}

/// Whether a connection of this age may have outdated statements.
pub(super) fn may_be_outdated(age: Duration) -> bool {
    FIRST_ERROR.get().is_some_and(|first| {
        let last_after = Duration::from_nanos(LAST_ERROR_AFTER_NS.load(Ordering::Relaxed));
        age > first.elapsed().saturating_sub(last_after)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_older_connections_may_be_outdated() {
        let other = sqlx::Error::PoolTimedOut;
        assert!(!close_older_connections(&other), "{other}");
        record_error();
        assert!(!may_be_outdated(Duration::ZERO), "a new one is outdated");
        assert!(may_be_outdated(Duration::MAX), "an old one is not outdated");
    }
}
