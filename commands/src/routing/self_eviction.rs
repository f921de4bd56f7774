//! Decides whether this node must leave the group because it can't own its partitions.
//!
//! An owner that can't serve declines its partition, and the node continues. If another node serves the partition,
//! the reason lies with this node alone: its clock, its version or its hash key. Then this node leaves the group,
//! which would otherwise keep assigning partitions to it. The process continues, because queries and the forwarding
//! of commands do not need the membership.

use super::owners_view::OwnersView;
use journal::owner::Status;
use kafka::Hint;
use schemas::topics::TopicPartition;
use std::sync::Arc;
use tokio::sync::watch;

/// The reason why this node left the group, if it did.
#[derive(Debug, Clone, Default)]
pub struct SelfEviction(Arc<watch::Sender<Option<String>>>);

impl SelfEviction {
    /// Watches the reason; it is `None` while this node stays.
    pub fn watch(&self) -> watch::Receiver<Option<String>> {
        self.0.subscribe()
    }

    pub(super) fn set(&self, reason: String) {
        self.0.send_replace(Some(reason));
    }
}

/// The reason why this node must leave the group: one of its owners can't serve, and another node serves that
/// partition.
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

/// The reason why an owner can't serve, if it may lie with this node, and the epoch of the log as the owner
/// knows it.
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
