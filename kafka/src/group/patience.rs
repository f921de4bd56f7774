//! How long a member waits: before it joins again, and before it believes what it heard before a sleep.

use super::SESSION_TIMEOUT;
use std::time::{Duration, Instant};

/// First wait before a client that the brokers want no more is replaced; it doubles with every time.
const REPLACE_WAIT: Duration = Duration::from_secs(1);
/// So often at most: 64 s.
const REPLACE_DOUBLINGS_MAX: u32 = 6;
/// A client that lasted for so long is replaced after the first wait again.
const REPLACE_CALM: Duration = Duration::from_secs(300);

/// When a client that the brokers want no more is replaced. There may be another process of this
/// member's name, and then each replacement drives the other one out.
#[derive(Default)]
pub(super) struct Replacements {
    count: u32,
    last: Option<Instant>,
}

/// A sleep that was longer than the session: whether the group has given this member up meanwhile is
/// heard within the next one, or it has not.
#[derive(Default)]
pub(super) struct Sleep {
    polled: Option<Instant>,
    woke: Option<Instant>,
}

impl Replacements {
    /// How long to wait before the next one.
    pub(super) fn wait(&mut self, now: Instant) -> Duration {
        let lasted = self.last.map(|last| now.saturating_duration_since(last));
        self.count = match lasted {
            Some(lasted) if lasted < REPLACE_CALM => (self.count + 1).min(REPLACE_DOUBLINGS_MAX),
            Some(_) | None => 0,
        };
        let wait = REPLACE_WAIT * 2_u32.pow(self.count);
        self.last = Some(now + wait);
        wait
    }
}

impl Sleep {
    /// Takes note of a poll; whether the one before is longer ago than a session.
    pub(super) fn is_long(&mut self, now: Instant) -> bool {
        let last = self.polled.replace(now).unwrap_or(now);
        let is_long = now.saturating_duration_since(last) >= SESSION_TIMEOUT;
        if is_long {
            self.woke = Some(now);
        }
        is_long
    }

    /// Whether a session has passed since a sleep; once.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        let woke = |woke: &mut Instant| now.saturating_duration_since(*woke) >= SESSION_TIMEOUT;
        self.woke.take_if(woke).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sleeps_through_a_session_doubts_for_another_one() {
        let (begun, mut sleep) = (Instant::now(), Sleep::default());
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert!(!sleep.is_long(at(0)));
        assert!(!sleep.is_long(at(5)));
        assert!(!sleep.is_over(at(5)));
        assert!(sleep.is_long(at(25)));
        assert!(!sleep.is_long(at(26)));
        assert!(!sleep.is_over(at(30)));
        assert!(sleep.is_over(at(31)));
        assert!(!sleep.is_over(at(40)), "it is told once");
    }

    #[test]
    fn two_of_one_name_drive_each_other_out_ever_more_seldom() {
        let (mut now, mut replacements) = (Instant::now(), Replacements::default());
        let mut seconds = Vec::new();
        for _ in 0..8 {
            let wait = replacements.wait(now);
            seconds.push(wait.as_secs());
            now += wait + Duration::from_secs(1);
        }
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 64]);
        now += REPLACE_CALM;
        assert_eq!(replacements.wait(now), REPLACE_WAIT);
    }
}
