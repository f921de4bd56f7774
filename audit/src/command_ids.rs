//! Finds commands that were decided twice while the first answer was to be kept.
//!
//! A command id expires by log time, and a repeat after that is a new command, not a fault: a client's
//! after 24 hours, the server's own after 10 minutes, those of policies and timers never. An origin
//! that this program does not know says nothing of how long its ids are kept, so it is not judged.

use schemas::Timestamp;
use std::collections::HashMap;

const MINUTE_US: i64 = 60 * 1_000_000;
/// How long the ids of clients' commands are kept.
const KEYED_KEPT_US: i64 = 24 * 60 * MINUTE_US;
/// How long the ids of the server's own commands are kept.
const SERVER_KEPT_US: i64 = 10 * MINUTE_US;
/// Below this many ids it is not worth looking for expired ones.
const PRUNE_AT_LEAST: usize = 1 << 16;

/// The ids of a partition's decisions that have not expired.
#[derive(Debug, Default)]
pub struct CommandIds {
    seen: HashMap<[u8; 16], Seen>,
    prune_at: usize,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    offset: i64,
    /// `None`: never.
    expires_at: Option<Timestamp>,
}

impl CommandIds {
    /// Takes a valid decision's id; gives the offset where it was decided before, if it was.
    pub fn take(
        &mut self,
        id: [u8; 16],
        origin: &str,
        log_time: Timestamp,
        offset: i64,
    ) -> Option<i64> {
        let until = |kept_us| Some(Timestamp(log_time.0.saturating_add(kept_us)));
        let expires_at = match origin {
            "KEYED" => until(KEYED_KEPT_US),
            "SERVER" => until(SERVER_KEPT_US),
            "POLICY" | "TIMER" => None,
            _ => return None,
        };
        self.prune(log_time);
        let before = self.seen.insert(id, Seen { offset, expires_at })?;
        is_kept(&before, log_time).then_some(before.offset)
    }

    /// Forgets what has expired each time the table has doubled, so that the work per id stays small.
    fn prune(&mut self, log_time: Timestamp) {
        if self.seen.len() < self.prune_at.max(PRUNE_AT_LEAST) {
            return;
        }
        self.seen.retain(|_, seen| is_kept(seen, log_time));
        self.prune_at = 2 * self.seen.len();
    }
}

fn is_kept(seen: &Seen, log_time: Timestamp) -> bool {
    seen.expires_at
        .is_none_or(|expires_at| log_time < expires_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_counts_until_the_id_expires() {
        let start = Timestamp(1_000);
        for (origin, kept_us) in [("KEYED", KEYED_KEPT_US), ("SERVER", SERVER_KEPT_US)] {
            let mut ids = CommandIds::default();
            assert_eq!(ids.take([1; 16], origin, start, 7), None);
            let last = Timestamp(start.0 + kept_us - 1);
            assert_eq!(ids.take([1; 16], origin, last, 8), Some(7));
            let expired = Timestamp(last.0 + kept_us);
            assert_eq!(ids.take([1; 16], origin, expired, 9), None);
        }
    }

    #[test]
    fn policies_and_timers_ids_never_expire() {
        let mut ids = CommandIds::default();
        assert_eq!(ids.take([1; 16], "POLICY", Timestamp(0), 1), None);
        assert_eq!(ids.take([1; 16], "POLICY", Timestamp(i64::MAX), 2), Some(1));
        assert_eq!(ids.take([2; 16], "A_LATER_ONE", Timestamp(0), 3), None);
        assert_eq!(ids.take([2; 16], "A_LATER_ONE", Timestamp(0), 4), None);
    }

    #[test]
    fn expired_ids_are_forgotten() {
        let mut ids = CommandIds::default();
        for number in 0..3 * PRUNE_AT_LEAST as i64 {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_be_bytes());
            // A second apart, so that a day holds 86,400.
            ids.take(id, "KEYED", Timestamp(number * 1_000_000), number);
        }
        assert!(ids.seen.len() <= 2 * 86_400, "{}", ids.seen.len());
    }
}
