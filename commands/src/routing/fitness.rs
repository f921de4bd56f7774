//! Whether this process can own what it is assigned.
//!
//! Some of an owner's troubles are this process's alone: its clock, its state store, its version. Others
//! could serve, but the group divides by who is alive; so such a process makes room for them. A log
//! that was altered stops every process alike: there is nothing to make room for.

use journal::owner::Status;
use std::sync::{Arc, OnceLock};

/// Why a process makes room for others, once it does.
#[derive(Debug, Clone, Default)]
pub struct Unfit(Arc<OnceLock<String>>);

impl Unfit {
    /// Why; nothing, while it is fit.
    pub fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    /// The first reason stays.
    pub(super) fn set(&self, reason: String) {
        if let Err(reason) = self.0.set(reason) {
            tracing::debug!(reason, "one more reason to make room");
        }
    }
}

/// Why an owner can't serve here though it might elsewhere.
pub(super) fn own_trouble(status: &Status) -> Option<&str> {
    match status {
        Status::TakingOver(reason) | Status::Ended(reason) => {
            reason.is_of_this_process().then_some(reason)
        }
        Status::Standby | Status::InOffice { .. } | Status::Leaving => None,
    }
}
