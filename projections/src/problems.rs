//! Errors of queries, and their answers to clients.

use crate::{cql::CqlError, postgres};
use axum::http::StatusCode;
use schemas::totals::Overflow;
use service::problem::Problem;
use std::time::Duration;
use utoipa::IntoResponses;

/// Longest time for one query.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// A query's failure.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Postgres.
    #[error("postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    /// The CQL store.
    #[error("cql: {0}")]
    Cql(#[from] CqlError),
    /// No build of the view is known: no projector has created one, or Postgres has not answered yet.
    #[error("view {view} has no build that answers queries")]
    NoBuild {
        /// The view.
        view: &'static str,
    },
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
    /// UNKNOWN_OR_INVALID_PARAMETER, INVALID_TIME, INVALID_TEXT, INVALID_LIMIT or INVALID_CURSOR.
    #[response(status = 400)]
    Refused(Problem),
    /// DATABASE_UNAVAILABLE.
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

fn problem(error: &QueryError) -> Problem {
    let (is_transient, is_schema_missing) = match error {
        QueryError::Postgres(error) => (
            postgres::is_transient(error),
            postgres::is_schema_missing(error),
        ),
        QueryError::Cql(error) => (error.is_transient(), error.is_schema_missing()),
        QueryError::NoBuild { .. } => (false, true),
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

    #[tokio::test(start_paused = true)]
    async fn a_query_that_does_not_end_is_a_503() {
        let refused = answer::<()>(std::future::pending()).await.unwrap_err();
        assert_eq!(refused.code, "DATABASE_UNAVAILABLE");
    }
}
