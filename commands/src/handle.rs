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
    /// Ends the reading of batches and of streams of other nodes, once other nodes own the partitions.
    pub(crate) closing: CancellationToken,
}

/// The write side, or its absence until Kafka and the registry have answered. Meanwhile commands are
/// refused.
#[derive(Clone, Default)]
pub struct WriteSideHandle {
    write_side: Arc<OnceLock<WriteSide>>,
    /// The bytes that everything waiting in this process may take.
    budget: Budget,
}

impl WriteSide {
    /// The log as this node's owner of a partition has proved it; `None` if it has not read any of it.
    pub fn proved(&self, partition: TopicPartition) -> Option<Proved> {
        self.router.proved(partition)
    }
}

impl WriteSideHandle {
    /// The handle of a write side that is not started yet. Requests and lines have shares of `budget`.
    pub fn new(budget: Budget) -> Self {
        Self {
            write_side: Arc::default(),
            budget,
        }
    }

    /// The budget for everything that waits.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Lets commands in. To be called once.
    pub fn set(&self, write_side: WriteSide) {
        if self.write_side.set(write_side).is_err() {
            tracing::error!("write side was started twice; the first one stays");
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

    /// Whether commands are let in.
    pub fn is_set(&self) -> bool {
        self.write_side.get().is_some()
    }
}
