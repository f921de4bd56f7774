//! Shows the group's thread whether the rest of the process runs, because the client sends heartbeats even if
//! the rest hangs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Longest time between two checks that counts in full. A process that was suspended as a whole could not feed
/// the watchdog meanwhile.
const CHECK_INTERVAL_MAX: Duration = Duration::from_millis(500);

/// A watchdog, which a process feeds to stay in its group. Clones share its state.
#[derive(Debug, Clone)]
pub struct Watchdog {
    fed: Arc<AtomicU64>,
    limit: Duration,
}

impl Watchdog {
    /// A watchdog that has to be fed more often than every `limit`.
    pub fn new(limit: Duration) -> Self {
        Self {
            fed: Arc::default(),
            limit,
        }
    }

    /// Reports that the process is running.
    pub fn feed(&self) {
        self.fed.fetch_add(1, Ordering::Relaxed);
    }

    /// The longest time between two feedings.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    fn feedings(&self) -> u64 {
        self.fed.load(Ordering::Relaxed)
    }
}

/// Measures the time since the last feeding, on the group's thread.
pub(super) struct StarvationDetector {
    feedings: u64,
    unfed_time: Duration,
    last_check: Option<Instant>,
}

impl StarvationDetector {
    pub(super) fn of(watchdog: &Watchdog) -> Self {
        Self {
            feedings: watchdog.feedings(),
            unfed_time: Duration::ZERO,
            last_check: None,
        }
    }

    /// Checks whether the watchdog has not been fed for its limit. Only time in which this thread ran counts.
    pub(super) fn is_starved(&mut self, watchdog: &Watchdog, now: Instant) -> bool {
        let last = self.last_check.replace(now).unwrap_or(now);
        let feedings = watchdog.feedings();
        if feedings != self.feedings {
            self.feedings = feedings;
            self.unfed_time = Duration::ZERO;
        } else {
            self.unfed_time += now.saturating_duration_since(last).min(CHECK_INTERVAL_MAX);
        }
        self.unfed_time >= watchdog.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(4);

    #[test]
    fn a_watchdog_starves_unless_it_is_fed_in_time() {
        let (watchdog, begun) = (Watchdog::new(LIMIT), Instant::now());
        let mut detector = StarvationDetector::of(&watchdog);
        let mut is_starved_at =
            |tenths| detector.is_starved(&watchdog, begun + Duration::from_millis(100) * tenths);
        assert!((0..40).all(|tenths| !is_starved_at(tenths)));
        watchdog.feed();
        assert!((40..80).all(|tenths| !is_starved_at(tenths)));
        assert!(is_starved_at(80));
        watchdog.feed();
        assert!(!is_starved_at(81));
    }

    #[test]
    fn a_suspension_of_the_whole_process_does_not_starve_the_watchdog() {
        let (watchdog, begun) = (Watchdog::new(LIMIT), Instant::now());
        let mut detector = StarvationDetector::of(&watchdog);
        assert!(!detector.is_starved(&watchdog, begun));
        assert!(!detector.is_starved(&watchdog, begun + Duration::from_secs(3_600)));
    }
}
