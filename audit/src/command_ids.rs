//! Finds commands that were decided twice before their id expired.
//!
//! A command id expires by log time, and a repetition after that is a new command, not a fault. Ids of
//! clients' commands expire after 24 hours, ids of the server's own commands after 10 minutes. Ids of
//! policies and timers never expire. Commands with an unknown origin are not checked, because their expiry is
//! unknown.

use schemas::Timestamp;
use std::collections::HashMap;

const MINUTE_US: i64 = 60 * 1_000_000;
/// Time until the ids of clients' commands expire.
const KEYED_EXPIRY_US: i64 = 24 * 60 * MINUTE_US;
/// Time until the ids of the server's own commands expire.
const SERVER_EXPIRY_US: i64 = 10 * MINUTE_US;
/// Minimum number of ids in the table before expired ids are removed.
const PRUNE_COUNT_MIN: usize = 1 << 16;

/// The ids of a partition's decisions that have not expired.
#[derive(Debug, Default)]
pub struct CommandIds {
    decided: HashMap<[u8; 16], Decided>,
    prune_at: usize,
}

#[derive(Debug, Clone, Copy)]
struct Decided {
    offset: i64,
    /// `None`: it never expires.
    expires_at: Option<Timestamp>,
}

impl CommandIds {
    /// Adds the id of a valid decision. Returns the offset of an earlier decision with the same unexpired id.
    pub fn insert(
        &mut self,
        id: [u8; 16],
        origin: &str,
        log_time: Timestamp,
        offset: i64,
    ) -> Option<i64> {
        let after = |expiry_us| Some(Timestamp(log_time.0.saturating_add(expiry_us)));
        let expires_at = match origin {
            "KEYED" => after(KEYED_EXPIRY_US),
            "SERVER" => after(SERVER_EXPIRY_US),
            "POLICY" | "TIMER" => None,
            _ => return None,
        };
        self.prune(log_time);
        let before = self.decided.insert(id, Decided { offset, expires_at })?;
        (!has_expired(&before, log_time)).then_some(before.offset)
    }

    /// Removes expired ids each time the table has doubled, so that the work per id stays constant.
    fn prune(&mut self, log_time: Timestamp) {
        if self.decided.len() < self.prune_at.max(PRUNE_COUNT_MIN) {
            return;
        }
        self.decided
            .retain(|_, decided| !has_expired(decided, log_time));
        self.prune_at = 2 * self.decided.len();
    }
}

fn has_expired(decided: &Decided, log_time: Timestamp) -> bool {
    decided
        .expires_at
        .is_some_and(|expires_at| expires_at <= log_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repetition_is_found_until_the_id_expires() {
        let start = Timestamp(1_000);
        for (origin, expiry_us) in [("KEYED", KEYED_EXPIRY_US), ("SERVER", SERVER_EXPIRY_US)] {
            let mut ids = CommandIds::default();
            assert_eq!(ids.insert([1; 16], origin, start, 7), None);
            let last = Timestamp(start.0 + expiry_us - 1);
            assert_eq!(ids.insert([1; 16], origin, last, 8), Some(7));
            let expired = Timestamp(last.0 + expiry_us);
            assert_eq!(ids.insert([1; 16], origin, expired, 9), None);
        }
    }

    #[test]
    fn ids_of_policies_and_timers_never_expire() {
        let mut ids = CommandIds::default();
        assert_eq!(ids.insert([1; 16], "POLICY", Timestamp(0), 1), None);
        assert_eq!(
            ids.insert([1; 16], "POLICY", Timestamp(i64::MAX), 2),
            Some(1)
        );
        assert_eq!(ids.insert([2; 16], "A_LATER_ONE", Timestamp(0), 3), None);
        assert_eq!(ids.insert([2; 16], "A_LATER_ONE", Timestamp(0), 4), None);
    }

    #[test]
    fn expired_ids_are_removed() {
        let mut ids = CommandIds::default();
        for number in 0..3 * PRUNE_COUNT_MIN as i64 {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_be_bytes());
            // One id per second of log time, so a day holds 86,400.
            ids.insert(id, "KEYED", Timestamp(number * 1_000_000), number);
        }
        let (kept, bound) = (ids.decided.len(), 2 * 86_400);
        assert!(kept <= bound, "{kept} ids instead of at most {bound}");
    }
}
