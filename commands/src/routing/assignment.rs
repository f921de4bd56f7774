//! Turns the group's hints into assignments of this node's owners, and hands over at shutdown.
//!
//! An owner whose partition the group assigns to another node serves until its successor does: the
//! successor's announcement ends its term, and its unanswered commands are sent on under the same ids. So
//! the partition is unavailable for one take-over only, however long the group takes to agree and the
//! successor to read the log.
//!
//! While the group's hint may be out of date, this node takes over no partition for which the directory names another
//! owner: a node that was suspended, or was cut off from the group only, must not fence its successor.

#[cfg(test)]
mod tests;

use super::{
    adoption::Adoption,
    fencing::Fencing,
    owners_view::OwnersView,
    self_eviction::{SelfEviction, must_evict_itself},
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
/// Longest wait after the hand-over for owners to answer their pending commands.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Time from the moment a hint is no longer current until this node takes partitions over by it. Meanwhile
/// the node reads the directory, because after a suspension it has only old entries.
const STALE_HINT_TIME: Duration = Duration::from_secs(2);

/// Names of topics whose configuration does not match their specification.
pub type MisconfiguredTopics = BTreeSet<&'static str>;

/// The partitions that this node must own.
pub struct PartitionAssignments {
    partitions: BTreeMap<TopicPartition, Assignment>,
    own_url: String,
    misconfigured: watch::Receiver<MisconfiguredTopics>,
    eviction: SelfEviction,
    /// The time since which the hint has not been current.
    stale_since: Option<Instant>,
}

/// The assignment of one partition.
struct Assignment {
    /// Whether this node must own it.
    is_assigned: watch::Sender<bool>,
    /// The greatest epoch in which this node has served it.
    served_epoch: i64,
    /// Whether this node attempts to own it, because the node to which it is assigned declined it.
    adoption: Adoption,
    /// Whether its owner on this node was fenced and has not noticed.
    fencing: Fencing,
}

impl PartitionAssignments {
    /// The given partitions, none of which is assigned yet. This node owns no partition of a `misconfigured`
    /// topic, even if the group assigns it. If it can't own a partition that another node owns, it leaves the
    /// group, and `eviction` keeps the reason.
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
                adoption: Adoption::default(),
                fencing: Fencing::default(),
            };
            (partition, assignment)
        };
        Self {
            partitions: partitions.into_iter().map(unassigned).collect(),
            own_url,
            misconfigured,
            eviction,
            stale_since: None,
        }
    }

    /// Watches whether this node must own a partition.
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

    /// Follows the group until `stop`; then leaves it, hands over, and cancels `closing`. A node that evicts
    /// itself leaves earlier, and continues without partitions.
    pub async fn run(
        mut self,
        membership: Membership,
        mut hints: watch::Receiver<Hint>,
        mut view: OwnersView,
        stop: CancellationToken,
        closing: CancellationToken,
    ) {
        let is_evicted = self.follow(&mut hints, &mut view, &stop).await;
        self.hand_over(membership, &mut view).await;
        for assignment in self.partitions.values() {
            assignment.is_assigned.send_replace(false);
        }
        wait_until_stepped_down(&mut view.statuses).await;
        if is_evicted {
            stop.cancelled().await;
        }
        closing.cancel();
    }

    /// Follows the group until `stop`, or until this node must evict itself; returns whether it must.
    async fn follow(
        &mut self,
        hints: &mut watch::Receiver<Hint>,
        view: &mut OwnersView,
        stop: &CancellationToken,
    ) -> bool {
        let mut misconfigured = self.misconfigured.clone();
        while !stop.is_cancelled() {
            let hint = hints.borrow_and_update().clone();
            self.apply(&hint, view);
            if let Some(reason) = must_evict_itself(&hint, view) {
                tracing::error!(
                    reason,
                    "this node can't own a partition that another node owns; it leaves the group"
                );
                self.eviction.set(reason);
                return true;
            }
            tokio::select! {
                changed = hints.changed() => if changed.is_err() {
                    tracing::error!("group membership has ended; the last assignment stays");
                    stop.cancelled().await;
                },
                // Its sender is dropped only at the end of shutdown.
                Ok(()) = misconfigured.changed() => {}
                () = view.changed() => {}
                () = self.end_of_wait() => {}
                () = stop.cancelled() => {}
            }
        }
        false
    }

    /// Leaves the group, and serves until every partition of this node has a new owner, or until the group
    /// turns out to have no other member.
    async fn hand_over(&mut self, membership: Membership, view: &mut OwnersView) {
        let deadline = Instant::now() + HANDOVER_TIMEOUT;
        let is_alone = CancellationToken::new();
        let handed_over = timeout_at(deadline, async {
            let leave = async {
                match membership.leave().await {
                    OtherMembers::None => is_alone.cancel(),
                    // Members that the brokers did not list may be about to take over.
                    OtherMembers::Some | OtherMembers::Unknown => {}
                }
            };
            let successors = self.wait_for_successors(view);
            tokio::join!(leave, is_alone.run_until_cancelled(successors));
        });
        if handed_over.await.is_err() {
            tracing::warn!("stepping down although not every partition has a new owner yet");
        }
    }

    /// Serves until every partition of this node has a new owner.
    async fn wait_for_successors(&mut self, view: &mut OwnersView) {
        // This hint is not current, so no declined partition is adopted.
        let nothing = Hint::default();
        loop {
            self.apply(&nothing, view);
            let mut partitions = self.partitions.values();
            if !partitions.any(|assignment| *assignment.is_assigned.borrow()) {
                return;
            }
            view.changed().await;
        }
    }

    /// Returns once [`STALE_HINT_TIME`] is over, once this node must adopt a declined partition, or once a fenced owner
    /// must step down. If nothing is pending, it never returns.
    async fn end_of_wait(&self) {
        let now = Instant::now();
        let take_over = self.stale_since.map(|since| since + STALE_HINT_TIME);
        let partitions = self.partitions.values();
        let changes = partitions.flat_map(|assignment| {
            let (adoption, fencing) = (&assignment.adoption, &assignment.fencing);
            [adoption.due_after(now), fencing.due_after(now)]
        });
        match changes
            .flatten()
            .chain(take_over.filter(|end| *end > now))
            .min()
        {
            Some(end) => sleep_until(end).await,
            None => std::future::pending().await,
        }
    }

    /// Decides whether this node must own each partition, by the hint, its owner's status and the directory.
    fn apply(&mut self, hint: &Hint, view: &OwnersView) {
        let now = Instant::now();
        self.stale_since = match hint.is_current {
            true => None,
            false => self.stale_since.or(Some(now)),
        };
        let since = self.stale_since;
        let may_take_over = since.is_none_or(|since| now - since >= STALE_HINT_TIME);
        let known = view.directory.known();
        let misconfigured = self.misconfigured.borrow();
        for (partition, assignment) in &mut self.partitions {
            let entry = known.entry(*partition);
            let other = entry.filter(|entry| entry.url != self.own_url);
            let status = view.statuses.of(*partition);
            if let Status::Serving { epoch, .. } = &*status {
                assignment.served_epoch = assignment.served_epoch.max(*epoch);
            }
            let successor = other.filter(|entry| entry.declined.is_none());
            let is_succeeded = successor.is_some_and(|entry| entry.epoch > assignment.served_epoch);
            let is_hinted = is_assigned_by(hint, *partition);
            let may_adopt = !is_hinted && hint.is_current && hint.error.is_none();
            let declined = other.filter(|entry| may_adopt && entry.declined.is_some());
            let own = (self.own_url.as_str(), *partition);
            assignment.adoption.update(declined, &status, own, now);
            let unserved = successor.filter(|entry| is_fenced_by(&status, entry));
            let unserved = unserved.filter(|entry| {
                let served = view.nodes.served_epoch(entry, *partition);
                served.is_none_or(|served| served < entry.epoch)
            });
            let unserved = unserved.map(|entry| entry.epoch);
            assignment
                .fencing
                .update(is_serving(&status), unserved, now);
            let is_fenced = assignment.fencing.is_due(now);
            let adopts = assignment.adoption.is_due(now);
            assignment.is_assigned.send_if_modified(|assigned| {
                let must_own = match (is_hinted, hint.is_current) {
                    (true, true) => !is_fenced,
                    (true, false) => is_serving(&status) || (may_take_over && !is_succeeded),
                    (false, true | false) => adopts || (*assigned && keeps_serving(&status, other)),
                };
                // Before the directory was read, this node can't tell whether the log lost proved records.
                let now =
                    must_own && known.is_complete() && !misconfigured.contains(partition.topic);
                std::mem::replace(assigned, now) != now
            });
            drop(status);
        }
    }
}

fn is_assigned_by(hint: &Hint, TopicPartition { topic, partition }: TopicPartition) -> bool {
    hint.assignment.contains(&(topic.to_owned(), partition))
}

fn is_serving(status: &Status) -> bool {
    status.served_term().is_some()
}

/// Whether another node's entry has a later term than the one in which an owner serves.
fn is_fenced_by(status: &Status, other: &Entry) -> bool {
    let served = status.served_term();
    served.is_some_and(|(epoch, _)| other.epoch > epoch)
}

/// Whether an owner keeps serving although its partition is assigned to another node. Its term is ended by
/// the entry of a successor, or of a node that announced itself and then declined.
fn keeps_serving(status: &Status, other: Option<&Entry>) -> bool {
    match status {
        Status::Serving { epoch, .. } => other.is_none_or(|entry| entry.epoch <= *epoch),
        // An owner that does not serve must not fence the successor.
        Status::Standby
        | Status::TakingOver(_)
        | Status::Declined { .. }
        | Status::SteppingDown
        | Status::Ended(_) => false,
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
        tracing::warn!("some commands are not proved yet; their clients will retry them");
    }
}

fn is_busy(status: &Status) -> bool {
    match status {
        Status::Serving { .. } | Status::TakingOver(_) | Status::SteppingDown => true,
        Status::Standby | Status::Declined { .. } | Status::Ended(_) => false,
    }
}
