//! The port between the projector and a database: where a view's rows and its checkpoints are kept.

use crate::{
    cql::CqlError,
    facts::{Fact, FoldError},
    postgres,
};
use journal::{Batch, Checkpoint};
use schemas::ContextEvent;
use std::time::Duration;

/// Longest time for posting one batch, before it counts as failed and is tried again.
pub const POST_TIMEOUT: Duration = Duration::from_secs(30);

/// The pure part of a view: what it makes of facts.
pub trait Projection: Send + Sync + 'static {
    /// `<view>_v<n>`; its tables' names begin with it.
    const NAME: &'static str;
    /// The facts that it is made of; their context's journal is what it reads.
    type Event: ContextEvent;
    /// What a batch comes to, with at most one change a row.
    type Changes: Send + Sync;

    /// Folds facts, in order, into changes of absolute values.
    fn fold(facts: &[Fact<'_, Self::Event>]) -> Result<Self::Changes, FoldError>;
}

/// A view in its database.
pub trait Store: Send + Sync + 'static {
    /// What the view is made of.
    type Event: ContextEvent;

    /// The view's name.
    fn name(&self) -> &'static str;

    /// Makes what is missing of tables and checkpoints, and gives the stored checkpoint of every
    /// partition.
    fn open(&self) -> impl Future<Output = Result<Vec<Checkpoint>, PostError>> + Send;

    /// Posts a batch and its checkpoint. Posting it again changes nothing.
    fn post(
        &self,
        batch: &Batch<Self::Event>,
    ) -> impl Future<Output = Result<(), PostError>> + Send;
}

/// Why a batch was not posted.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// Another projector is ahead, or posted this batch: read the stored checkpoints again and go
    /// on from there.
    #[error("{topic}/{partition} of view {view} does not stand at {expected} any more")]
    Overtaken {
        /// The view.
        view: &'static str,
        /// The journal.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The next offset that the batch was to follow on.
        expected: i64,
    },
    /// A fact that the view can't take.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// Postgres.
    #[error("postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    /// The CQL store.
    #[error(transparent)]
    Cql(#[from] CqlError),
    /// A stored checkpoint is not one.
    #[error("a stored checkpoint of view {view} can't be read: {reason}")]
    Checkpoint {
        /// The view.
        view: &'static str,
        /// Why not.
        reason: String,
    },
    /// No answer within [`POST_TIMEOUT`].
    #[error("the database of view {view} gave no answer within {} s", POST_TIMEOUT.as_secs())]
    TimedOut {
        /// The view.
        view: &'static str,
    },
}

impl PostError {
    /// Whether another try may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Postgres(error) => postgres::is_transient(error),
            Self::Cql(error) => error.is_transient(),
            Self::TimedOut { .. } => true,
            Self::Overtaken { .. } | Self::Fold(_) | Self::Checkpoint { .. } => false,
        }
    }
}

/// The checkpoints of every partition of a journal: the stored ones, and a start for each other.
pub(crate) fn complete<E: ContextEvent>(stored: Vec<Checkpoint>) -> Vec<Checkpoint> {
    let topic = E::CONTEXT.topic;
    let stored = &stored;
    (0..schemas::topics::PARTITIONS)
        .map(|partition| {
            stored
                .iter()
                .find(|checkpoint| checkpoint.partition == partition)
                .cloned()
                .unwrap_or_else(|| Checkpoint::start(topic, partition))
        })
        .collect()
}
