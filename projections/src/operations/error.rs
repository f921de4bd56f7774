//! The error of the operations.

use crate::{
    builds::{Build, RegistryError},
    commits::CommitsError,
    cql::CqlError,
    postgres::is_deadlock,
    store::StoreError,
};
use journal::ReadError;

/// An operation on a view or a build failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The list of builds can't be read or changed.
    #[error(transparent)]
    Builds(#[from] RegistryError),
    /// Postgres failed.
    #[error("postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    /// The CQL store failed.
    #[error("cql: {0}")]
    Cql(#[from] CqlError),
    /// The database of a build failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The commits of a parked aggregate can't be read.
    #[error(transparent)]
    Commits(#[from] CommitsError),
    /// The log can't be read.
    #[error("failed to read the log: {0}")]
    Log(#[from] ReadError),
    /// Kafka does not answer.
    #[error("kafka: {0}")]
    Kafka(#[from] kafka::admin::AdminError),
    /// The journals were not read to their ends.
    #[error("the log was not read to its end within {seconds} s of the last record")]
    Stalled {
        /// Seconds without a record.
        seconds: u64,
    },
    /// This program does not have a view with this name.
    #[error("unknown view {name}: `daybook views list` lists the views")]
    NoView {
        /// The requested name.
        name: String,
    },
    /// Another version answers the queries of the view.
    #[error(
        "{answering} answers the queries of {view}: `daybook views undo {answering}` undoes the last switch"
    )]
    OtherAnswers {
        /// The requested version.
        view: String,
        /// The version that answers.
        answering: String,
    },
    /// The build has read less than the serving build.
    #[error(
        "{build} is at {topic}/{partition}@{next_offset}, before the serving build's {serving}: \
         wait until `daybook views describe` shows that it has caught up"
    )]
    Behind {
        /// The build.
        build: Build,
        /// The journal.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The build's next offset.
        next_offset: i64,
        /// The serving build's next offset.
        serving: i64,
    },
    /// The serving build has stored no position in a partition, so no build can be compared with it.
    #[error(
        "{build} serves, but has stored no position in {topic}/{partition}: wait until a projector has opened it, and \
         `daybook views describe` shows its progress"
    )]
    NoPosition {
        /// The serving build.
        build: String,
        /// The journal.
        topic: String,
        /// Its partition.
        partition: i32,
    },
}

impl AdminError {
    /// Whether Postgres ended the operation to resolve a deadlock. Another attempt may succeed.
    pub(crate) fn is_deadlock(&self) -> bool {
        match self {
            Self::Postgres(error) | Self::Builds(RegistryError::Postgres(error)) => {
                is_deadlock(error)
            }
            Self::Builds(_)
            | Self::Cql(_)
            | Self::Store(_)
            | Self::Commits(_)
            | Self::Log(_)
            | Self::Kafka(_)
            | Self::Stalled { .. }
            | Self::NoView { .. }
            | Self::OtherAnswers { .. }
            | Self::Behind { .. }
            | Self::NoPosition { .. } => false,
        }
    }
}
