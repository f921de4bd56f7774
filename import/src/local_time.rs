//! Times in the file are London local time; this module converts them to points in time.

use clap::ValueEnum;
use jiff::{civil::DateTime, tz::TimeZone};
use schemas::Timestamp;
use serde::Serialize;
use std::fmt;

/// Time zone of the file's times.
const LONDON: &str = "Europe/London";

/// Reasons why a text is not a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text does not have the form of a date and time.
    #[error("the date does not look like 12/31/2010 8:26 or 31/12/2010 8:26")]
    Form,
    /// The day or hour does not exist in the file's order of day and month, or the year is outside the range
    /// 1 to 9999.
    #[error("the date does not exist")]
    NoSuchTime,
}

/// The order of day and month in a date.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum DateOrder {
    /// 12/31/2010
    #[default]
    MonthFirst,
    /// 31/12/2010
    DayFirst,
}

/// The orders of day and month in which a date exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PossibleOrders {
    /// The date exists only with the month first.
    MonthFirst,
    /// The date exists only with the day first.
    DayFirst,
    /// The date exists in both orders, as two different days.
    Either,
    /// The date exists in both orders, as the same day.
    SameDay,
}

/// The time zone in which local times are resolved.
pub struct Zone(TimeZone);

/// A local time resolved to a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolvedTime {
    /// The point in time.
    pub at: Timestamp,
    /// Whether a clock change skipped or repeated this local time. For a repeated time `at` is the first of
    /// the two; a skipped time is moved forward by the length of the gap.
    pub is_skipped_or_repeated: bool,
}

impl fmt::Display for DateOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MonthFirst => "month-first",
            Self::DayFirst => "day-first",
        })
    }
}

impl Zone {
    /// The zone of the file's times, which is London, from the time zones that are built into the binary.
    pub fn of_dataset() -> Self {
        Self(TimeZone::get(LONDON).expect("the time zones are bundled with the program"))
    }

    /// Resolves `M/D/YYYY H:MM` or `D/M/YYYY H:MM`, such as `12/31/2010 8:26`.
    ///
    /// # Errors
    /// [`Error`]: the text is not a time, or the time does not exist in this order of day and month.
    pub fn resolve(&self, text: &str, order: DateOrder) -> Result<ResolvedTime, Error> {
        let civil = DateParts::of(text)?.in_order(order)?;
        let ambiguous = self.0.to_ambiguous_timestamp(civil);
        let is_skipped_or_repeated = ambiguous.is_ambiguous();
        let timestamp = ambiguous.compatible().map_err(|_| Error::NoSuchTime)?;
        Ok(ResolvedTime {
            at: Timestamp(timestamp.as_microsecond()),
            is_skipped_or_repeated,
        })
    }
}

/// The orders of day and month that a date allows; `None` if it does not exist in either.
pub fn possible_orders(text: &str) -> Option<PossibleOrders> {
    let DateParts { first, second, .. } = DateParts::of(text).ok()?;
    let is = |month: i8, day: i8| (1..=12).contains(&month) && (1..=31).contains(&day);
    match (is(first, second), is(second, first)) {
        (true, true) if first == second => Some(PossibleOrders::SameDay),
        (true, true) => Some(PossibleOrders::Either),
        (true, false) => Some(PossibleOrders::MonthFirst),
        (false, true) => Some(PossibleOrders::DayFirst),
        (false, false) => None,
    }
}

/// The numbers of a date.
struct DateParts {
    first: i8,
    second: i8,
    year: i16,
    hour: i8,
    minute: i8,
}

impl DateParts {
    /// `jiff`'s own `strptime` accepts more forms (a signed or shorter year, a minute of one digit, any
    /// number of blanks), so the digits are counted here.
    fn of(text: &str) -> Result<Self, Error> {
        let (date, time) = text.split_once(' ').ok_or(Error::Form)?;
        let (first, rest) = date.split_once('/').ok_or(Error::Form)?;
        let (second, year) = rest.split_once('/').ok_or(Error::Form)?;
        let (hour, minute) = time.split_once(':').ok_or(Error::Form)?;
        Ok(Self {
            first: digits(first, 1..=2)?,
            second: digits(second, 1..=2)?,
            year: digits(year, 4..=4)?,
            hour: digits(hour, 1..=2)?,
            minute: digits(minute, 2..=2)?,
        })
    }

    fn in_order(&self, order: DateOrder) -> Result<DateTime, Error> {
        let (month, day) = match order {
            DateOrder::MonthFirst => (self.first, self.second),
            DateOrder::DayFirst => (self.second, self.first),
        };
        if self.year == 0 {
            return Err(Error::NoSuchTime);
        }
        DateTime::new(self.year, month, day, self.hour, self.minute, 0, 0)
            .map_err(|_| Error::NoSuchTime)
    }
}

fn digits<T: std::str::FromStr>(
    text: &str,
    count: std::ops::RangeInclusive<usize>,
) -> Result<T, Error> {
    if !count.contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::Form);
    }
    text.parse().map_err(|_| Error::Form)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resolve(text: &str) -> Result<(String, bool), Error> {
        resolve_in(text, DateOrder::MonthFirst)
    }

    fn resolve_in(text: &str, order: DateOrder) -> Result<(String, bool), Error> {
        let resolved = Zone::of_dataset().resolve(text, order)?;
        Ok((resolved.at.to_string(), resolved.is_skipped_or_repeated))
    }

    #[test]
    fn winter_and_summer_times_are_converted_to_utc() {
        for (text, utc) in [
            ("12/1/2010 8:26", "2010-12-01T08:26:00Z"),
            ("8/12/2011 14:50", "2011-08-12T13:50:00Z"),
            ("07/01/2011 00:05", "2011-06-30T23:05:00Z"),
            ("10/30/2011 2:00", "2011-10-30T02:00:00Z"),
        ] {
            assert_eq!(resolve(text), Ok((utc.to_owned(), false)), "{text}");
        }
    }

    #[test]
    fn the_day_comes_first_in_a_day_first_file() {
        let day_first = |text| resolve_in(text, DateOrder::DayFirst);
        let expected = ("2010-12-01T08:26:00Z".to_owned(), false);
        assert_eq!(day_first("1/12/2010 8:26"), Ok(expected));
        assert_eq!(day_first("1/13/2010 8:26"), Err(Error::NoSuchTime));
    }

    #[test]
    fn a_date_shows_its_order_if_it_allows_only_one() {
        for (text, expected) in [
            ("12/13/2010 8:26", Some(PossibleOrders::MonthFirst)),
            ("13/12/2010 8:26", Some(PossibleOrders::DayFirst)),
            ("1/12/2010 8:26", Some(PossibleOrders::Either)),
            ("12/12/2010 8:26", Some(PossibleOrders::SameDay)),
            ("13/13/2010 8:26", None),
            ("0/1/2010 8:26", None),
            ("2010-12-13 8:26", None),
        ] {
            assert_eq!(possible_orders(text), expected, "{text}");
        }
    }

    #[test]
    fn times_skipped_or_repeated_by_a_clock_change_are_marked() {
        for (text, utc) in [
            ("3/27/2011 1:30", "2011-03-27T01:30:00Z"),
            ("10/30/2011 1:30", "2011-10-30T00:30:00Z"),
        ] {
            assert_eq!(resolve(text), Ok((utc.to_owned(), true)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_errors() {
        for text in [
            "",
            "2010-12-01T08:26:00Z",
            "12/1/10 8:26",
            "12/1/2010",
            "12/1/2010 8:26:00",
            "12/1/2010 8:2",
            "12/1/2010  8:26",
            "-1/1/2010 8:26",
            "+1/1/2010 8:26",
            "999/1/2010 8:26",
        ] {
            assert_eq!(resolve(text), Err(Error::Form), "{text:?}");
        }
        for text in [
            "13/1/2010 8:26",
            "2/29/2011 8:26",
            "1/1/2011 24:00",
            "1/1/2011 1:60",
            "1/1/0000 1:00",
        ] {
            assert_eq!(resolve(text), Err(Error::NoSuchTime), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_an_error(
            text in "[0-9]{0,3}/[0-9]{0,3}/[0-9]{0,5} [0-9:]{0,6}|\\PC*"
        ) {
            let _ = resolve(&text);
            let _ = resolve_in(&text, DateOrder::DayFirst);
            let _ = possible_orders(&text);
        }
    }
}
