//! The job's position in its journal, its readiness reasons, and the schedule of its retries. No I/O.

use journal::Checkpoint;
use service::{Backoff, health::Component};
use std::collections::BTreeMap;
use tokio::time::Instant;

/// The job's position in every partition of its journal.
#[derive(Debug)]
pub(crate) struct ReadPosition {
    checkpoints: BTreeMap<i32, Checkpoint>,
    /// Each partition's end offset when the job started; `None` until it is fetched.
    ends: Option<BTreeMap<i32, i64>>,
}

impl ReadPosition {
    /// The position before the first record.
    pub(crate) fn new(topic: &str, partitions: i32) -> Self {
        Self {
            checkpoints: (0..partitions)
                .map(|partition| (partition, Checkpoint::start(topic, partition)))
                .collect(),
            ends: None,
        }
    }

    /// The checkpoints to start a reader at.
    pub(crate) fn starts(&self) -> Vec<Checkpoint> {
        self.checkpoints.values().cloned().collect()
    }

    /// Sets the end offsets at the start. Later calls change nothing.
    pub(crate) fn set_ends(&mut self, ends: BTreeMap<i32, i64>) {
        self.ends.get_or_insert(ends);
    }

    /// Moves a partition's position.
    pub(crate) fn advance(&mut self, checkpoint: Checkpoint) {
        self.checkpoints.insert(checkpoint.partition, checkpoint);
    }

    /// Whether all records that were in the journal at the start were read. Checkpoints also advance over void records
    /// and announcements.
    pub(crate) fn has_caught_up(&self) -> bool {
        self.ends.as_ref().is_some_and(|ends| self.reached(ends))
    }

    /// Whether every partition was read up to its end offset.
    pub(crate) fn reached(&self, ends: &BTreeMap<i32, i64>) -> bool {
        self.next_offsets()
            .all(|(partition, next)| ends.get(&partition).is_some_and(|end| next >= *end))
    }

    /// Each partition with its next offset.
    pub(crate) fn next_offsets(&self) -> impl Iterator<Item = (i32, i64)> {
        self.checkpoints
            .values()
            .map(|checkpoint| (checkpoint.partition, checkpoint.next_offset))
    }
}

/// The reasons why the job is not ready. The job is ready if there are no reasons.
pub(crate) struct ReadinessReasons {
    component: Component,
    halt: Option<String>,
    read_error: Option<String>,
    publish_error: Option<String>,
}

impl ReadinessReasons {
    /// Starts with one reason: nothing is published yet.
    pub(crate) fn new(component: Component) -> Self {
        Self {
            component,
            halt: None,
            read_error: None,
            publish_error: Some(
                "the job is reading the journal's history and has published nothing yet".into(),
            ),
        }
    }

    /// Records that a partition, or the whole job, has stopped permanently. Keeps the first reason.
    pub(crate) fn halt(&mut self, reason: String) {
        self.halt.get_or_insert(reason);
        self.report();
    }

    /// Sets the reason why the journal can't be read at the moment; `None` if it can be read.
    pub(crate) fn set_read_error(&mut self, reason: Option<String>) {
        self.read_error = reason;
        self.report();
    }

    /// Sets the reason why results can't be published at the moment; `None` if they can be published.
    pub(crate) fn set_publish_error(&mut self, reason: Option<String>) {
        self.publish_error = reason;
        self.report();
    }

    fn report(&self) {
        let reasons = [&self.halt, &self.read_error, &self.publish_error];
        match reasons.into_iter().flatten().next() {
            Some(reason) => self.component.not_ready(reason.as_str()),
            None => self.component.ready(),
        }
    }
}

/// The time of the next attempt, with a longer delay after each consecutive failure.
pub(crate) struct Retry {
    delays: Backoff,
    due: Instant,
    failures: u32,
}

impl Retry {
    /// The first attempt is due now.
    pub(crate) fn new() -> Self {
        Self {
            delays: service::Backoff::for_server(),
            due: Instant::now(),
            failures: 0,
        }
    }

    /// Whether the next attempt is due.
    pub(crate) fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }

    /// The time of the next attempt.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Postpones the next attempt after a failure. Returns the number of consecutive failures.
    pub(crate) fn postpone(&mut self) -> u32 {
        let delay = self.delays.wait();
        self.due = Instant::now() + delay;
        self.failures = self.failures.saturating_add(1);
        self.failures
    }

    /// Resets the delay after a success.
    pub(crate) fn reset(&mut self) {
        if self.failures > 0 {
            *self = Self::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use service::health::Health;

    fn at(partition: i32, next_offset: i64) -> Checkpoint {
        Checkpoint {
            next_offset,
            ..Checkpoint::start("journal.orders", partition)
        }
    }

    #[test]
    fn a_job_has_caught_up_once_every_partition_has_reached_its_first_end() {
        let mut position = ReadPosition::new("journal.orders", 2);
        assert!(!position.has_caught_up(), "the ends are not known yet");
        position.set_ends(BTreeMap::from([(0, 5), (1, 0)]));
        // After an error the ends are fetched a second time; the first ones stay.
        position.set_ends(BTreeMap::from([(0, 9), (1, 9)]));
        position.advance(at(0, 4));
        assert!(!position.has_caught_up());
        position.advance(at(0, 6));
        assert!(position.has_caught_up());
        assert_eq!(
            position.next_offsets().collect::<Vec<_>>(),
            [(0, 6), (1, 0)]
        );
    }

    #[test]
    fn an_empty_journal_needs_no_catching_up() {
        let mut position = ReadPosition::new("journal.orders", 2);
        position.set_ends(BTreeMap::from([(0, 0), (1, 0)]));
        assert!(position.has_caught_up());
    }

    #[test]
    fn a_job_is_ready_once_no_reason_against_it_is_left() {
        let health = Health::default();
        let mut reasons = ReadinessReasons::new(health.component("job"));
        reasons.set_read_error(Some("kafka is unreachable".into()));
        reasons.set_publish_error(None);
        assert_eq!(health.readiness().components["job"], "kafka is unreachable");
        reasons.set_read_error(None);
        assert!(health.readiness().ready);
        reasons.halt("partition 3 was altered".into());
        reasons.set_read_error(None);
        reasons.set_publish_error(None);
        assert_eq!(
            health.readiness().components["job"],
            "partition 3 was altered"
        );
    }
}
