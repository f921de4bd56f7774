//! A watchdog that shows the group's thread whether the rest of the process runs. The client library sends heartbeats
//! even if the rest of the process hangs, so heartbeats do not prove that it runs.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// Maximum time that one interval between two checks adds to the time without a feeding. A process that was suspended
/// as a whole could not feed the watchdog meanwhile.
const CHECK_INTERVAL_MAX: Duration = Duration::from_millis(500);

/// A watchdog that a process must feed to stay in its group. Clones share its state.
#[derive(Debug, Clone)]
pub struct Watchdog {
    state: Arc<Mutex<State>>,
    limit: Duration,
}

#[derive(Debug, Default)]
struct State {
    feedings: u64,
    /// The reason why the process runs but can't serve; `None` after a feeding.
    withheld: Option<String>,
}

impl Watchdog {
    /// Creates a watchdog that must be fed at least once per `limit`.
    pub fn new(limit: Duration) -> Self {
        Self {
            state: Arc::default(),
            limit,
        }
    }

    /// Reports that the process is running.
    pub fn feed(&self) {
        let mut state = self.state();
        state.feedings += 1;
        state.withheld = None;
    }

    /// Reports that the process runs but can't serve. Its member leaves the group at once, and joins again after the
    /// next feeding.
    pub fn withhold(&self, reason: String) {
        self.state().withheld = Some(reason);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
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
            feedings: watchdog.state().feedings,
            unfed_time: Duration::ZERO,
            last_check: None,
        }
    }

    /// The reason to leave the group: a call of [`Watchdog::withhold`], or no feeding within the limit. Only time in
    /// which this thread ran counts.
    pub(super) fn reason_to_leave(&mut self, watchdog: &Watchdog, now: Instant) -> Option<String> {
        let last = self.last_check.replace(now).unwrap_or(now);
        let state = watchdog.state();
        if state.feedings != self.feedings {
            self.feedings = state.feedings;
            self.unfed_time = Duration::ZERO;
        } else {
            self.unfed_time += now.saturating_duration_since(last).min(CHECK_INTERVAL_MAX);
        }
        let limit = watchdog.limit;
        let stalled = || format!("the process has stalled for {limit:?}");
        let is_starved = self.unfed_time >= limit;
        state.withheld.clone().or_else(|| is_starved.then(stalled))
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
        let mut is_starved_at = |tenths| {
            let now = begun + Duration::from_millis(100) * tenths;
            detector.reason_to_leave(&watchdog, now).is_some()
        };
        assert_eq!((0..40).find(|tenths| is_starved_at(*tenths)), None);
        watchdog.feed();
        assert_eq!((40..80).find(|tenths| is_starved_at(*tenths)), None);
        assert!(is_starved_at(80));
        watchdog.feed();
        assert!(!is_starved_at(81));
    }

    #[test]
    fn a_suspension_of_the_whole_process_does_not_starve_the_watchdog() {
        let (watchdog, begun) = (Watchdog::new(LIMIT), Instant::now());
        let mut detector = StarvationDetector::of(&watchdog);
        assert_eq!(detector.reason_to_leave(&watchdog, begun), None);
        let resumed = begun + Duration::from_secs(3_600);
        assert_eq!(detector.reason_to_leave(&watchdog, resumed), None);
    }

    #[test]
    fn a_withheld_feeding_is_a_reason_to_leave_until_the_next_feeding() {
        let (watchdog, now) = (Watchdog::new(LIMIT), Instant::now());
        let mut detector = StarvationDetector::of(&watchdog);
        watchdog.withhold("the disk hangs".into());
        let reason = detector.reason_to_leave(&watchdog, now);
        assert_eq!(reason.as_deref(), Some("the disk hangs"));
        watchdog.feed();
        assert_eq!(detector.reason_to_leave(&watchdog, now), None);
    }
}
