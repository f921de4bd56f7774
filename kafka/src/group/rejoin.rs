//! Waits before a fenced member joins again with a new client.

use backoff::Backoff;
use std::time::{Duration, Instant};

/// First wait before a client that the brokers fenced is replaced. The wait doubles with every replacement.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// Longest wait before a client that the brokers fenced is replaced.
const WAIT_MAX: Duration = Duration::from_secs(64);
/// After a client has lasted this long, the waits start again with the first one.
const BACKOFF_RESET_AFTER: Duration = Duration::from_secs(300);

/// The waits before clients that the brokers fenced are replaced. If another node has this member's name, each
/// replacement fences that node.
pub(super) struct RejoinBackoff {
    backoff: Backoff,
    last: Option<Instant>,
}

impl RejoinBackoff {
    pub(super) fn new() -> Self {
        Self {
            backoff: Backoff::doubling(WAIT_MIN, WAIT_MAX),
            last: None,
        }
    }

    /// The wait before the next replacement.
    pub(super) fn wait(&mut self, now: Instant) -> Duration {
        let lasted = self.last.map(|last| now.saturating_duration_since(last));
        if lasted.is_some_and(|lasted| lasted >= BACKOFF_RESET_AFTER) {
            self.backoff.reset();
        }
        let wait = self.backoff.wait();
        self.last = Some(now + wait);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_share_a_name_replace_their_clients_at_growing_intervals() {
        let (mut now, mut backoff) = (Instant::now(), RejoinBackoff::new());
        let mut seconds = Vec::new();
        for _ in 0..8 {
            let wait = backoff.wait(now);
            seconds.push(wait.as_secs());
            now += wait + Duration::from_secs(1);
        }
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 64]);
        now += BACKOFF_RESET_AFTER;
        assert_eq!(backoff.wait(now), WAIT_MIN);
    }
}
