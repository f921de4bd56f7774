//! The owners of all nodes, as this node sees them.

use super::{Directory, node_statuses::NodeStatuses};
use crate::owners::OwnerStatuses;
use journal::owner::Status;
use schemas::{owners::Entry, topics::TopicPartition};

/// Watches the owners of all nodes, as this node sees them.
#[derive(Clone)]
pub struct OwnersView {
    /// The owners of this node.
    pub statuses: OwnerStatuses,
    /// The owners that have published an entry.
    pub directory: Directory,
    /// The answers of the nodes that those entries name.
    pub nodes: NodeStatuses,
    /// The URL at which this node takes commands from other nodes.
    pub own_url: String,
    /// The fingerprint of this node's hash key.
    pub hash_key: String,
}

impl OwnersView {
    /// Returns once a status, an entry or an answer has changed. Cancel-safe.
    pub async fn changed(&mut self) {
        tokio::select! {
            () = self.statuses.changed() => {}
            () = self.directory.changed() => {}
            () = self.nodes.changed() => {}
        }
    }

    /// The entry of another node that serves the partition now, in `epoch` or a later one. An owner that was
    /// fenced meanwhile may not have noticed, and answers with an earlier epoch.
    pub fn other_server(&self, partition: TopicPartition, epoch: i64) -> Option<Entry> {
        let known = self.directory.known();
        let owner = known
            .owner(partition)
            .filter(|entry| entry.url != self.own_url)?;
        let served = self.nodes.served_epoch(owner, partition)?;
        (served >= epoch.max(owner.epoch)).then(|| owner.clone())
    }

    /// The reason why this node and the node of an entry must not decide commands of one partition: their
    /// hash keys differ, so neither recognises a command that the other has decided.
    pub fn other_hash_key(entry: &Entry, own: &str) -> Option<String> {
        let other = entry.hash_key.as_deref().filter(|other| *other != own)?;
        let url = &entry.url;
        Some(format!(
            "the hash key of this node (fingerprint {own}) differs from that of {url} (fingerprint {other}); \
             commands.hash_key_file must hold the same key on every node, permanently"
        ))
    }

    /// The reason why no node decides the commands of a partition, as far as this node knows; `None` if its
    /// owner does.
    pub fn unready(&self, target: TopicPartition, status: &Status) -> Option<String> {
        match status {
            Status::Serving { .. } => None,
            // The predecessor may still serve, but no other node gets the partition while it is assigned to
            // this one.
            Status::Ended(reason) => Some(reason.to_string()),
            Status::Declined { reason, .. } => Some(reason.to_string()),
            Status::Standby | Status::SteppingDown => self.unready_elsewhere(target),
            Status::TakingOver(reason) => {
                self.unready_elsewhere(target).map(|_| reason.to_string())
            }
        }
    }

    /// The reason why no other node decides the commands of a partition that this node can't decide now.
    fn unready_elsewhere(&self, target: TopicPartition) -> Option<String> {
        let known = self.directory.known();
        if !known.is_complete() {
            return Some("the directory of owners has not been read yet".into());
        }
        let Some(entry) = known
            .entry(target)
            .filter(|entry| entry.url != self.own_url)
        else {
            return Some("no owner is known".into());
        };
        if let Some(reason) = &entry.declined {
            return Some(format!("{} declined it: {reason}", entry.url));
        }
        if let Some(reason) = Self::other_hash_key(entry, &self.hash_key) {
            return Some(reason);
        }
        match self.nodes.served_epoch(entry, target) {
            Some(epoch) if epoch >= entry.epoch => None,
            Some(_) | None if self.nodes.is_live(&entry.url) => {
                Some(format!("its last owner, {}, does not serve it", entry.url))
            }
            Some(_) | None => Some(format!("its last owner, {}, does not answer", entry.url)),
        }
    }
}
