//! Makes the group's hints into owners' duties, and hands over at the end.
//!
//! An owner whose partition the group gives to somebody else goes on until the successor is in office:
//! the successor's announcement ends its term, and what it had under way is sent on under the same
//! ids. So the pause is that of one take-over, however long the group takes to agree and the
//! successor to read the log.

use super::{Directory, router::Offices};
use journal::owner::Status;
use kafka::{Membership, Others, group::Assignment};
use schemas::owners::{Entry, Place, places};
use std::{collections::BTreeSet, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// The group of all command processes.
pub const GROUP: &str = "daybook-commands";
/// Longest time that a stopping process goes on as owner until its successors are in office. With the
/// rest of a stop it stays below [`service::shutdown::SHUTDOWN_TIMEOUT`].
pub const HANDOVER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for owners to answer what is under way, after that.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Names of topics that are not as they must be.
pub type Unsound = BTreeSet<&'static str>;

/// By place, as [`places`] has them: whether this process is to own it.
pub struct Duties {
    assigned: Vec<watch::Sender<bool>>,
    own_url: String,
    unsound: watch::Receiver<Unsound>,
}

impl Duties {
    /// No duties yet; each receiver is for the owner of a place, in the order of [`places`]. Of a topic
    /// that is `unsound` nothing is owned, whatever the group says.
    pub fn none(
        own_url: String,
        unsound: watch::Receiver<Unsound>,
    ) -> (Self, Vec<watch::Receiver<bool>>) {
        let (assigned, receivers) = places().map(|_| watch::channel(false)).unzip();
        let duties = Self {
            assigned,
            own_url,
            unsound,
        };
        (duties, receivers)
    }

    /// Follows the group until `stop`; then leaves it, hands over, and cancels `closing`.
    pub async fn run(
        self,
        membership: Membership,
        mut hints: watch::Receiver<Assignment>,
        mut offices: Offices,
        mut directory: Directory,
        stop: CancellationToken,
        closing: CancellationToken,
    ) {
        let mut unsound = self.unsound.clone();
        while !stop.is_cancelled() {
            let hinted = hints.borrow_and_update().clone();
            self.set(&hinted, &offices, &directory);
            tokio::select! {
                changed = hints.changed() => if changed.is_err() {
                    tracing::error!("the group membership has ended; what was assigned last stands");
                    stop.cancelled().await;
                },
                // Its sender goes only when the process stops.
                Ok(()) = unsound.changed() => {}
                () = offices.changed() => {}
                () = directory.changed() => {}
                () = stop.cancelled() => {}
            }
        }
        let deadline = Instant::now() + HANDOVER_TIMEOUT;
        let successors = async {
            match membership.leave().await {
                Others::None => {}
                Others::Some => self.wait_for_successors(&mut offices, &mut directory).await,
            }
        };
        if timeout_at(deadline, successors).await.is_err() {
            tracing::warn!(
                "not every partition has a new owner yet; the offices are left all the same"
            );
        }
        for assigned in &self.assigned {
            assigned.send_replace(false);
        }
        let left = timeout_at(Instant::now() + DRAIN_TIMEOUT, async {
            while offices.all().any(|(_, status)| is_busy(&status)) {
                offices.changed().await;
            }
        });
        if left.await.is_err() {
            tracing::warn!("commands are still without proof; their clients will ask again");
        }
        closing.cancel();
    }

    /// Serves until every partition of ours has a new owner.
    async fn wait_for_successors(&self, offices: &mut Offices, directory: &mut Directory) {
        let nothing = Assignment::new();
        loop {
            self.set(&nothing, offices, directory);
            if !self.assigned.iter().any(|assigned| *assigned.borrow()) {
                return;
            }
            tokio::select! {
                () = offices.changed() => {}
                () = directory.changed() => {}
            }
        }
    }

    fn set(&self, hinted: &Assignment, offices: &Offices, directory: &Directory) {
        let known = directory.known();
        let unsound = self.unsound.borrow();
        for (place, assigned) in places().zip(&self.assigned) {
            let is_hinted = hinted.contains(&(place.0.to_owned(), place.1));
            let successor = known.owner(place).filter(|entry| entry.url != self.own_url);
            let status = offices.of(place);
            assigned.send_if_modified(|assigned| {
                let is_meant = is_hinted || (*assigned && goes_on(&status, successor));
                let now = is_meant && !unsound.contains(place.0);
                std::mem::replace(assigned, now) != now
            });
            drop(status);
        }
    }
}

/// Whether an owner whose partition is meant for another one still serves.
fn goes_on(status: &Status, successor: Option<&Entry>) -> bool {
    match status {
        Status::InOffice { epoch, .. } => successor.is_none_or(|entry| entry.epoch < *epoch),
        // Whoever is out of office must not depose the successor.
        Status::Standby | Status::TakingOver(_) | Status::Ended(_) => false,
    }
}

fn is_busy(status: &Status) -> bool {
    match status {
        Status::InOffice { .. } | Status::TakingOver(_) => true,
        Status::Standby | Status::Ended(_) => false,
    }
}

/// What the group divides: every journal's topic.
pub fn topics() -> Vec<&'static str> {
    let mut topics: Vec<&str> = places().map(|place: Place| place.0).collect();
    topics.dedup();
    topics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_goes_on_until_its_successor_is_in_office() {
        let entry = |epoch| Entry {
            epoch,
            term: "05".repeat(16),
            url: "http://b:1".into(),
        };
        let in_office = Status::InOffice {
            epoch: 4,
            term: [4; 16],
        };
        assert!(goes_on(&in_office, None));
        assert!(goes_on(&in_office, Some(&entry(3))));
        assert!(!goes_on(&in_office, Some(&entry(5))));
        assert!(!goes_on(&Status::TakingOver("barrier".into()), None));
        assert!(!goes_on(&Status::Standby, None));
    }

    #[test]
    fn nobody_owns_a_partition_of_an_unsound_topic() {
        let (unsound, watched) = watch::channel(Unsound::new());
        let (duties, assigned) = Duties::none("http://a:1".into(), watched);
        let (_statuses, offices): (Vec<_>, Vec<_>) = places()
            .map(|_| {
                watch::channel(Status::InOffice {
                    epoch: 1,
                    term: [1; 16],
                })
            })
            .unzip();
        let offices = Offices::new(offices);
        let (_known, directory) = Directory::empty();
        let hinted: Assignment = places()
            .map(|(topic, partition)| (topic.to_owned(), partition))
            .collect();
        let owned = |hinted: &Assignment| {
            duties.set(hinted, &offices, &directory);
            let owned = places().zip(&assigned);
            let owned = owned.filter(|(_, assigned)| *assigned.borrow());
            owned.map(|(place, _)| place.0).collect::<BTreeSet<_>>()
        };
        let every = topics().into_iter().collect::<BTreeSet<_>>();
        assert_eq!(owned(&hinted), every);
        unsound.send_replace(["journal.catalog"].into());
        assert_eq!(owned(&hinted), ["journal.orders"].into());
        // Not even one that only waits for its successor goes on.
        assert_eq!(owned(&Assignment::new()), ["journal.orders"].into());
        unsound.send_replace(Unsound::new());
        assert_eq!(owned(&hinted), every);
    }

    #[test]
    fn the_group_divides_every_journal() {
        assert_eq!(topics(), ["journal.orders", "journal.catalog"]);
    }
}
