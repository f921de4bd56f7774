//! What can go wrong with the CQL store.

use scylla::errors::{
    DbError, ExecutionError, IntoRowsResultError, NewSessionError, NextPageError, NextRowError,
    PagerExecutionError, PrepareError, RequestAttemptError, RequestError,
};

/// What can go wrong with the CQL store.
#[derive(Debug, thiserror::Error)]
pub enum CqlError {
    /// No node was found yet.
    #[error("cql: not connected to {nodes}: {reason}")]
    NotConnected {
        /// The nodes tried.
        nodes: String,
        /// The last try's error.
        reason: String,
    },
    /// No session could be made.
    #[error("cql: {0}")]
    Session(Box<NewSessionError>),
    /// A request failed.
    #[error("cql: {0}")]
    Execution(Box<ExecutionError>),
    /// A request for many rows failed at its start.
    #[error("cql: {0}")]
    Pager(Box<PagerExecutionError>),
    /// A request for many rows failed half-way.
    #[error("cql: {0}")]
    NextRow(Box<NextRowError>),
    /// Rows of another shape than their table's.
    #[error("cql: the answer has another shape than expected: {reason}")]
    Shape {
        /// The driver's words.
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

    /// Whether another try may help: unless what was sent, or what came
    /// back, is at fault.
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

    /// Whether a query found no table, because no projector made it yet. Our statements are
    /// constants, so there is nothing else that the server could call invalid in them.
    pub fn is_schema_missing(&self) -> bool {
        matches!(
            self.attempt(),
            Some(RequestAttemptError::DbError(DbError::Invalid, _))
        )
    }

    /// The server's, or its connection's, own words about the last attempt, if it came to one.
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

/// A broken connection heals, and so does a server that can't just now; a statement or a value that
/// is refused will be refused again.
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
        // An operator mends it; the batch is not at fault.
        | DbError::AuthenticationError => true,
        // What is refused now will be refused again.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn answered(error: DbError) -> CqlError {
        let attempt = RequestAttemptError::DbError(error, "words".into());
        ExecutionError::LastAttemptError(attempt).into()
    }

    #[test]
    fn what_waiting_mends_is_transient() {
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
            assert!(error.is_transient(), "{error}");
            assert!(!error.is_schema_missing(), "{error}");
        }
    }

    #[test]
    fn what_is_refused_is_refused_again() {
        for error in [
            answered(DbError::SyntaxError),
            answered(DbError::Unauthorized),
            answered(DbError::Invalid),
            CqlError::shape("two columns"),
        ] {
            assert!(!error.is_transient(), "{error}");
        }
    }

    #[test]
    fn a_missing_table_is_known_from_what_the_server_calls_invalid() {
        assert!(answered(DbError::Invalid).is_schema_missing());
        let first_attempt = RequestAttemptError::DbError(DbError::Invalid, "no table".into());
        let preparing = PrepareError::AllAttemptsFailed { first_attempt };
        assert!(CqlError::from(ExecutionError::from(preparing)).is_schema_missing());
    }
}
