//! The handle of the write side for HTTP.

use crate::{outcome::problem, routing::Router};
use axum::{extract::FromRequestParts, http::request::Parts};
use journal::owner::{Proved, Refusal};
use schemas::topics::TopicPartition;
use service::problem::Problem;
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;

/// The write side of this node, once it has been started.
#[derive(Clone)]
pub struct WriteSide {
    pub(crate) router: Router,
    /// Ends the reading of batches, which last as long as their clients send lines.
    pub(crate) stop: CancellationToken,
    /// Ends the reading of streams of other nodes.
    pub(crate) closing: CancellationToken,
}

/// The write side, or its absence until Kafka and the registry have answered. Meanwhile commands are
/// refused.
#[derive(Clone, Default)]
pub struct WriteSideHandle(Arc<OnceLock<WriteSide>>);

impl WriteSide {
    /// The log as this node's owner of a partition has proved it; `None` if it has not read any of it.
    pub fn proved(&self, partition: TopicPartition) -> Option<Proved> {
        self.router.proved(partition)
    }
}

impl WriteSideHandle {
    /// Lets commands in. To be called once.
    pub fn set(&self, write_side: WriteSide) {
        if self.0.set(write_side).is_err() {
            tracing::error!("write side was started twice; the first one stays");
        }
    }

    /// The write side.
    ///
    /// # Errors
    /// 503: it has not been started yet.
    pub(crate) fn get(&self) -> Result<WriteSide, Problem> {
        self.0.get().cloned().ok_or_else(|| {
            let reason = "the service is starting and has not reached kafka and the registry yet";
            problem(Refusal::Unavailable(reason.into()))
        })
    }

    /// Whether commands are let in.
    pub fn is_set(&self) -> bool {
        self.0.get().is_some()
    }
}

impl FromRequestParts<WriteSideHandle> for WriteSide {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, handle: &WriteSideHandle) -> Result<Self, Problem> {
        handle.get()
    }
}
