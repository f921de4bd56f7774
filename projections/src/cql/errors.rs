//! Errors of the CQL store.

use crate::store::Failure;
use scylla::{
    errors::{
        BadQuery, DbError, ExecutionError, IntoRowsResultError, NewSessionError, NextPageError,
        NextRowError, PagerExecutionError, PrepareError, RequestAttemptError, RequestError,
    },
    serialize::{
        SerializationError,
        row::{
            BuiltinSerializationError, BuiltinSerializationErrorKind,
            BuiltinTypeCheckError as RowTypeCheckError,
        },
        value::BuiltinTypeCheckError as ValueTypeCheckError,
    },
};

/// An error of the CQL store.
#[derive(Debug, thiserror::Error)]
pub enum CqlError {
    /// No node has accepted a connection yet.
    #[error("not connected to {nodes}: {reason}")]
    NotConnected {
        /// The nodes of the settings.
        nodes: String,
        /// The last attempt's error.
        reason: String,
    },
    /// No session could be created.
    #[error("{0}")]
    Session(Box<NewSessionError>),
    /// A request failed.
    #[error("{0}")]
    Execution(Box<ExecutionError>),
    /// A request for many rows failed at its start.
    #[error("{0}")]
    Pager(Box<PagerExecutionError>),
    /// A request for many rows failed part-way.
    #[error("{0}")]
    NextRow(Box<NextRowError>),
    /// The values or rows do not have the shape that the statement requires.
    #[error("a row or a value has another shape than expected: {reason}")]
    Shape {
        /// The driver's message.
        reason: String,
    },
    /// A table lacks a column of the view, which was renamed.
    #[error(
        "table {table} lacks its column {column}: give the renamed column its name again, or project the view again \
         with `daybook views reset`"
    )]
    ColumnMissing {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A newer program has changed the tables that all views share.
    #[error(
        "the shared tables of the CQL store have version {version}, and this program knows version {known}: use a \
         newer program"
    )]
    NewerTables {
        /// The stored version.
        version: i32,
        /// The last version that this program knows.
        known: i32,
    },
}

/// The driver's errors are large, so they are boxed.
macro_rules! from_boxed {
    ($($variant:ident($error:ty)),+ $(,)?) => {
        $(impl From<$error> for CqlError {
            fn from(error: $error) -> Self {
                Self::$variant(Box::new(error))
            }
        })+
    };
}
from_boxed!(
    Session(NewSessionError),
    Execution(ExecutionError),
    Pager(PagerExecutionError),
    NextRow(NextRowError),
);

impl From<IntoRowsResultError> for CqlError {
    fn from(error: IntoRowsResultError) -> Self {
        Self::shape(error)
    }
}

impl CqlError {
    pub(crate) fn shape(error: impl std::fmt::Display) -> Self {
        Self::Shape {
            reason: error.to_string(),
        }
    }

    /// Whether another attempt may succeed; `false` if the request or the response itself is the cause.
    pub fn is_transient(&self) -> bool {
        let is_ours = match self {
            Self::Execution(error) => matches!(**error, ExecutionError::BadQuery(_)),
            Self::Pager(error) => matches!(**error, PagerExecutionError::SerializationError(_)),
            Self::NextRow(error) => matches!(**error, NextRowError::RowDeserializationError(_)),
            Self::Shape { .. } | Self::ColumnMissing { .. } | Self::NewerTables { .. } => true,
            Self::NotConnected { .. } | Self::Session(_) => false,
        };
        !is_ours && self.attempt().is_none_or(is_attempt_transient)
    }

    /// The kind of failure, which decides how the projector continues. An error that only an operator can fix, such as
    /// a missing right or column, counts as transient: the view continues once it is fixed. So does an invalid
    /// statement, until its cause is known: see [`Self::may_be_about_schema`].
    pub(super) fn failure(&self) -> Failure {
        if self.is_timeout() {
            Failure::Timeout
        } else if self.is_value_refused() {
            Failure::Value
        } else {
            Failure::Transient
        }
    }

    /// Whether a missing or altered table may be the cause: the server calls the statement invalid, or the values or
    /// rows do not have the columns' types. [`super::schema`] finds out whether it is.
    pub(super) fn may_be_about_schema(&self) -> bool {
        let is_of_another_shape = match self {
            Self::Execution(error) => {
                serialization(error).is_some_and(|error| !is_value_at_fault(error))
            }
            Self::NextRow(error) => matches!(**error, NextRowError::RowDeserializationError(_)),
            Self::Shape { .. } => true,
            Self::Pager(_)
            | Self::ColumnMissing { .. }
            | Self::NewerTables { .. }
            | Self::NotConnected { .. }
            | Self::Session(_) => false,
        };
        is_of_another_shape || self.is_invalid_statement()
    }

    /// Whether the request has a value that can't be sent. Two errors of altered tables do not count: a row that can't
    /// be read, and a value of another type than its column's.
    fn is_value_refused(&self) -> bool {
        match self {
            Self::Execution(error) => {
                let is_too_long = matches!(
                    **error,
                    ExecutionError::BadQuery(BadQuery::ValuesTooLongForKey(..))
                );
                is_too_long || serialization(error).is_some_and(is_value_at_fault)
            }
            Self::Pager(_)
            | Self::NextRow(_)
            | Self::NotConnected { .. }
            | Self::Session(_)
            | Self::ColumnMissing { .. }
            | Self::NewerTables { .. }
            | Self::Shape { .. } => false,
        }
    }

    /// Whether a request and its retries timed out.
    fn is_timeout(&self) -> bool {
        match self {
            Self::Execution(error) => matches!(**error, ExecutionError::RequestTimeout(_)),
            Self::NotConnected { .. }
            | Self::Session(_)
            | Self::Pager(_)
            | Self::NextRow(_)
            | Self::ColumnMissing { .. }
            | Self::NewerTables { .. }
            | Self::Shape { .. } => false,
        }
    }

    /// Whether the server calls a statement invalid: a keyspace, a table or a column is missing, or it refuses a value.
    pub fn is_invalid_statement(&self) -> bool {
        matches!(
            self.attempt(),
            Some(RequestAttemptError::DbError(DbError::Invalid, _))
        )
    }

    /// The error of the last attempt at a request, if there was one.
    fn attempt(&self) -> Option<&RequestAttemptError> {
        match self {
            Self::Execution(error) => match &**error {
                ExecutionError::LastAttemptError(attempt) => Some(attempt),
                ExecutionError::PrepareError(error) => preparing(error),
                _ => None,
            },
            Self::Pager(error) => match &**error {
                PagerExecutionError::PrepareError(error) => preparing(error),
                PagerExecutionError::NextPageError(error) => paging(error),
                _ => None,
            },
            Self::NextRow(error) => match &**error {
                NextRowError::NextPageError(error) => paging(error),
                _ => None,
            },
            Self::NotConnected { .. }
            | Self::Session(_)
            | Self::ColumnMissing { .. }
            | Self::NewerTables { .. }
            | Self::Shape { .. } => None,
        }
    }
}

/// The error of values that can't be sent, if this is one.
fn serialization(error: &ExecutionError) -> Option<&SerializationError> {
    match error {
        ExecutionError::BadQuery(BadQuery::SerializationError(error)) => Some(error),
        _ => None,
    }
}

/// Whether a value itself can't be sent, such as one that is too long. Otherwise its column is missing or has another
/// type, so its table was altered.
fn is_value_at_fault(error: &SerializationError) -> bool {
    if error.downcast_ref::<RowTypeCheckError>().is_some()
        || error.downcast_ref::<ValueTypeCheckError>().is_some()
    {
        return false;
    }
    let row = error.downcast_ref::<BuiltinSerializationError>();
    match row.map(|row| &row.kind) {
        Some(BuiltinSerializationErrorKind::ColumnSerializationFailed { err, .. }) => {
            is_value_at_fault(err)
        }
        Some(_) | None => true,
    }
}

fn preparing(error: &PrepareError) -> Option<&RequestAttemptError> {
    match error {
        PrepareError::AllAttemptsFailed { first_attempt } => Some(first_attempt),
        _ => None,
    }
}

fn paging(error: &NextPageError) -> Option<&RequestAttemptError> {
    match error {
        NextPageError::RequestFailure(RequestError::LastAttemptError(attempt)) => Some(attempt),
        _ => None,
    }
}

/// A broken connection and an overloaded server recover; a refused statement or value would be refused again.
fn is_attempt_transient(error: &RequestAttemptError) -> bool {
    match error {
        RequestAttemptError::BrokenConnectionError(_)
        | RequestAttemptError::UnableToAllocStreamId => true,
        RequestAttemptError::DbError(error, _) => is_server_error_transient(error),
        _ => false,
    }
}

fn is_server_error_transient(error: &DbError) -> bool {
    match error {
        DbError::Unavailable { .. }
        | DbError::Overloaded
        | DbError::IsBootstrapping
        | DbError::TruncateError
        | DbError::ReadTimeout { .. }
        | DbError::WriteTimeout { .. }
        | DbError::ReadFailure { .. }
        | DbError::WriteFailure { .. }
        | DbError::RateLimitReached { .. }
        | DbError::ServerError
        // An operator can repair it, and the batch is not the cause.
        | DbError::AuthenticationError => true,
        // The server would refuse it again.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scylla::serialize::row::BuiltinTypeCheckErrorKind as RowTypeCheckErrorKind;
    use std::time::Duration;

    fn answered(error: DbError) -> CqlError {
        let attempt = RequestAttemptError::DbError(error, "message".into());
        ExecutionError::LastAttemptError(attempt).into()
    }

    #[test]
    fn outages_are_transient() {
        for error in [
            answered(DbError::Overloaded),
            answered(DbError::IsBootstrapping),
            answered(DbError::ServerError),
            ExecutionError::RequestTimeout(Duration::from_secs(1)).into(),
            ExecutionError::EmptyPlan.into(),
            CqlError::NotConnected {
                nodes: "a:1".into(),
                reason: "refused".into(),
            },
        ] {
            assert!(error.is_transient(), "not transient: {error}");
            assert!(
                !error.is_invalid_statement(),
                "an invalid statement: {error}"
            );
            let is_timeout = matches!(&error, CqlError::Execution(error) if matches!(**error, ExecutionError::RequestTimeout(_)));
            let expected = match is_timeout {
                true => Failure::Timeout,
                false => Failure::Transient,
            };
            assert_eq!(error.failure(), expected, "{error}");
        }
    }

    #[test]
    fn refused_statements_and_values_are_not_transient() {
        for error in [
            answered(DbError::SyntaxError),
            answered(DbError::Unauthorized),
            answered(DbError::Invalid),
            CqlError::shape("two columns"),
        ] {
            assert!(!error.is_transient(), "transient: {error}");
        }
    }

    #[test]
    fn the_cause_of_an_invalid_statement_must_be_looked_up() {
        let first_attempt = RequestAttemptError::DbError(DbError::Invalid, "no table".into());
        let preparing = PrepareError::AllAttemptsFailed { first_attempt };
        for error in [
            answered(DbError::Invalid),
            CqlError::from(ExecutionError::from(preparing)),
        ] {
            assert!(error.is_invalid_statement(), "{error}");
            assert!(error.may_be_about_schema(), "{error}");
            assert_eq!(error.failure(), Failure::Transient, "{error}");
        }
        assert!(!answered(DbError::Unauthorized).may_be_about_schema());
    }

    /// The error of a row whose column has this one.
    fn in_column(err: SerializationError) -> CqlError {
        let kind = BuiltinSerializationErrorKind::ColumnSerializationFailed {
            name: "country".into(),
            err,
        };
        let rust_name = "Row";
        let row = SerializationError::new(BuiltinSerializationError { rust_name, kind });
        ExecutionError::from(row).into()
    }

    #[test]
    fn a_value_that_is_too_long_is_refused() {
        let error = in_column(SerializationError::new(std::fmt::Error));
        assert_eq!(error.failure(), Failure::Value, "{error}");
        assert!(!error.may_be_about_schema(), "{error}");
    }

    #[test]
    fn a_value_of_another_type_than_its_column_shows_an_altered_table() {
        let kind = RowTypeCheckErrorKind::NoColumnWithName {
            name: "country".into(),
        };
        let rust_name = "Row";
        let without_column = SerializationError::new(RowTypeCheckError { rust_name, kind });
        for error in [
            in_column(without_column.clone()),
            ExecutionError::from(without_column).into(),
            CqlError::shape("no value"),
        ] {
            assert_eq!(error.failure(), Failure::Transient, "{error}");
            assert!(error.may_be_about_schema(), "{error}");
        }
    }

    #[test]
    fn a_missing_column_is_named_and_waits_for_an_operator() {
        let error = CqlError::ColumnMissing {
            table: "orders_b1".into(),
            column: "country".into(),
        };
        assert_eq!(error.failure(), Failure::Transient, "{error}");
        assert!(!error.is_transient(), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("orders_b1") && text.contains("country"),
            "{text}"
        );
    }
}
