//! Turns the group's hints into assignments of this node's owners, and hands over at shutdown.
//!
//! An owner whose partition the group assigns to another node serves until its successor does: the
//! successor's announcement ends its term, and its unanswered commands are sent on under the same ids. So
//! the partition is unavailable for one take-over only, however long the group takes to agree and the
//! successor to read the log.
//!
//! While the group's hint may be out of date, this node takes nothing over from a successor
//! that the directory names: a node that was suspended, or cut off from the group alone, must not fence the
//! owner that came after it.

#[cfg(test)]
mod tests;

use super::{
    Directory,
    self_eviction::{SelfEviction, reason_of_this_node},
};
use crate::owners::OwnerStatuses;
use journal::owner::Status;
use kafka::{Hint, Membership, OtherMembers};
use schemas::{owners::Entry, topics::TopicPartition};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// The group of all nodes that take commands.
pub const GROUP: &str = "daybook-commands";
/// Longest time that the owners of a stopping node serve until their successors do.
pub const HANDOVER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait after that for owners to answer the commands that they have.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Time from the moment a hint is no longer current until partitions are taken over by it. Meanwhile the
/// directory is read: after a suspension, this node has old entries only.
const DOUBT_TIME: Duration = Duration::from_secs(2);

/// Names of topics whose configuration does not match their specification.
pub type MisconfiguredTopics = BTreeSet<&'static str>;

/// The partitions that this node must own.
pub struct PartitionAssignments {
    partitions: BTreeMap<TopicPartition, Assignment>,
    own_url: String,
    misconfigured: watch::Receiver<MisconfiguredTopics>,
    eviction: SelfEviction,
    /// The time since which the hint is not current.
    doubted_since: Option<Instant>,
}

/// The assignment of one partition.
struct Assignment {
    /// Whether this node must own it.
    is_assigned: watch::Sender<bool>,
    /// The greatest epoch in which this node has served it.
    served_epoch: i64,
}

impl PartitionAssignments {
    /// No assignments yet, of the given partitions. No partition of a `misconfigured` topic is owned,
    /// even if the group assigns it. If this node can't own partitions that others could own, `eviction` stops it
    /// and keeps the reason.
    pub fn none(
        partitions: impl IntoIterator<Item = TopicPartition>,
        own_url: String,
        misconfigured: watch::Receiver<MisconfiguredTopics>,
        eviction: SelfEviction,
    ) -> Self {
        let unassigned = |partition| {
            let assignment = Assignment {
                is_assigned: watch::Sender::new(false),
                served_epoch: 0,
            };
            (partition, assignment)
        };
        Self {
            partitions: partitions.into_iter().map(unassigned).collect(),
            own_url,
            misconfigured,
            eviction,
            doubted_since: None,
        }
    }

    /// Whether this node must own a partition, now and from now on.
    ///
    /// # Panics
    /// If the partition is not among those given at creation.
    pub fn watch(&self, partition: TopicPartition) -> watch::Receiver<bool> {
        self.partitions[&partition].is_assigned.subscribe()
    }

    /// The topics whose partitions the group assigns.
    pub fn topics(&self) -> BTreeSet<&'static str> {
        let partitions = self.partitions.keys();
        partitions.map(|partition| partition.topic).collect()
    }

    /// Follows the group until `stop`; then leaves it, hands over, and cancels `closing`.
    pub async fn run(
        mut self,
        membership: Membership,
        mut hints: watch::Receiver<Hint>,
        mut statuses: OwnerStatuses,
        mut directory: Directory,
        stop: CancellationToken,
        closing: CancellationToken,
    ) {
        let mut misconfigured = self.misconfigured.clone();
        while !stop.is_cancelled() {
            let hint = hints.borrow_and_update().clone();
            self.apply(&hint, &statuses, &directory);
            if let Some(reason) = must_evict_itself(&hint, &statuses) {
                tracing::error!(
                    reason,
                    "this node can't own partitions that others could; it stops and leaves them to others"
                );
                self.eviction.set(reason);
                stop.cancel();
            }
            tokio::select! {
                changed = hints.changed() => if changed.is_err() {
                    tracing::error!("group membership has ended; the last assignment stays");
                    stop.cancelled().await;
                },
                // Its sender is dropped only at the end of shutdown.
                Ok(()) = misconfigured.changed() => {}
                () = statuses.changed() => {}
                () = directory.changed() => {}
                () = self.end_of_doubt() => {}
                () = stop.cancelled() => {}
            }
        }
        self.hand_over(membership, &mut statuses, &mut directory)
            .await;
        for assignment in self.partitions.values() {
            assignment.is_assigned.send_replace(false);
        }
        wait_until_stepped_down(&mut statuses).await;
        closing.cancel();
    }

    /// Leaves the group, and serves until every partition of this node has a new owner, or until it is known
    /// that there is no other member.
    async fn hand_over(
        &mut self,
        membership: Membership,
        statuses: &mut OwnerStatuses,
        directory: &mut Directory,
    ) {
        let deadline = Instant::now() + HANDOVER_TIMEOUT;
        let is_alone = CancellationToken::new();
        let handed_over = timeout_at(deadline, async {
            let leave = async {
                match membership.leave().await {
                    OtherMembers::None => is_alone.cancel(),
                    OtherMembers::Some => {}
                }
            };
            let successors = self.wait_for_successors(statuses, directory);
            tokio::join!(leave, is_alone.run_until_cancelled(successors));
        });
        if handed_over.await.is_err() {
            tracing::warn!("stepping down although not every partition has a new owner yet");
        }
    }

    /// Serves until every partition of this node has a new owner.
    async fn wait_for_successors(
        &mut self,
        statuses: &mut OwnerStatuses,
        directory: &mut Directory,
    ) {
        let nothing = Hint {
            is_current: true,
            ..Hint::default()
        };
        loop {
            self.apply(&nothing, statuses, directory);
            let mut partitions = self.partitions.values();
            if !partitions.any(|assignment| *assignment.is_assigned.borrow()) {
                return;
            }
            tokio::select! {
                () = statuses.changed() => {}
                () = directory.changed() => {}
            }
        }
    }

    /// Returns once [`DOUBT_TIME`] is over; never, if no hint is in doubt or the time was over already.
    async fn end_of_doubt(&self) {
        match self.doubted_since {
            Some(since) if since.elapsed() < DOUBT_TIME => sleep_until(since + DOUBT_TIME).await,
            Some(_) | None => std::future::pending().await,
        }
    }

    /// Assigns each partition to this node, or not, by the hint, its owner's status and the directory.
    fn apply(&mut self, hint: &Hint, statuses: &OwnerStatuses, directory: &Directory) {
        self.doubted_since = match hint.is_current {
            true => None,
            false => self.doubted_since.or_else(|| Some(Instant::now())),
        };
        let since = self.doubted_since;
        let may_take_over = since.is_none_or(|since| since.elapsed() >= DOUBT_TIME);
        let known = directory.known();
        let misconfigured = self.misconfigured.borrow();
        for (partition, assignment) in &mut self.partitions {
            let entry = known.owner(*partition);
            let successor = entry.filter(|entry| entry.url != self.own_url);
            let status = statuses.of(*partition);
            if let Status::Serving { epoch, .. } = &*status {
                assignment.served_epoch = assignment.served_epoch.max(*epoch);
            }
            let is_succeeded = successor.is_some_and(|entry| entry.epoch > assignment.served_epoch);
            let is_hinted = is_assigned_by(hint, *partition);
            assignment.is_assigned.send_if_modified(|assigned| {
                let is_meant = match (is_hinted, hint.is_current) {
                    (true, true) => true,
                    (true, false) => is_serving(&status) || (may_take_over && !is_succeeded),
                    (false, true | false) => *assigned && serves_on(&status, successor),
                };
                let now = is_meant && !misconfigured.contains(partition.topic);
                std::mem::replace(assigned, now) != now
            });
            drop(status);
        }
    }
}

fn is_assigned_by(hint: &Hint, TopicPartition { topic, partition }: TopicPartition) -> bool {
    hint.assignment.contains(&(topic.to_owned(), partition))
}

/// The reason why this node must leave its partitions to others: one of its owners can't serve, the cause
/// lies with this node, and there are other members.
fn must_evict_itself(hint: &Hint, statuses: &OwnerStatuses) -> Option<String> {
    let mut all = statuses.all();
    // A node with every partition is alone: its eviction would help no other.
    if !hint.is_current || all.all(|(partition, _)| is_assigned_by(hint, partition)) {
        return None;
    }
    statuses.all().find_map(|(partition, status)| {
        let reason = reason_of_this_node(&status);
        let reason = reason.filter(|_| is_assigned_by(hint, partition))?;
        Some(format!("{partition}: {reason}"))
    })
}

fn is_serving(status: &Status) -> bool {
    match status {
        Status::Serving { .. } => true,
        Status::Standby | Status::TakingOver(_) | Status::SteppingDown | Status::Ended(_) => false,
    }
}

/// Whether an owner serves on although its partition is assigned to another node.
fn serves_on(status: &Status, successor: Option<&Entry>) -> bool {
    match status {
        Status::Serving { epoch, .. } => successor.is_none_or(|entry| entry.epoch < *epoch),
        // An owner that does not serve must not fence the successor.
        Status::Standby | Status::TakingOver(_) | Status::SteppingDown | Status::Ended(_) => false,
    }
}

/// Waits until no owner has unanswered commands, for [`DRAIN_TIMEOUT`] at most.
async fn wait_until_stepped_down(statuses: &mut OwnerStatuses) {
    let stepped_down = timeout_at(Instant::now() + DRAIN_TIMEOUT, async {
        while statuses.all().any(|(_, status)| is_busy(&status)) {
            statuses.changed().await;
        }
    });
    if stepped_down.await.is_err() {
        tracing::warn!("some commands are still without proof; their clients will retry them");
    }
}

fn is_busy(status: &Status) -> bool {
    match status {
        Status::Serving { .. } | Status::TakingOver(_) | Status::SteppingDown => true,
        Status::Standby | Status::Ended(_) => false,
    }
}
