//! Makes the group's hints into owners' duties, and hands over at the end.
//!
//! An owner whose partition the group gives to somebody else goes on until the successor is in office:
//! the successor's announcement ends its term, and what it had under way is sent on under the same
//! ids. So the pause is that of one take-over, however long the group takes to agree and the
//! successor to read the log.
//!
//! Once it is not known whether the group stands by its word, nothing is taken over from a successor
//! that the directory names: a process that slept, or was cut off from the group alone, must not depose
//! whoever has come after it.

use super::{
    Directory,
    fitness::{Unfit, own_trouble},
    router::Offices,
};
use journal::owner::Status;
use kafka::{Hint, Membership, Others};
use schemas::owners::{Entry, Place, places};
use std::{collections::BTreeSet, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// The group of all command processes.
pub const GROUP: &str = "daybook-commands";
/// Longest time that a stopping process goes on as owner until its successors are in office.
pub const HANDOVER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for owners to answer what is under way, after that.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long nothing is taken over once the group's word is doubted, so that the directory may be read
/// first: who slept knows only what it said before.
const DOUBT_TIME: Duration = Duration::from_secs(2);

/// Names of topics that are not as they must be.
pub type Unsound = BTreeSet<&'static str>;

/// By place, as [`places`] has them: whether this process is to own it.
pub struct Duties {
    assigned: Vec<watch::Sender<bool>>,
    own_url: String,
    unsound: watch::Receiver<Unsound>,
    unfit: Unfit,
    /// By place, the greatest epoch of an office of this process.
    held: Vec<i64>,
    /// Since when the group's word is doubted.
    doubted_since: Option<Instant>,
}

impl Duties {
    /// No duties yet; each receiver is for the owner of a place, in the order of [`places`]. Of a topic
    /// that is `unsound` nothing is owned, whatever the group says. Should this process turn out not to
    /// be able to own what others could, it is told to stop, and `unfit` has the reason.
    pub fn none(
        own_url: String,
        unsound: watch::Receiver<Unsound>,
        unfit: Unfit,
    ) -> (Self, Vec<watch::Receiver<bool>>) {
        let (assigned, receivers) = places().map(|_| watch::channel(false)).unzip();
        let duties = Self {
            assigned,
            own_url,
            unsound,
            unfit,
            held: places().map(|_| 0).collect(),
            doubted_since: None,
        };
        (duties, receivers)
    }

    /// Follows the group until `stop`; then leaves it, hands over, and cancels `closing`.
    pub async fn run(
        mut self,
        membership: Membership,
        mut hints: watch::Receiver<Hint>,
        mut offices: Offices,
        mut directory: Directory,
        stop: CancellationToken,
        closing: CancellationToken,
    ) {
        let mut unsound = self.unsound.clone();
        while !stop.is_cancelled() {
            let hint = hints.borrow_and_update().clone();
            self.set(&hint, &offices, &directory);
            if let Some(reason) = makes_room(&hint, &offices) {
                tracing::error!(reason, "can't own what others could; it stops to make room");
                self.unfit.set(reason);
                stop.cancel();
            }
            tokio::select! {
                changed = hints.changed() => if changed.is_err() {
                    tracing::error!("the group membership has ended; what was assigned last stands");
                    stop.cancelled().await;
                },
                // Its sender goes only when the process stops.
                Ok(()) = unsound.changed() => {}
                () = offices.changed() => {}
                () = directory.changed() => {}
                () = self.end_of_doubt() => {}
                () = stop.cancelled() => {}
            }
        }
        self.hand_over(membership, &mut offices, &mut directory)
            .await;
        for assigned in &self.assigned {
            assigned.send_replace(false);
        }
        wait_until_left(&mut offices).await;
        closing.cancel();
    }

    /// Leaves the group, and serves meanwhile until every partition of ours has a new owner; not any
    /// longer if there is nobody else.
    async fn hand_over(
        &mut self,
        membership: Membership,
        offices: &mut Offices,
        directory: &mut Directory,
    ) {
        let deadline = Instant::now() + HANDOVER_TIMEOUT;
        let is_alone = CancellationToken::new();
        let handed_over = timeout_at(deadline, async {
            let leave = async {
                match membership.leave().await {
                    Others::None => is_alone.cancel(),
                    Others::Some => {}
                }
            };
            let successors = self.wait_for_successors(offices, directory);
            tokio::join!(leave, is_alone.run_until_cancelled(successors));
        });
        if handed_over.await.is_err() {
            tracing::warn!(
                "not every partition has a new owner yet; the offices are left all the same"
            );
        }
    }

    /// Serves until every partition of ours has a new owner.
    async fn wait_for_successors(&mut self, offices: &mut Offices, directory: &mut Directory) {
        let nothing = Hint {
            is_current: true,
            ..Hint::default()
        };
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

    /// Returns once the directory has had time to be read after the group's word was doubted; never, if
    /// there is nothing to wait for.
    async fn end_of_doubt(&self) {
        match self.doubted_since {
            Some(since) if since.elapsed() < DOUBT_TIME => sleep_until(since + DOUBT_TIME).await,
            Some(_) | None => std::future::pending().await,
        }
    }

    fn set(&mut self, hint: &Hint, offices: &Offices, directory: &Directory) {
        self.doubted_since = match hint.is_current {
            true => None,
            false => self.doubted_since.or_else(|| Some(Instant::now())),
        };
        let since = self.doubted_since;
        let may_take_over = since.is_none_or(|since| since.elapsed() >= DOUBT_TIME);
        let known = directory.known();
        let unsound = self.unsound.borrow();
        for ((place, assigned), held) in places().zip(&self.assigned).zip(&mut self.held) {
            let is_hinted = hint.assignment.contains(&(place.0.to_owned(), place.1));
            let successor = known.owner(place).filter(|entry| entry.url != self.own_url);
            let status = offices.of(place);
            if let Status::InOffice { epoch, .. } = &*status {
                *held = (*held).max(*epoch);
            }
            let is_succeeded = successor.is_some_and(|entry| entry.epoch > *held);
            assigned.send_if_modified(|assigned| {
                let is_meant = match (is_hinted, hint.is_current) {
                    (true, true) => true,
                    (true, false) => is_in_office(&status) || (may_take_over && !is_succeeded),
                    (false, true | false) => *assigned && goes_on(&status, successor),
                };
                let now = is_meant && !unsound.contains(place.0);
                std::mem::replace(assigned, now) != now
            });
            drop(status);
        }
    }
}

/// Why this process must leave its partitions to others: an owner can't serve, for a reason that is this
/// process's alone, and others are there.
fn makes_room(hint: &Hint, offices: &Offices) -> Option<String> {
    let is_assigned =
        |(topic, partition): Place| hint.assignment.contains(&(topic.to_owned(), partition));
    // Whoever has everything is alone, and would make room for nobody.
    if !hint.is_current || places().all(is_assigned) {
        return None;
    }
    offices.all().find_map(|(place, status)| {
        let reason = own_trouble(&status).filter(|_| is_assigned(place))?;
        Some(format!("{}/{}: {reason}", place.0, place.1))
    })
}

fn is_in_office(status: &Status) -> bool {
    match status {
        Status::InOffice { .. } => true,
        Status::Standby | Status::TakingOver(_) | Status::Leaving | Status::Ended(_) => false,
    }
}

/// Whether an owner whose partition is meant for another one still serves.
fn goes_on(status: &Status, successor: Option<&Entry>) -> bool {
    match status {
        Status::InOffice { epoch, .. } => successor.is_none_or(|entry| entry.epoch < *epoch),
        // Whoever is out of office must not depose the successor.
        Status::Standby | Status::TakingOver(_) | Status::Leaving | Status::Ended(_) => false,
    }
}

/// Waits until no owner has anything under way any more, for some time.
async fn wait_until_left(offices: &mut Offices) {
    let left = timeout_at(Instant::now() + DRAIN_TIMEOUT, async {
        while offices.all().any(|(_, status)| is_busy(&status)) {
            offices.changed().await;
        }
    });
    if left.await.is_err() {
        tracing::warn!("commands are still without proof; their clients will ask again");
    }
}

fn is_busy(status: &Status) -> bool {
    match status {
        Status::InOffice { .. } | Status::TakingOver(_) | Status::Leaving => true,
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
    use crate::routing::directory::Entries;
    use journal::owner::Reason;

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

    /// Duties of a process at `http://a:1`, and what they are made from.
    struct World {
        duties: Duties,
        assigned: Vec<watch::Receiver<bool>>,
        statuses: Vec<watch::Sender<Status>>,
        offices: Offices,
        entries: Entries,
        directory: Directory,
    }

    impl World {
        /// Every owner has the same status.
        fn new(status: &Status, unsound: watch::Receiver<Unsound>) -> Self {
            let (duties, assigned) = Duties::none("http://a:1".into(), unsound, Unfit::default());
            let channels = places().map(|_| watch::channel(status.clone()));
            let (statuses, offices): (Vec<_>, Vec<_>) = channels.unzip();
            let (entries, directory) = Directory::of_entries();
            Self {
                duties,
                assigned,
                statuses,
                offices: Offices::new(offices),
                entries,
                directory,
            }
        }

        fn tell(&self, status: &Status) {
            for told in &self.statuses {
                told.send_replace(status.clone());
            }
        }

        /// The topics of what is owned once the group says so.
        fn owned(&mut self, hint: &Hint) -> BTreeSet<&'static str> {
            self.duties.set(hint, &self.offices, &self.directory);
            let owned = places().zip(&self.assigned);
            let owned = owned.filter(|(_, assigned)| *assigned.borrow());
            owned.map(|(place, _)| place.0).collect()
        }
    }

    fn in_office(epoch: i64) -> Status {
        let term = [u8::try_from(epoch).unwrap(); 16];
        Status::InOffice { epoch, term }
    }

    fn taking_over() -> Status {
        Status::TakingOver("barrier".into())
    }

    fn everything(is_current: bool) -> Hint {
        let every = places().map(|(topic, partition)| (topic.to_owned(), partition));
        Hint {
            assignment: every.collect(),
            is_current,
            trouble: None,
        }
    }

    fn sound() -> watch::Receiver<Unsound> {
        watch::channel(Unsound::new()).1
    }

    fn every_topic() -> BTreeSet<&'static str> {
        topics().into_iter().collect()
    }

    #[test]
    fn nobody_owns_a_partition_of_an_unsound_topic() {
        let (unsound, watched) = watch::channel(Unsound::new());
        let mut world = World::new(&in_office(1), watched);
        assert_eq!(world.owned(&everything(true)), every_topic());
        unsound.send_replace(["journal.catalog"].into());
        assert_eq!(world.owned(&everything(true)), ["journal.orders"].into());
        // Not even one that only waits for its successor goes on.
        let nothing = Hint::default();
        assert_eq!(world.owned(&nothing), ["journal.orders"].into());
        unsound.send_replace(Unsound::new());
        assert_eq!(world.owned(&everything(true)), every_topic());
    }

    #[tokio::test(start_paused = true)]
    async fn a_doubted_hint_deposes_no_successor() {
        let mut world = World::new(&in_office(4), sound());
        assert_eq!(world.owned(&everything(true)), every_topic());
        // It slept; its owners serve on until they find out that they were deposed.
        assert_eq!(world.owned(&everything(false)), every_topic());
        world.tell(&taking_over());
        // What the directory said before says nothing.
        assert_eq!(world.owned(&everything(false)), [].into());
        world.entries.put_all(5, "http://b:1");
        tokio::time::advance(DOUBT_TIME).await;
        assert_eq!(world.owned(&everything(false)), [].into());
        world.tell(&Status::Standby);
        assert_eq!(world.owned(&everything(false)), [].into());
        // The group's own word gives it back.
        assert_eq!(world.owned(&everything(true)), every_topic());
    }

    #[tokio::test(start_paused = true)]
    async fn a_doubted_hint_brings_back_who_was_not_succeeded() {
        for entries in [&[][..], &[(3, "http://b:1"), (4, "http://a:1")]] {
            let mut world = World::new(&in_office(4), sound());
            for (epoch, url) in entries {
                world.entries.put_all(*epoch, url);
            }
            assert_eq!(world.owned(&everything(true)), every_topic());
            world.tell(&taking_over());
            assert_eq!(world.owned(&everything(false)), [].into());
            let doubted = timeout_at(Instant::now() + DOUBT_TIME * 2, world.duties.end_of_doubt());
            doubted.await.expect("nobody would look again");
            assert_eq!(world.owned(&everything(false)), every_topic());
        }
    }

    #[test]
    fn an_unfit_process_makes_room_where_others_are() {
        let clock = "this machine's clock is 9000 ms off the broker's, which is more than 5000";
        let mut share = everything(true);
        share.assignment.pop_first();
        let world = World::new(&in_office(1), sound());
        assert_eq!(makes_room(&share, &world.offices), None);
        for status in [
            Status::TakingOver(Reason::of_this_process(clock.into())),
            Status::Ended(Reason::of_this_process(
                "the store is of another log".into(),
            )),
        ] {
            world.tell(&status);
            assert!(makes_room(&share, &world.offices).is_some(), "{status:?}");
            assert_eq!(makes_room(&everything(true), &world.offices), None, "alone");
            assert_eq!(makes_room(&Hint::default(), &world.offices), None);
        }
        world.tell(&Status::Ended("chain broken: journal.orders/1@7".into()));
        assert_eq!(makes_room(&share, &world.offices), None, "so is everybody");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_closes_once_its_owners_have_left() {
        let mut world = World::new(&Status::Leaving, sound());
        let soon = Duration::from_millis(300);
        let left = async {
            tokio::time::sleep(soon).await;
            for told in &world.statuses {
                told.send_replace(Status::Standby);
            }
        };
        let begun = Instant::now();
        tokio::join!(wait_until_left(&mut world.offices), left);
        assert_eq!(begun.elapsed(), soon);
        wait_until_left(&mut world.offices).await;
        assert_eq!(begun.elapsed(), soon);
        // Nor does it wait for ever.
        world.tell(&Status::Leaving);
        wait_until_left(&mut world.offices).await;
        assert_eq!(begun.elapsed(), soon + DRAIN_TIMEOUT);
    }

    #[test]
    fn the_group_divides_every_journal() {
        assert_eq!(topics(), ["journal.orders", "journal.catalog"]);
    }
}
