//! Detects that an owner of this node was fenced, even if the owner gets no commands.
//!
//! An owner learns from its next record that another node announced itself after it. An owner without commands
//! appends no record, so it would count as serving indefinitely. If the other node has ended since, no node serves
//! the partition, because the directory still names the node that ended. So an owner that is still assigned steps
//! down once such an entry has had no serving owner for [`FENCED_AFTER`]. Then it takes over again: it announces
//! itself after the other node's announcement.

use std::time::Duration;
use tokio::time::Instant;

/// Minimum time without a serving owner for another node's later term, before this node's owner steps down. Nodes are
/// polled every second, so a node that has just taken over answers within this time.
const FENCED_AFTER: Duration = Duration::from_secs(3);

/// Whether the owner of one partition must step down, because a later term than its own has no owner.
#[derive(Debug, Default)]
pub(super) struct Fencing {
    /// The epoch of that term, and the time since which it has had no owner.
    suspected: Option<(i64, Instant)>,
    /// The greatest epoch for which the owner has stepped down. A stale entry makes it step down only once.
    stepped_down_for: i64,
}

impl Fencing {
    /// Records whether the owner serves, and the epoch of another node's later term that no live node serves, if there
    /// is one.
    pub(super) fn update(&mut self, is_serving: bool, unserved: Option<i64>, now: Instant) {
        if !is_serving {
            if let Some((epoch, since)) = self.suspected.take()
                && now - since >= FENCED_AFTER
            {
                self.stepped_down_for = epoch;
            }
            return;
        }
        let epoch = unserved.filter(|epoch| *epoch > self.stepped_down_for);
        self.suspected = match (epoch, self.suspected) {
            (Some(epoch), Some((known, since))) if known == epoch => Some((epoch, since)),
            (Some(epoch), Some(_) | None) => Some((epoch, now)),
            (None, Some(_) | None) => None,
        };
    }

    /// Whether the owner must step down now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.suspected
            .is_some_and(|(_, since)| now - since >= FENCED_AFTER)
    }

    /// When the owner must step down, if that is later than `now`.
    pub(super) fn due_after(&self, now: Instant) -> Option<Instant> {
        let at = self.suspected.map(|(_, since)| since + FENCED_AFTER);
        at.filter(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_owner_steps_down_once_a_later_term_has_had_no_owner_for_some_time() {
        let mut fencing = Fencing::default();
        let begun = Instant::now();
        fencing.update(true, Some(10), begun);
        assert!(!fencing.is_due(begun));
        assert_eq!(fencing.due_after(begun), Some(begun + FENCED_AFTER));
        let due = begun + FENCED_AFTER;
        fencing.update(true, Some(10), due);
        assert!(fencing.is_due(due));
        assert_eq!(fencing.due_after(due), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_keeps_serving_if_the_later_term_gets_an_owner() {
        let mut fencing = Fencing::default();
        let begun = Instant::now();
        fencing.update(true, Some(10), begun);
        fencing.update(true, None, begun + FENCED_AFTER / 2);
        fencing.update(true, Some(10), begun + FENCED_AFTER);
        assert!(!fencing.is_due(begun + FENCED_AFTER));
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_makes_an_owner_step_down_only_once() {
        let mut fencing = Fencing::default();
        let begun = Instant::now();
        fencing.update(true, Some(10), begun);
        let due = begun + FENCED_AFTER;
        // It steps down, takes over in a later term, and reads the stale entry again.
        fencing.update(false, None, due);
        fencing.update(true, Some(10), due);
        assert!(!fencing.is_due(due + FENCED_AFTER));
        fencing.update(true, Some(11), due);
        assert!(fencing.is_due(due + FENCED_AFTER));
    }
}
