//! How far the job has read its journal, whether that is far enough to publish, and what keeps it
//! from being ready. No I/O.

use journal::Checkpoint;
use service::health::Component;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// Where the job stands in every partition of its journal.
#[derive(Debug)]
pub(crate) struct Reading {
    checkpoints: BTreeMap<i32, Checkpoint>,
    /// Where each partition ended when the job started; `None` until that was measured.
    ends: Option<BTreeMap<i32, i64>>,
}

impl Reading {
    /// Nothing read yet.
    pub(crate) fn new(topic: &str, partitions: i32) -> Self {
        Self {
            checkpoints: (0..partitions)
                .map(|partition| (partition, Checkpoint::start(topic, partition)))
                .collect(),
            ends: None,
        }
    }

    /// Where a reader has to begin.
    pub(crate) fn starts(&self) -> Vec<Checkpoint> {
        self.checkpoints.values().cloned().collect()
    }

    /// Takes the ends as they stood at the start: the first ones given.
    pub(crate) fn set_ends(&mut self, ends: BTreeMap<i32, i64>) {
        self.ends.get_or_insert(ends);
    }

    /// Takes how far a partition was read.
    pub(crate) fn advance(&mut self, checkpoint: Checkpoint) {
        self.checkpoints.insert(checkpoint.partition, checkpoint);
    }

    /// Whether everything that stood in the journal at the start was read. Void records and
    /// announcements count: a checkpoint moves over them too.
    pub(crate) fn has_caught_up(&self) -> bool {
        self.ends.as_ref().is_some_and(|ends| self.reached(ends))
    }

    /// Whether every partition was read up to its end.
    pub(crate) fn reached(&self, ends: &BTreeMap<i32, i64>) -> bool {
        self.next_offsets()
            .all(|(partition, next)| ends.get(&partition).is_some_and(|end| next >= *end))
    }

    /// Partition and next offset of each.
    pub(crate) fn next_offsets(&self) -> impl Iterator<Item = (i32, i64)> {
        self.checkpoints
            .values()
            .map(|checkpoint| (checkpoint.partition, checkpoint.next_offset))
    }
}

/// What keeps the job from being ready; it is once nothing does.
pub(crate) struct Hindrances {
    component: Component,
    halted: Option<String>,
    reading: Option<String>,
    publishing: Option<String>,
}

impl Hindrances {
    /// The job has not published yet.
    pub(crate) fn new(component: Component) -> Self {
        Self {
            component,
            halted: None,
            reading: None,
            publishing: Some(
                "the journal's history is being read; nothing is published yet".into(),
            ),
        }
    }

    /// A partition, or the whole job, can't go on. That is for good.
    pub(crate) fn halt(&mut self, reason: String) {
        self.halted.get_or_insert(reason);
        self.tell();
    }

    /// The journal can't be read at present, or can be.
    pub(crate) fn set_reading(&mut self, reason: Option<String>) {
        self.reading = reason;
        self.tell();
    }

    /// Results can't be published at present, or are.
    pub(crate) fn set_publishing(&mut self, reason: Option<String>) {
        self.publishing = reason;
        self.tell();
    }

    fn tell(&self) {
        let reasons = [&self.halted, &self.reading, &self.publishing];
        match reasons.into_iter().flatten().next() {
            Some(reason) => self.component.not_ready(reason.as_str()),
            None => self.component.ready(),
        }
    }
}

/// When to try again what failed: with a longer wait after each failure in a row.
pub(crate) struct Retry {
    delays: Box<dyn Iterator<Item = Duration> + Send>,
    due: Instant,
    failures: u32,
}

impl Retry {
    /// Due now.
    pub(crate) fn new() -> Self {
        Self {
            delays: Box::new(service::backoff()),
            due: Instant::now(),
            failures: 0,
        }
    }

    /// Whether the wait is over.
    pub(crate) fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }

    /// When the wait is over.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Puts the next try off. Gives the number of failures in a row.
    pub(crate) fn put_off(&mut self) -> u32 {
        let delay = self.delays.next().expect("the delays have no end");
        self.due = Instant::now() + delay;
        self.failures = self.failures.saturating_add(1);
        self.failures
    }

    /// It went well.
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
    fn has_caught_up_once_every_partition_is_at_its_first_end() {
        let mut reading = Reading::new("journal.orders", 2);
        assert!(!reading.has_caught_up(), "the ends are not known yet");
        reading.set_ends(BTreeMap::from([(0, 5), (1, 0)]));
        // Measured again after a trouble: the first ends stay.
        reading.set_ends(BTreeMap::from([(0, 9), (1, 9)]));
        reading.advance(at(0, 4));
        assert!(!reading.has_caught_up());
        reading.advance(at(0, 6));
        assert!(reading.has_caught_up());
        assert_eq!(reading.next_offsets().collect::<Vec<_>>(), [(0, 6), (1, 0)]);
    }

    #[test]
    fn an_empty_journal_is_caught_up_with_at_once() {
        let mut reading = Reading::new("journal.orders", 2);
        reading.set_ends(BTreeMap::from([(0, 0), (1, 0)]));
        assert!(reading.has_caught_up());
    }

    #[test]
    fn is_ready_once_nothing_hinders_it() {
        let health = Health::default();
        let mut hindrances = Hindrances::new(health.component("job"));
        hindrances.set_reading(Some("kafka is away".into()));
        hindrances.set_publishing(None);
        assert_eq!(health.readiness().components["job"], "kafka is away");
        hindrances.set_reading(None);
        assert!(health.readiness().ready);
        hindrances.halt("partition 3 is altered".into());
        hindrances.set_reading(None);
        hindrances.set_publishing(None);
        assert_eq!(
            health.readiness().components["job"],
            "partition 3 is altered"
        );
    }
}
