//! The handle of the write side for HTTP.

use crate::{outcome::problem, routing::Router};
use journal::owner::{Proved, Refusal};
use schemas::topics::TopicPartition;
use service::{budget::Budget, problem::Problem};
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;

/// The write side of this node, once it has been started.
#[derive(Clone)]
pub struct WriteSide {
    pub(crate) router: Router,
    /// Cancelled once other nodes own the partitions. It ends the reading of batches and of other nodes'
    /// streams.
    pub(crate) closing: CancellationToken,
}

/// The write side, which is absent until Kafka and the registry have answered. Until then, commands are
/// refused.
#[derive(Clone, Default)]
pub struct WriteSideHandle {
    write_side: Arc<OnceLock<WriteSide>>,
    /// The byte budget of everything that waits in this process.
    budget: Budget,
}

impl WriteSide {
    /// The log of a partition as far as this node's owner has proved it; `None` if the owner has not read any
    /// of it.
    pub fn proved(&self, partition: TopicPartition) -> Option<Proved> {
        self.router.proved(partition)
    }
}

impl WriteSideHandle {
    /// The handle of a write side that is not started yet. Requests and lines take shares of `budget`.
    pub fn new(budget: Budget) -> Self {
        Self {
            write_side: Arc::default(),
            budget,
        }
    }

    /// The byte budget of everything that waits in this process.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Sets the write side, so that commands are accepted. Call it once.
    pub fn set(&self, write_side: WriteSide) {
        if self.write_side.set(write_side).is_err() {
            tracing::error!("the write side was started twice; the first one stays");
        }
    }

    /// The write side.
    ///
    /// # Errors
    /// 503: it has not been started yet.
    pub(crate) fn get(&self) -> Result<WriteSide, Problem> {
        self.write_side.get().cloned().ok_or_else(|| {
            let reason = "the service is starting and has not reached kafka and the registry yet";
            problem(Refusal::Unavailable(reason.into()))
        })
    }

    /// Whether commands are accepted.
    pub fn is_set(&self) -> bool {
        self.write_side.get().is_some()
    }
}
