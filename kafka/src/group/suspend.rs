//! Detects that the process was suspended for longer than a session.

use std::time::{Duration, Instant};

/// Compares the times of polls. After a suspension longer than the session the group may have removed this
/// member; if so, the member learns of it within one more session.
pub(super) struct SuspendDetector {
    session_timeout: Duration,
    last_poll: Option<Instant>,
    resumed: Option<Instant>,
}

impl SuspendDetector {
    pub(super) fn new(session_timeout: Duration) -> Self {
        Self {
            session_timeout,
            last_poll: None,
            resumed: None,
        }
    }

    /// Records a poll; `true` if the previous one was at least a session timeout ago.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        let last = self.last_poll.replace(now).unwrap_or(now);
        let was_suspended = now.saturating_duration_since(last) >= self.session_timeout;
        if was_suspended {
            self.resumed = Some(now);
        }
        was_suspended
    }

    /// Whether a session timeout has passed since the last suspension. Returns `true` once per suspension.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        let timeout = self.session_timeout;
        let is_over = |resumed: &mut Instant| now.saturating_duration_since(*resumed) >= timeout;
        self.resumed.take_if(is_over).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_suspended_past_its_session_waits_one_more_before_trusting_its_assignment() {
        let mut detector = SuspendDetector::new(Duration::from_secs(6));
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert!(!detector.poll(at(0)));
        assert!(!detector.poll(at(5)));
        assert!(!detector.is_over(at(5)));
        assert!(detector.poll(at(25)));
        assert!(!detector.poll(at(26)));
        assert!(!detector.is_over(at(30)));
        assert!(detector.is_over(at(31)));
        assert!(!detector.is_over(at(40)), "it is reported once");
    }
}
