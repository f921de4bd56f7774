//! Limits how often a failure that repeats is logged.

use std::time::Duration;
use tokio::time::Instant;

/// Shortest time between two warnings about one failure.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// A failure that is retried until it ends.
#[derive(Debug, Default)]
pub(crate) struct RepeatedFailure {
    began: Option<Instant>,
    warned: Option<Instant>,
    attempts: u64,
}

/// A failure that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Over {
    /// Failed attempts.
    pub attempts: u64,
    /// Time since the first of them.
    pub lasted: Duration,
}

impl RepeatedFailure {
    /// Counts a failed attempt. Returns whether to log it as a warning: the first attempt, and then one a
    /// minute.
    pub fn add(&mut self) -> bool {
        let now = Instant::now();
        self.began.get_or_insert(now);
        self.attempts += 1;
        let is_due = self
            .warned
            .is_none_or(|warned| now - warned >= WARNING_INTERVAL);
        if is_due {
            self.warned = Some(now);
        }
        is_due
    }

    /// Ends the failure, if there was one.
    pub fn end(&mut self) -> Option<Over> {
        let ended = std::mem::take(self);
        ended.began.map(|began| Over {
            attempts: ended.attempts,
            lasted: began.elapsed(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_attempt_and_then_one_a_minute_is_a_warning() {
        let mut failure = RepeatedFailure::default();
        assert_eq!(failure.end(), None);
        let mut warnings = Vec::new();
        for second in 0..150 {
            if failure.add() {
                warnings.push(second);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(warnings, [0, 60, 120]);
        let over = Over {
            attempts: 150,
            lasted: Duration::from_secs(150),
        };
        assert_eq!(failure.end(), Some(over));
        assert!(failure.add(), "the next failure is a warning at once");
    }
}
