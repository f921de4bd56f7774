//! Partitions that another node declined. The group still assigns them to that node, so every other node
//! attempts to take them over after a pause of its own. The first node that serves a partition owns it, which
//! shows that the fault lies with the node that declined; that node then leaves the group
//! ([`super::self_eviction`]). If no node can serve, the fault lies with no single node, and each node makes
//! another attempt from time to time.

use journal::owner::Status;
use schemas::{owners::Entry, topics::TopicPartition};
use std::time::Duration;
use tokio::time::Instant;

/// Shortest pause before an attempt to own a declined partition.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Maximum addition to [`PAUSE_MIN`]. It differs between nodes, so that they seldom announce themselves at
/// the same time.
const PAUSE_JITTER_MAX: Duration = Duration::from_secs(4);
/// Time between a failed attempt and the next one, because an attempt may write an announcement.
const RETRY: Duration = Duration::from_secs(60);

/// Whether this node attempts to own one partition that another node declined.
#[derive(Debug, Default)]
pub(super) struct Adoption {
    /// The entry by which the partition was declined, and the time of the next attempt.
    due: Option<(Entry, Instant)>,
    /// The time at which the owner on this node last declined it.
    declined_at: Option<Instant>,
}

impl Adoption {
    /// Records the entry by which another node declined the partition, if there is one, and the status of the
    /// owner on this node.
    pub(super) fn update(
        &mut self,
        declined: Option<&Entry>,
        status: &Status,
        (own_url, partition): (&str, TopicPartition),
        now: Instant,
    ) {
        if matches!(status, Status::Declined { .. }) {
            self.declined_at = Some(now);
        }
        let Some(entry) = declined else {
            self.due = None;
            return;
        };
        let earliest = self.declined_at.map_or(now, |at| (at + RETRY).max(now));
        let at = earliest + pause(own_url, partition);
        match &self.due {
            // The attempt is due or in progress, and has not failed.
            Some((known, due)) if known == entry && self.declined_at.is_none_or(|at| at < *due) => {
            }
            Some(_) | None => self.due = Some((entry.clone(), at)),
        }
    }

    /// Whether this node must own the partition although the group assigned it to the other node.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.as_ref().is_some_and(|(_, at)| *at <= now)
    }

    /// The time of the next attempt, if it is later than `now`.
    pub(super) fn due_after(&self, now: Instant) -> Option<Instant> {
        let at = self.due.as_ref().map(|(_, at)| *at);
        at.filter(|at| *at > now)
    }
}

/// The pause of a node before it attempts to own a partition.
fn pause(own_url: &str, partition: TopicPartition) -> Duration {
    let hash = blake3::hash(format!("{own_url} {partition}").as_bytes());
    let share = f64::from(hash.as_bytes()[0]) / f64::from(u8::MAX);
    PAUSE_MIN + PAUSE_JITTER_MAX.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use journal::owner::Reason;

    const PARTITION: TopicPartition = TopicPartition {
        topic: "journal.orders",
        partition: 1,
    };
    const OWN: (&str, TopicPartition) = ("http://a:1", PARTITION);

    fn declined() -> Entry {
        Entry::new(4, "", "http://b:1").declining("its clock is wrong")
    }

    #[test]
    fn a_declined_partition_is_adopted_after_a_pause() {
        let (mut adoption, begun) = (Adoption::default(), Instant::now());
        adoption.update(Some(&declined()), &Status::Standby, OWN, begun);
        assert!(!adoption.is_due(begun));
        let due = adoption.due_after(begun).unwrap();
        let (pause, pauses) = (due - begun, PAUSE_MIN..=PAUSE_MIN + PAUSE_JITTER_MAX);
        assert!(pauses.contains(&pause), "{pause:?} instead of {pauses:?}");
        // The pause does not begin again while the entry stays.
        adoption.update(Some(&declined()), &Status::Standby, OWN, due);
        assert!(adoption.is_due(due));
        // This node keeps the partition while it serves, until its own entry replaces the other one.
        let serving = Status::Serving {
            epoch: 5,
            term: [5; 16],
        };
        adoption.update(Some(&declined()), &serving, OWN, due + RETRY);
        assert!(adoption.is_due(due + RETRY));
        adoption.update(None, &serving, OWN, due + RETRY);
        assert!(!adoption.is_due(due + RETRY));
    }

    #[test]
    fn a_failed_attempt_is_repeated_later() {
        let (mut adoption, begun) = (Adoption::default(), Instant::now());
        adoption.update(Some(&declined()), &Status::Standby, OWN, begun);
        let due = adoption.due_after(begun).unwrap();
        let failed = Status::Declined {
            reason: Reason::suspecting_this_node("its clock is wrong".into()),
            epoch: 5,
        };
        adoption.update(Some(&declined()), &failed, OWN, due);
        assert!(!adoption.is_due(due), "it announces itself in a loop");
        adoption.update(Some(&declined()), &Status::Standby, OWN, due);
        let next = adoption.due_after(due).unwrap();
        let wait = next - due;
        assert!(wait >= RETRY, "{wait:?} instead of at least {RETRY:?}");
        adoption.update(Some(&declined()), &Status::Standby, OWN, next);
        assert!(adoption.is_due(next));
    }
}
