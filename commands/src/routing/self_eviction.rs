//! Whether this node can own the partitions that it is assigned.
//!
//! Some reasons why an owner can't serve lie with its node alone: the clock, the state store, the version.
//! Other nodes could serve, but the group assigns partitions to every live member; so such a node leaves.
//! An altered log stops every node alike, so leaving would not help.

use journal::owner::Status;
use std::sync::{Arc, OnceLock};

/// Why this node leaves its partitions to others, once it does.
#[derive(Debug, Clone, Default)]
pub struct SelfEviction(Arc<OnceLock<String>>);

impl SelfEviction {
    /// The reason; `None` while this node stays.
    pub fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    /// Sets the reason; the first one stays.
    pub(super) fn set(&self, reason: String) {
        if let Err(reason) = self.0.set(reason) {
            tracing::debug!(reason, "one more reason for self-eviction");
        }
    }
}

/// Why an owner can't serve on this node, though it could on another.
pub(super) fn reason_of_this_node(status: &Status) -> Option<&str> {
    match status {
        Status::TakingOver(reason) | Status::Ended(reason) => {
            reason.is_of_this_node().then_some(reason)
        }
        Status::Standby | Status::Serving { .. } | Status::SteppingDown => None,
    }
}
