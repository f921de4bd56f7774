//! Shows the group's thread whether the rest of the process runs: the client sends heartbeats even if nothing
//! else does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Longest time between two looks that counts in full. A process that was suspended as a whole had no chance to
/// feed the watchdog meanwhile.
const LOOK_MAX: Duration = Duration::from_millis(500);

/// A watchdog, which a process feeds to stay in its group. Clones are the same one.
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

    /// Shows that the process does its work.
    pub fn feed(&self) {
        self.fed.fetch_add(1, Ordering::Relaxed);
    }

    /// The longest time without food.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    fn meals(&self) -> u64 {
        self.fed.load(Ordering::Relaxed)
    }
}

/// The time without food, as the group's thread sees it.
pub(super) struct Hunger {
    meals: u64,
    since_last_meal: Duration,
    last_look: Option<Instant>,
}

impl Hunger {
    pub(super) fn of(watchdog: &Watchdog) -> Self {
        Self {
            meals: watchdog.meals(),
            since_last_meal: Duration::ZERO,
            last_look: None,
        }
    }

    /// Looks at the watchdog. Whether it has not been fed for its limit, in time during which this thread ran.
    pub(super) fn is_starved(&mut self, watchdog: &Watchdog, now: Instant) -> bool {
        let last = self.last_look.replace(now).unwrap_or(now);
        let meals = watchdog.meals();
        if meals != self.meals {
            self.meals = meals;
            self.since_last_meal = Duration::ZERO;
        } else {
            self.since_last_meal += now.saturating_duration_since(last).min(LOOK_MAX);
        }
        self.since_last_meal >= watchdog.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(4);

    #[test]
    fn a_watchdog_starves_unless_it_is_fed_in_time() {
        let (watchdog, begun) = (Watchdog::new(LIMIT), Instant::now());
        let mut hunger = Hunger::of(&watchdog);
        let mut is_starved_at =
            |tenths| hunger.is_starved(&watchdog, begun + Duration::from_millis(100) * tenths);
        assert!((0..40).all(|tenths| !is_starved_at(tenths)));
        watchdog.feed();
        assert!((40..80).all(|tenths| !is_starved_at(tenths)));
        assert!(is_starved_at(80));
        watchdog.feed();
        assert!(!is_starved_at(81));
    }

    #[test]
    fn a_suspension_of_the_whole_process_is_no_starvation() {
        let (watchdog, begun) = (Watchdog::new(LIMIT), Instant::now());
        let mut hunger = Hunger::of(&watchdog);
        assert!(!hunger.is_starved(&watchdog, begun));
        assert!(!hunger.is_starved(&watchdog, begun + Duration::from_secs(3_600)));
    }
}
