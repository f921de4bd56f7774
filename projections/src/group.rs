//! Divides the partitions of all views among processes, by a consumer group.
//!
//! The group says which process should project a partition. Two processes may believe that they have the same
//! partition; its checkpoint then lets only one of them write. So a member that loses its membership keeps its last
//! partitions until the group assigns new ones.

use crate::{projector::Runtime, supervisor::Assignment, views::VIEWS};
use kafka::{GroupError, Hint, Membership, Watchdog};
use service::{health::Component, shutdown::supervise};
use std::{collections::BTreeSet, time::Duration};
use tokio::sync::watch;

/// The consumer group.
const GROUP: &str = "daybook-views";
/// A process that hangs for this time leaves the group, although the client library still sends heartbeats.
const STALL_TIMEOUT: Duration = Duration::from_secs(4);
/// Time between two feedings of the watchdog.
const FEED_INTERVAL: Duration = Duration::from_secs(1);

/// Joins the group as `member` until shutdown; no other process may use this name at the same time. Returns the
/// partitions of this process. The set is empty until the group assigns partitions.
///
/// # Errors
/// [`GroupError`]: a setting is wrong, or the client can't be started.
pub fn join(runtime: &Runtime, member: &str) -> Result<watch::Receiver<Assignment>, GroupError> {
    let topics: BTreeSet<&str> = VIEWS.iter().flat_map(|view| view.topics).copied().collect();
    let topics: Vec<&str> = topics.into_iter().collect();
    let watchdog = Watchdog::new(STALL_TIMEOUT);
    let settings = &runtime.source.kafka;
    let (membership, hints) = Membership::join(settings, GROUP, member, &topics, watchdog.clone())?;
    let (sender, assignment) = watch::channel(Assignment::Only(BTreeSet::new()));
    let (stop, shutdown) = (runtime.shutdown.clone(), runtime.shutdown.clone());
    let component = runtime.health.component("views group");
    let task = async move {
        let following = follow(hints, sender, component, watchdog);
        stop.run_until_cancelled(following).await;
        membership.leave().await;
    };
    runtime
        .tasks
        .spawn(supervise("views group", shutdown, task));
    Ok(assignment)
}

/// Passes on the group's assignments, and feeds the watchdog.
async fn follow(
    mut hints: watch::Receiver<Hint>,
    assignment: watch::Sender<Assignment>,
    component: Component,
    watchdog: Watchdog,
) {
    loop {
        watchdog.feed();
        let hint = hints.borrow_and_update().clone();
        report(&component, &hint);
        if hint.is_current {
            let wanted = Assignment::Only(hint.assignment);
            assignment.send_if_modified(|known| {
                let is_changed = *known != wanted;
                *known = wanted;
                is_changed
            });
        }
        tokio::select! {
            () = tokio::time::sleep(FEED_INTERVAL) => {}
            // After the sender is dropped, this branch is disabled.
            Ok(()) = hints.changed() => {}
        }
    }
}

fn report(component: &Component, hint: &Hint) {
    match (&hint.error, hint.is_current) {
        (Some(error), _) => component.not_ready(error.clone()),
        (None, false) => component.not_ready("the group has not assigned partitions"),
        (None, true) => component.ready(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use service::health::Health;

    #[tokio::test(start_paused = true)]
    async fn partitions_are_kept_while_the_membership_is_lost() {
        let health = Health::default();
        let (hint, hints) = watch::channel(Hint::default());
        let (sender, mut assignment) = watch::channel(Assignment::Only(BTreeSet::new()));
        let component = health.component("views group");
        let watchdog = Watchdog::new(STALL_TIMEOUT);
        tokio::spawn(follow(hints, sender, component, watchdog));
        let first = BTreeSet::from([("journal.orders".to_owned(), 1)]);
        hint.send_modify(|hint| {
            hint.assignment = first.clone();
            hint.is_current = true;
        });
        assignment.changed().await.unwrap();
        assert_eq!(*assignment.borrow_and_update(), Assignment::Only(first));
        hint.send_modify(|hint| {
            hint.assignment = BTreeSet::new();
            hint.is_current = false;
        });
        tokio::time::sleep(FEED_INTERVAL * 2).await;
        assert!(!assignment.has_changed().unwrap());
        assert!(!health.readiness().ready);
    }
}
