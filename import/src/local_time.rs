//! Times in the file are London local time; this module converts them to points in time.

use jiff::{civil::DateTime, tz::TimeZone};
use schemas::Timestamp;

/// Time zone of the file's times.
const LONDON: &str = "Europe/London";

/// Reasons why a text is not a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text has another form.
    #[error("the date is not month/day/year hour:minute")]
    Form,
    /// The day or hour does not exist, or the year is outside of 1 to 9999.
    #[error("the date does not exist")]
    NoSuchTime,
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

impl Zone {
    /// London, from the time zones that are built into the binary.
    pub fn london() -> Self {
        Self(TimeZone::get(LONDON).expect("the time zones are bundled with the program"))
    }

    /// Resolves `M/D/YYYY H:MM`, such as `12/1/2010 8:26`.
    pub fn resolve(&self, text: &str) -> Result<ResolvedTime, Error> {
        let ambiguous = self.0.to_ambiguous_timestamp(parse_civil(text)?);
        let is_skipped_or_repeated = ambiguous.is_ambiguous();
        let timestamp = ambiguous.compatible().map_err(|_| Error::NoSuchTime)?;
        Ok(ResolvedTime {
            at: Timestamp(timestamp.as_microsecond()),
            is_skipped_or_repeated,
        })
    }
}

/// `jiff`'s own `strptime` takes more forms (a signed or shorter year, a minute of one digit, any number of
/// blanks), so the digits are counted here.
fn parse_civil(text: &str) -> Result<DateTime, Error> {
    let (date, time) = text.split_once(' ').ok_or(Error::Form)?;
    let (month, day_and_year) = date.split_once('/').ok_or(Error::Form)?;
    let (day, year) = day_and_year.split_once('/').ok_or(Error::Form)?;
    let (hour, minute) = time.split_once(':').ok_or(Error::Form)?;
    let year = digits::<i16>(year, 4..=4)?;
    let (month, day) = (digits::<i8>(month, 1..=2)?, digits::<i8>(day, 1..=2)?);
    let (hour, minute) = (digits::<i8>(hour, 1..=2)?, digits::<i8>(minute, 2..=2)?);
    if year == 0 {
        return Err(Error::NoSuchTime);
    }
    DateTime::new(year, month, day, hour, minute, 0, 0).map_err(|_| Error::NoSuchTime)
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
        let resolved = Zone::london().resolve(text)?;
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
        }
    }
}
