//! The readiness of one build: the reasons why it is not ready.

use service::health::Component;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

/// A part of a projector that can fail on its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// The projector has not opened its store.
    Store,
    /// The journal can't be read.
    Reader,
    /// Partition of a topic whose batches are not applied.
    Partition(String, i32),
    /// Partition of a topic that is no longer read.
    Halted(String, i32),
}

/// Reports a build as ready while none of its parts fails.
#[derive(Debug)]
pub(crate) struct Status {
    /// `None` for a build that does not answer queries: its failures affect no client.
    component: Option<Component>,
    reasons: Mutex<BTreeMap<Cause, String>>,
}

impl Status {
    /// `component` is `None` for a build that does not answer queries.
    pub fn new(component: Option<Component>) -> Self {
        Self {
            component,
            reasons: Mutex::default(),
        }
    }

    /// Records that a part fails.
    pub fn set(&self, cause: Cause, reason: impl Into<String>) {
        let mut reasons = self.reasons.lock().expect("no holder of this lock panics");
        reasons.insert(cause, reason.into());
        self.report(&reasons);
    }

    /// Records that a part no longer fails.
    pub fn clear(&self, cause: &Cause) {
        let mut reasons = self.reasons.lock().expect("no holder of this lock panics");
        reasons.remove(cause);
        self.report(&reasons);
    }

    /// Forgets the failures of partitions at a restart of the projector, except the `kept` ones. The reported readiness
    /// does not change.
    pub fn restart(&self, kept: &BTreeSet<Cause>) {
        let mut reasons = self.reasons.lock().expect("no holder of this lock panics");
        reasons.retain(|cause, _| match cause {
            Cause::Store | Cause::Reader => true,
            Cause::Partition(..) | Cause::Halted(..) => kept.contains(cause),
        });
    }

    fn report(&self, reasons: &BTreeMap<Cause, String>) {
        let Some(component) = &self.component else {
            return;
        };
        match reasons.values().next() {
            Some(reason) => component.not_ready(reason.clone()),
            None => component.ready(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use service::health::Health;

    #[test]
    fn the_halts_of_two_journals_are_two_reasons() {
        let health = Health::default();
        let status = Status::new(Some(health.component("view.a")));
        let [first, second] =
            ["journal.a", "journal.b"].map(|topic| Cause::Halted(topic.to_owned(), 0));
        status.set(first.clone(), "the log of a was altered");
        status.set(second.clone(), "the log of b was altered");
        status.clear(&second);
        assert_eq!(
            health.readiness().components["view.a"],
            "the log of a was altered"
        );
        status.clear(&first);
        assert!(health.readiness().ready);
    }

    #[test]
    fn a_build_is_ready_once_no_part_fails() {
        let health = Health::default();
        let status = Status::new(Some(health.component("view.a")));
        let (first, second) = (
            Cause::Partition("journal.a".into(), 0),
            Cause::Partition("journal.a".into(), 1),
        );
        status.set(first.clone(), "no connection");
        status.set(second.clone(), "no right");
        status.clear(&first);
        assert_eq!(health.readiness().components["view.a"], "no right");
        status.clear(&second);
        assert!(health.readiness().ready);
        status.set(first, "no connection");
        status.set(Cause::Reader, "no broker");
        status.restart(&BTreeSet::new());
        status.clear(&Cause::Store);
        assert_eq!(health.readiness().components["view.a"], "no broker");
    }

    #[test]
    fn a_kept_failure_is_a_reason_after_the_projector_restarts() {
        let health = Health::default();
        let status = Status::new(Some(health.component("view.a")));
        let [kept, other] = [0, 1].map(|number| Cause::Partition("journal.a".into(), number));
        status.set(kept.clone(), "too many parked");
        status.set(other, "no connection");
        status.restart(&BTreeSet::from([kept.clone()]));
        status.clear(&Cause::Store);
        assert_eq!(health.readiness().components["view.a"], "too many parked");
        status.clear(&kept);
        assert!(health.readiness().ready);
    }
}
