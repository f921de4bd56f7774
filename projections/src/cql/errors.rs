//! Errors of the CQL store.

use crate::store::Failure;
use scylla::errors::{
    BadQuery, DbError, ExecutionError, IntoRowsResultError, NewSessionError, NextPageError,
    NextRowError, PagerExecutionError, PrepareError, RequestAttemptError, RequestError,
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
            Self::Shape { .. } => true,
            Self::NotConnected { .. } | Self::Session(_) => false,
        };
        !is_ours && self.attempt().is_none_or(is_attempt_transient)
    }

    /// The kind of failure, which decides how the projector continues. An error that only an operator can fix, such as
    /// a missing right, counts as transient: the view continues once it is fixed.
    pub(super) fn failure(&self) -> Failure {
        if self.is_timeout() {
            Failure::Timeout
        } else if self.is_schema_missing() {
            Failure::TableMissing
        } else if self.is_value_refused() {
            Failure::Value
        } else {
            Failure::Transient
        }
    }

    /// Whether a value can't be sent. A row that can't be read does not count: its table was altered, and the values of
    /// the request are not the cause.
    fn is_value_refused(&self) -> bool {
        match self {
            Self::Execution(error) => matches!(
                **error,
                ExecutionError::BadQuery(
                    BadQuery::SerializationError(_) | BadQuery::ValuesTooLongForKey(..)
                )
            ),
            Self::Pager(_)
            | Self::NextRow(_)
            | Self::NotConnected { .. }
            | Self::Session(_)
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
            | Self::Shape { .. } => false,
        }
    }

    /// Whether a table is missing, because no projector has created it yet. Our statements are fixed, so a missing
    /// table is the only reason why the server calls one invalid.
    pub fn is_schema_missing(&self) -> bool {
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
            Self::NotConnected { .. } | Self::Session(_) | Self::Shape { .. } => None,
        }
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
            assert!(!error.is_schema_missing(), "the schema is missing: {error}");
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
    fn an_invalid_statement_means_that_the_table_is_missing() {
        let error = answered(DbError::Invalid);
        assert!(error.is_schema_missing(), "no schema is missing: {error}");
        let first_attempt = RequestAttemptError::DbError(DbError::Invalid, "no table".into());
        let preparing = PrepareError::AllAttemptsFailed { first_attempt };
        let error = CqlError::from(ExecutionError::from(preparing));
        assert!(error.is_schema_missing(), "no schema is missing: {error}");
        assert_eq!(error.failure(), Failure::TableMissing);
    }
}
