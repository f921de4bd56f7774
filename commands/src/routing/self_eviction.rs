//! Whether this node can own the partitions that it is assigned.
//!
//! An owner that can't serve declines its partition, and the node goes on. Some reasons may lie with this node
//! alone: its clock, its version, its hash key. They do if another node serves the partition; then this node
//! leaves the group, for the group would go on to assign partitions to it. The process does not end: queries,
//! and the forwarding of commands, do not need the membership.

use super::owners_view::OwnersView;
use journal::owner::Status;
use kafka::Hint;
use schemas::topics::TopicPartition;
use std::sync::Arc;
use tokio::sync::watch;

/// Why this node left its partitions to others, once it did.
#[derive(Debug, Clone, Default)]
pub struct SelfEviction(Arc<watch::Sender<Option<String>>>);

impl SelfEviction {
    /// The reason, now and from now on; `None` while this node stays.
    pub fn watch(&self) -> watch::Receiver<Option<String>> {
        self.0.subscribe()
    }

    pub(super) fn set(&self, reason: String) {
        self.0.send_replace(Some(reason));
    }
}

/// The reason why this node must leave its partitions to others: one of its owners can't serve, and another
/// node does.
pub(super) fn must_evict_itself(hint: &Hint, view: &OwnersView) -> Option<String> {
    if !hint.is_current {
        return None;
    }
    view.statuses.all().find_map(|(target, status)| {
        let (reason, epoch) = fault(&status)?;
        let TopicPartition { topic, partition } = target;
        if !hint.assignment.contains(&(topic.to_owned(), partition)) {
            return None;
        }
        let other = view.other_server(target, epoch)?;
        Some(format!("{target}: {reason}; {} serves it", other.url))
    })
}

/// Why an owner can't serve, if that may lie with this node, and the epoch of the log as the owner knows it.
pub(super) fn fault(status: &Status) -> Option<(&str, i64)> {
    match status {
        Status::Declined { reason, epoch } => {
            reason.suspects_this_node().then_some((&**reason, *epoch))
        }
        Status::Standby
        | Status::TakingOver(_)
        | Status::Serving { .. }
        | Status::SteppingDown
        | Status::Ended(_) => None,
    }
}
