//! Errors of queries, and their answers to clients.

use crate::{
    cql::CqlError,
    postgres::{self, ACQUIRE_TIMEOUT, STATEMENT_TIMEOUT},
};
use axum::http::StatusCode;
use schemas::totals::Overflow;
use service::problem::Problem;
use std::time::Duration;
use utoipa::IntoResponses;

/// Longest time for one query. It is longer than a statement may wait and run in Postgres, so that Postgres itself
/// tells that a statement took too long.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(15);

const _: () = assert!(
    QUERY_TIMEOUT.as_millis() > ACQUIRE_TIMEOUT.as_millis() + STATEMENT_TIMEOUT.as_millis()
);

/// A query's failure.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Postgres.
    #[error("postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    /// The CQL store.
    #[error("cql: {0}")]
    Cql(#[from] CqlError),
    /// A stored value that no projector writes.
    #[error("column {column} has the unexpected value {value:?}")]
    Value {
        /// The column.
        column: &'static str,
        /// The value.
        value: String,
    },
    /// A sum of the view's totals overflows.
    #[error(transparent)]
    Overflow(#[from] Overflow),
}

/// The errors of a query for a page of a list.
#[derive(IntoResponses)]
pub enum ListProblems {
    /// UNKNOWN_OR_INVALID_PARAMETER, PARAMETER_MISSING, INVALID_TIME, INVALID_TEXT, INVALID_CURRENCY, INVALID_LIMIT
    /// or INVALID_CURSOR.
    #[response(status = 400)]
    Refused(Problem),
    /// DATABASE_UNAVAILABLE, or QUERY_TOO_EXPENSIVE, whose detail says which filter to narrow.
    #[response(status = 503)]
    Unavailable(Problem),
}

/// Waits for a query, at most [`QUERY_TIMEOUT`].
///
/// # Errors
/// 503 while the database is unavailable or the view is not created yet, else 500.
pub async fn answer<T>(query: impl Future<Output = Result<T, QueryError>>) -> Result<T, Problem> {
    match tokio::time::timeout(QUERY_TIMEOUT, query).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(problem(&error)),
        Err(_) => {
            let waited = QUERY_TIMEOUT.as_secs();
            Err(unavailable(&format!("no answer within {waited} s")))
        }
    }
}

/// Waits for the query of a list, at most [`QUERY_TIMEOUT`]. `narrower` tells the client how to ask for less.
///
/// # Errors
/// 503 QUERY_TOO_EXPENSIVE if Postgres ends the query after [`STATEMENT_TIMEOUT`], and those of [`answer`].
pub async fn answer_list<T>(
    query: impl Future<Output = Result<T, QueryError>>,
    narrower: &str,
) -> Result<T, Problem> {
    let checked = async {
        match query.await {
            Err(QueryError::Postgres(error)) if postgres::is_statement_timeout(&error) => {
                Ok(Err(too_expensive(narrower)))
            }
            Ok(found) => Ok(Ok(found)),
            Err(error) => Err(error),
        }
    };
    answer(checked).await?
}

fn too_expensive(narrower: &str) -> Problem {
    let limit_s = STATEMENT_TIMEOUT.as_secs();
    tracing::warn!(
        limit_s,
        narrower,
        "query cancelled at the statement time-out"
    );
    let detail = format!("the query took longer than {limit_s} s: {narrower}");
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "QUERY_TOO_EXPENSIVE",
        detail,
    )
}

fn problem(error: &QueryError) -> Problem {
    let (is_transient, is_schema_missing) = match error {
        QueryError::Postgres(error) => (
            postgres::is_transient(error),
            postgres::is_schema_missing(error),
        ),
        QueryError::Cql(error) => (error.is_transient(), error.is_schema_missing()),
        QueryError::Value { .. } | QueryError::Overflow(_) => (false, false),
    };
    if is_transient {
        return unavailable(&error.to_string());
    }
    if is_schema_missing {
        return unavailable("the view is not created yet");
    }
    tracing::error!(%error, "query failed");
    let detail =
        "the query failed: report the time of this answer; the service's log has the reason";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", detail)
}

fn unavailable(reason: &str) -> Problem {
    tracing::warn!(reason, "database unavailable");
    let detail = "the database of this view does not answer: send the request again later";
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "DATABASE_UNAVAILABLE",
        detail,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn code_of(error: QueryError) -> (u16, &'static str) {
        let refused = answer::<()>(async { Err(error) }).await.unwrap_err();
        (refused.status.as_u16(), refused.code)
    }

    #[tokio::test]
    async fn an_outage_and_a_failed_query_have_different_codes() {
        assert_eq!(
            code_of(sqlx::Error::PoolTimedOut.into()).await,
            (503, "DATABASE_UNAVAILABLE")
        );
        assert_eq!(
            code_of(sqlx::Error::RowNotFound.into()).await,
            (500, "INTERNAL_ERROR")
        );
        let value = "LOAN".to_owned();
        let column = "kind";
        assert_eq!(
            code_of(QueryError::Value { column, value }).await,
            (500, "INTERNAL_ERROR")
        );
    }

    /// The error of a statement that Postgres cancelled.
    #[derive(Debug)]
    struct Cancelled;

    impl std::fmt::Display for Cancelled {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("canceling statement due to statement timeout")
        }
    }

    impl std::error::Error for Cancelled {}

    impl sqlx::error::DatabaseError for Cancelled {
        fn message(&self) -> &str {
            "canceling statement due to statement timeout"
        }
        fn code(&self) -> Option<std::borrow::Cow<'_, str>> {
            Some("57014".into())
        }
        fn kind(&self) -> sqlx::error::ErrorKind {
            sqlx::error::ErrorKind::Other
        }
        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }
        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }
        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }
    }

    #[tokio::test]
    async fn a_list_that_reaches_the_statement_time_out_is_no_outage() {
        let cancelled = || async { Err(sqlx::Error::Database(Box::new(Cancelled)).into()) };
        let refused = answer_list::<()>(cancelled(), "pass `customer`").await;
        let refused = refused.unwrap_err();
        assert_eq!(
            (refused.status.as_u16(), refused.code),
            (503, "QUERY_TOO_EXPENSIVE")
        );
        assert_eq!(
            refused.detail,
            "the query took longer than 10 s: pass `customer`"
        );
        // The row of a key is found at once, unless the database is overloaded.
        let refused = answer::<()>(cancelled()).await.unwrap_err();
        assert_eq!(refused.code, "DATABASE_UNAVAILABLE");
    }

    #[tokio::test]
    async fn other_errors_of_a_list_are_those_of_every_query() {
        let unavailable = async { Err(sqlx::Error::PoolTimedOut.into()) };
        let refused = answer_list::<()>(unavailable, "pass `customer`").await;
        assert_eq!(refused.unwrap_err().code, "DATABASE_UNAVAILABLE");
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_that_does_not_end_is_a_503() {
        let refused = answer::<()>(std::future::pending()).await.unwrap_err();
        assert_eq!(refused.code, "DATABASE_UNAVAILABLE");
    }
}
