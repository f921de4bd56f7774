//! Times as the file writes them, by the clock of London, turned into points in time.

use jiff::{civil::DateTime, tz::TimeZone};
use schemas::Timestamp;

/// The zone of the clock that wrote the file.
const ZONE: &str = "Europe/London";

/// Why a text is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not of the form.
    #[error("the date is not month/day/year hour:minute")]
    Form,
    /// There is no such day or hour, or the year is not one of 1 to 9999.
    #[error("the date does not exist")]
    NoSuchTime,
}

/// The clock of London.
pub struct Clock {
    zone: TimeZone,
}

/// A point in time that was read off the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The point in time.
    pub at: Timestamp,
    /// Whether the clock showed this time twice or never, for it was put back or forward. Then
    /// `at` is the first of the two, or as much later as the clock had been put forward.
    pub is_skipped_or_repeated: bool,
}

impl Clock {
    /// The clock, from the time zones that are built in.
    pub fn new() -> Self {
        let zone = TimeZone::get(ZONE).expect("the time zones are bundled with the program");
        Self { zone }
    }

    /// Reads `M/D/YYYY H:MM`, such as `12/1/2010 8:26`.
    pub fn read(&self, text: &str) -> Result<Reading, Error> {
        let civil = parse_civil(text)?;
        let ambiguous = self.zone.to_ambiguous_timestamp(civil);
        let is_skipped_or_repeated = ambiguous.is_ambiguous();
        let timestamp = ambiguous.compatible().map_err(|_| Error::NoSuchTime)?;
        Ok(Reading {
            at: Timestamp(timestamp.as_microsecond()),
            is_skipped_or_repeated,
        })
    }
}

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

    fn read(text: &str) -> Result<(String, bool), Error> {
        Clock::new()
            .read(text)
            .map(|reading| (reading.at.to_string(), reading.is_skipped_or_repeated))
    }

    #[test]
    fn reads_winter_and_summer() {
        for (text, utc) in [
            ("12/1/2010 8:26", "2010-12-01T08:26:00Z"),
            ("8/12/2011 14:50", "2011-08-12T13:50:00Z"),
            ("07/01/2011 00:05", "2011-06-30T23:05:00Z"),
        ] {
            assert_eq!(read(text), Ok((utc.to_owned(), false)), "{text}");
        }
    }

    #[test]
    fn tells_when_the_clock_was_changed() {
        let spring = read("3/27/2011 1:30").unwrap();
        assert_eq!(spring, ("2011-03-27T01:30:00Z".to_owned(), true));
        let autumn = read("10/30/2011 1:30").unwrap();
        assert_eq!(autumn, ("2011-10-30T00:30:00Z".to_owned(), true));
        assert!(!read("10/30/2011 2:00").unwrap().1);
    }

    #[test]
    fn refuses_everything_else() {
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
            assert_eq!(read(text), Err(Error::Form), "{text:?}");
        }
        for text in [
            "13/1/2010 8:26",
            "2/29/2011 8:26",
            "1/1/2011 24:00",
            "1/1/2011 1:60",
            "1/1/0000 1:00",
        ] {
            assert_eq!(read(text), Err(Error::NoSuchTime), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_a_time_or_an_error(
            text in "[0-9]{0,3}/[0-9]{0,3}/[0-9]{0,5} [0-9:]{0,6}|\\PC*"
        ) {
            let _ = read(&text);
        }
    }
}
