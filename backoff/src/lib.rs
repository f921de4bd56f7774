//! The waits between retries of an operation: each wait is twice the previous one, up to a maximum.
//!
//! This crate reads no clock and does not sleep. The caller sleeps, and decides when an attempt counts as a
//! success ([`Backoff::reset`]) and when to give up. The code is a crate of its own because `kafka`,
//! `journal` and the importer need it and must not depend on `service`.

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use std::time::Duration;

/// First wait for a server that does not answer.
pub const SERVER_WAIT_MIN: Duration = Duration::from_millis(100);
/// Longest wait for a server that does not answer, without jitter.
pub const SERVER_WAIT_MAX: Duration = Duration::from_secs(5);

/// An endless sequence of waits.
#[derive(Debug)]
pub struct Backoff {
    builder: ExponentialBuilder,
    waits: ExponentialBackoff,
}

impl Backoff {
    /// Waits of `first`, twice `first` and so on, at most `max`.
    pub fn doubling(first: Duration, max: Duration) -> Self {
        Self::of(
            ExponentialBuilder::default()
                .with_min_delay(first)
                .with_max_delay(max)
                .without_max_times(),
        )
    }

    /// Waits for a server that is expected to recover: [`SERVER_WAIT_MIN`] to [`SERVER_WAIT_MAX`], jittered.
    pub fn for_server() -> Self {
        Self::doubling(SERVER_WAIT_MIN, SERVER_WAIT_MAX).jittered()
    }

    /// Adds a random part to each wait, up to the wait itself, so that callers that failed at the same
    /// time do not repeat at the same time.
    #[must_use]
    pub fn jittered(self) -> Self {
        Self::of(self.builder.with_jitter())
    }

    /// The next wait.
    pub fn wait(&mut self) -> Duration {
        self.waits.next().expect("the waits have no end")
    }

    /// Begins again with the first wait.
    pub fn reset(&mut self) {
        self.waits = self.builder.build();
    }

    fn of(builder: ExponentialBuilder) -> Self {
        Self {
            builder,
            waits: builder.build(),
        }
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    /// Never `None`.
    fn next(&mut self) -> Option<Duration> {
        Some(self.wait())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_again_after_a_reset() {
        let mut backoff = Backoff::doubling(Duration::from_secs(1), Duration::from_secs(5));
        let seconds = |backoff: &mut Backoff| {
            let waits = backoff.take(5);
            waits.map(|wait| wait.as_secs()).collect::<Vec<_>>()
        };
        assert_eq!(seconds(&mut backoff), [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(seconds(&mut backoff), [1, 2, 4, 5, 5]);
    }

    #[test]
    fn jitter_at_most_doubles_a_wait() {
        let mut backoff = Backoff::for_server();
        for attempt in 0..20 {
            let base = (SERVER_WAIT_MIN * (1 << attempt.min(10))).min(SERVER_WAIT_MAX);
            let wait = backoff.wait();
            // The `backon` crate computes with 32-bit floats.
            let tolerance = Duration::from_micros(1);
            assert!(
                wait + tolerance >= base,
                "{attempt}: {wait:?} instead of at least {base:?}"
            );
            let bound = base * 2;
            assert!(
                wait <= bound + tolerance,
                "{attempt}: {wait:?} instead of at most {bound:?}"
            );
        }
    }
}
