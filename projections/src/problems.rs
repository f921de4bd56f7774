//! Errors of queries, and the problems that clients get for them.

use crate::{
    builds::{CatchUp, VersionMissing},
    cql::CqlError,
    postgres,
};
use axum::http::StatusCode;
use schemas::totals::Overflow;
use service::problem::Problem;
use std::time::Duration;
use utoipa::IntoResponses;

/// Longest time for one query. It exceeds the sum of the longest wait for a connection and the longest time for a
/// statement, so that a statement that takes too long has a problem of its own.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(15);
/// The code of the problem for a query whose statement took longer than the server allows.
const QUERY_TOO_EXPENSIVE: &str = "QUERY_TOO_EXPENSIVE";
/// The code of the problem for a query of a view that is projected from the start.
const VIEW_REBUILDING: &str = "VIEW_REBUILDING";
/// The code of the problem for a query of a view that is answered by a version that this program does not have.
const VIEW_VERSION_MISSING: &str = "VIEW_VERSION_MISSING";

/// A query's failure.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Postgres failed.
    #[error("postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    /// The CQL store failed.
    #[error("cql: {0}")]
    Cql(#[from] CqlError),
    /// No build of the view is known: no projector has created one, or Postgres has not answered yet.
    #[error("view {view} has no build that answers queries")]
    NoBuild {
        /// The view.
        view: &'static str,
    },
    /// The build that serves is projected from the start, so its rows are only a part of the view.
    #[error("the view {view} is still being projected: {} of {} offsets are read", catch_up.read, catch_up.end)]
    Rebuilding {
        /// The view.
        view: &'static str,
        /// The build's progress.
        catch_up: CatchUp,
    },
    /// Another program has switched to a version that this one does not have.
    #[error(transparent)]
    VersionMissing(#[from] VersionMissing),
    /// A column has a value that no projector writes.
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
    /// DATABASE_UNAVAILABLE, QUERY_TOO_EXPENSIVE with the filters to narrow in `narrow`, VIEW_REBUILDING with the
    /// progress of the view in `read` and `end`, VIEW_VERSION_MISSING if only nodes of another release can answer, or
    /// OVERLOADED if too many requests wait.
    #[response(status = 503)]
    Unavailable(Problem),
}

/// The errors of a query for one resource. Each query documents the 404 itself, with its own code.
#[derive(IntoResponses)]
pub enum ResourceProblems {
    /// UNKNOWN_OR_INVALID_PARAMETER: the query has no parameters. PATH_INVALID, or the code that the description names:
    /// the id does not have the form of this resource's ids.
    #[response(status = 400)]
    Refused(Problem),
    /// DATABASE_UNAVAILABLE, QUERY_TOO_EXPENSIVE if the statement took longer than the database allows, VIEW_REBUILDING
    /// with the progress of the view in `read` and `end`, VIEW_VERSION_MISSING if only nodes of another release can
    /// answer, or OVERLOADED if too many requests wait.
    #[response(status = 503)]
    Unavailable(Problem),
}

/// Waits for a query, at most [`QUERY_TIMEOUT`]. The query may run twice: the second time on a new connection to
/// Postgres, because an operator has altered a table since the first connection prepared its statements.
///
/// # Errors
/// 503 while the database is unavailable, until the view is created, or if the query takes too long; else 500.
pub async fn answer<T, F>(query: impl Fn() -> F) -> Result<T, Problem>
where
    F: Future<Output = Result<T, QueryError>>,
{
    answer_filtered(&[], query).await
}

/// Waits for the query of a list, as [`answer`] does. `narrow` lists the parameters with which a client can make the
/// query read fewer rows.
///
/// # Errors
/// Those of [`answer`], and 503 with the code QUERY_TOO_EXPENSIVE for a query that reads too many rows.
pub async fn answer_filtered<T, F>(narrow: &[&str], query: impl Fn() -> F) -> Result<T, Problem>
where
    F: Future<Output = Result<T, QueryError>>,
{
    let answered = postgres::with_new_statements(query);
    match tokio::time::timeout(QUERY_TIMEOUT, answered).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(problem(&error, narrow)),
        Err(_) => {
            let waited = QUERY_TIMEOUT.as_secs();
            Err(unavailable(&format!("no answer within {waited} s")))
        }
    }
}

fn problem(error: &QueryError, narrow: &[&str]) -> Problem {
    if let QueryError::Postgres(error) = error
        && postgres::is_statement_timeout(error)
    {
        return too_expensive(narrow);
    }
    if let QueryError::Rebuilding { view, catch_up } = error {
        return rebuilding(view, *catch_up);
    }
    if let QueryError::VersionMissing(missing) = error {
        return version_missing(missing);
    }
    let (is_transient, is_unusable) = match error {
        QueryError::Postgres(error) => (
            postgres::is_transient(error),
            postgres::is_schema_missing(error) || postgres::is_column_missing(error),
        ),
        QueryError::Cql(error) => (error.is_transient(), error.is_invalid_statement()),
        QueryError::NoBuild { .. } => (false, true),
        QueryError::Rebuilding { .. }
        | QueryError::VersionMissing(_)
        | QueryError::Value { .. }
        | QueryError::Overflow(_) => (false, false),
    };
    if is_transient {
        return unavailable(&error.to_string());
    }
    if is_unusable {
        return unavailable(&format!(
            "the view's tables are missing or altered: {error}"
        ));
    }
    tracing::error!(%error, "query failed");
    let detail =
        "the query failed: report the time of this answer; the service's log has the reason";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", detail)
}

/// The problem of a query whose statement the server cancelled, although the database is available.
fn too_expensive(narrow: &[&str]) -> Problem {
    tracing::warn!(?narrow, "query cancelled: it took too long");
    let detail = match narrow {
        [] => "the query took too long: send the request again later".to_owned(),
        narrow => format!(
            "the query reads too many rows: send it with a narrower {}",
            narrow.join(", ")
        ),
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, QUERY_TOO_EXPENSIVE, detail)
        .with("narrow", narrow)
}

/// The problem of a query of a view whose rows are incomplete.
fn rebuilding(view: &str, CatchUp { read, end }: CatchUp) -> Problem {
    let detail = format!(
        "the view {view} is still being projected: {read} of {end} offsets are read; send the request again later"
    );
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, VIEW_REBUILDING, detail)
        .with("read", read)
        .with("end", end)
}

/// The problem of a query that only a program with another version of the view can answer.
pub(crate) fn version_missing(missing: &VersionMissing) -> Problem {
    let detail =
        format!("{missing}; send the request to a node of another release, or again later");
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Problem::new(status, VIEW_VERSION_MISSING, detail).with("version", &missing.version)
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
    use std::cell::Cell;

    fn code_of(error: &QueryError) -> (u16, &'static str) {
        let refused = problem(error, &[]);
        (refused.status.as_u16(), refused.code)
    }

    #[test]
    fn an_outage_and_a_failed_query_have_different_codes() {
        assert_eq!(
            code_of(&sqlx::Error::PoolTimedOut.into()),
            (503, "DATABASE_UNAVAILABLE")
        );
        assert_eq!(
            code_of(&sqlx::Error::RowNotFound.into()),
            (500, "INTERNAL_ERROR")
        );
        let value = "LOAN".to_owned();
        let column = "kind";
        assert_eq!(
            code_of(&QueryError::Value { column, value }),
            (500, "INTERNAL_ERROR")
        );
    }

    #[tokio::test]
    async fn a_query_of_a_view_that_is_projected_again_is_refused_with_its_progress() {
        let catch_up = CatchUp { read: 3, end: 7 };
        let view = "orders_v2";
        let query = || async { Err(QueryError::Rebuilding { view, catch_up }) };
        let refused = answer::<(), _>(query).await.unwrap_err();
        assert_eq!(
            (refused.status.as_u16(), refused.code),
            (503, "VIEW_REBUILDING")
        );
        let detail = "the view orders_v2 is still being projected: 3 of 7 offsets are read; \
            send the request again later";
        assert_eq!(refused.detail, detail);
        let progress = (&refused.members["read"], &refused.members["end"]);
        assert_eq!(progress, (&3.into(), &7.into()));
    }

    #[tokio::test]
    async fn a_query_of_a_version_that_this_program_lacks_is_refused_with_the_version() {
        let missing = VersionMissing {
            view: "orders".to_owned(),
            version: "orders_v9".to_owned(),
        };
        let query = || async { Err(QueryError::from(missing.clone())) };
        let refused = answer::<(), _>(query).await.unwrap_err();
        assert_eq!(
            (refused.status.as_u16(), refused.code),
            (503, "VIEW_VERSION_MISSING")
        );
        assert_eq!(refused.members["version"], "orders_v9");
    }

    /// An error of the server with this SQLSTATE.
    #[derive(Debug)]
    struct State(&'static str);

    impl std::fmt::Display for State {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for State {}

    impl sqlx::error::DatabaseError for State {
        fn message(&self) -> &str {
            self.0
        }

        fn code(&self) -> Option<std::borrow::Cow<'_, str>> {
            Some(self.0.into())
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

        fn kind(&self) -> sqlx::error::ErrorKind {
            sqlx::error::ErrorKind::Other
        }
    }

    /// The error of a query to which the server answers with this SQLSTATE.
    fn server_error(state: &'static str) -> QueryError {
        sqlx::Error::Database(Box::new(State(state))).into()
    }

    #[tokio::test]
    async fn a_cancelled_query_is_no_outage_and_names_the_filters_to_narrow() {
        let query = || async { Err(server_error("57014")) };
        let refused = answer_filtered::<(), _>(&["from", "to"], query)
            .await
            .unwrap_err();
        assert_eq!(
            (refused.status.as_u16(), refused.code),
            (503, "QUERY_TOO_EXPENSIVE")
        );
        assert!(
            refused.detail.contains("from, to"),
            "no \"from, to\" in: {}",
            refused.detail
        );
        assert_eq!(refused.members["narrow"], serde_json::json!(["from", "to"]));
        assert_eq!(code_of(&server_error("57P01")).1, "DATABASE_UNAVAILABLE");
    }

    #[tokio::test]
    async fn a_query_with_an_outdated_statement_is_attempted_once_more() {
        for state in ["0A000", "26000"] {
            let attempts = Cell::new(0);
            let query = || async {
                attempts.set(attempts.get() + 1);
                match attempts.get() {
                    1 => Err(server_error(state)),
                    second => Ok(second),
                }
            };
            assert_eq!(answer(query).await, Ok(2), "{state}");
        }
    }

    #[tokio::test]
    async fn a_query_whose_statements_are_outdated_twice_is_refused() {
        let attempts = Cell::new(0);
        let query = || async {
            attempts.set(attempts.get() + 1);
            Err::<(), _>(server_error("0A000"))
        };
        let refused = answer(query).await.unwrap_err();
        assert_eq!((attempts.get(), refused.code), (2, "DATABASE_UNAVAILABLE"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_that_does_not_end_is_a_503() {
        let refused = answer::<(), _>(std::future::pending).await.unwrap_err();
        assert_eq!(refused.code, "DATABASE_UNAVAILABLE");
    }
}
