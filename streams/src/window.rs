//! The job's name and its window sizes. Tumbling windows are aligned to 1970-01-01T00:00:00Z, so windows of
//! an hour start on the hour and windows of a day at midnight, UTC.

use schemas::{
    Timestamp,
    topics::{REVENUE_BY_COUNTRY_DAY, REVENUE_BY_COUNTRY_HOUR, TopicSpec},
};

/// The job's name.
pub const JOB: &str = "revenue_by_country";
const HOUR_US: i64 = 60 * 60 * 1_000_000;

/// The size of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// One hour, UTC.
    Hour,
    /// One day, UTC.
    Day,
}

impl Window {
    /// Every size.
    pub const ALL: [Self; 2] = [Self::Hour, Self::Day];

    /// The name in queries and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// The size with a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|window| window.name() == name)
    }

    /// The aggregate topic of this size.
    pub const fn topic(self) -> TopicSpec {
        match self {
            Self::Hour => REVENUE_BY_COUNTRY_HOUR,
            Self::Day => REVENUE_BY_COUNTRY_DAY,
        }
    }

    /// Microseconds from a window's start to its end.
    pub const fn width_us(self) -> i64 {
        match self {
            Self::Hour => HOUR_US,
            Self::Day => 24 * HOUR_US,
        }
    }

    /// The start (inclusive) and end (exclusive) of the window that contains a time. `None` if one of them
    /// overflows 64 bits.
    pub fn around(self, time: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let start = time.0.checked_sub(time.0.rem_euclid(self.width_us()))?;
        let end = start.checked_add(self.width_us())?;
        Some((Timestamp(start), Timestamp(end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(window: Window, time: &str) -> (String, String) {
        let (start, end) = window.around(Timestamp::parse(time).unwrap()).unwrap();
        (start.to_string(), end.to_string())
    }

    #[test]
    fn windows_start_on_the_hour_and_at_midnight() {
        let (start, end) = around(Window::Hour, "2010-12-01T08:26:00Z");
        assert_eq!(
            (start.as_str(), end.as_str()),
            ("2010-12-01T08:00:00Z", "2010-12-01T09:00:00Z")
        );
        let (start, end) = around(Window::Day, "2010-12-31T23:59:59.999999Z");
        assert_eq!(
            (start.as_str(), end.as_str()),
            ("2010-12-31T00:00:00Z", "2011-01-01T00:00:00Z")
        );
    }

    #[test]
    fn a_start_is_in_its_own_window() {
        let (start, _) = around(Window::Hour, "2010-12-01T09:00:00Z");
        assert_eq!(start, "2010-12-01T09:00:00Z");
    }

    #[test]
    fn times_before_1970_are_in_the_window_that_started_before_them() {
        let (start, end) = around(Window::Day, "1969-12-31T23:00:00Z");
        assert_eq!(
            (start.as_str(), end.as_str()),
            ("1969-12-31T00:00:00Z", "1970-01-01T00:00:00Z")
        );
    }

    #[test]
    fn times_at_the_limits_of_64_bits_have_no_window() {
        assert_eq!(Window::Hour.around(Timestamp(i64::MIN)), None);
        assert_eq!(Window::Day.around(Timestamp(i64::MAX)), None);
    }

    #[test]
    fn each_size_is_found_by_its_name() {
        for window in Window::ALL {
            assert_eq!(Window::named(window.name()), Some(window));
        }
        assert_eq!(Window::named("minute"), None);
    }
}
