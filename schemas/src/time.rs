//! Points in time, as the contract stores them.

use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// Why a text is not a point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// It is not RFC 3339, or no such time exists, or it lies outside of the years 1 to 9999.
    #[error("not an RFC 3339 time: {text:?}; send one such as 2010-12-01T08:26:00Z")]
    NotRfc3339 {
        /// The text, cut after 64 characters.
        text: String,
    },
    /// Its fraction of a second is finer than a microsecond, so it can't be stored.
    #[error("finer than a microsecond: {text:?}; send at most six digits after the point")]
    TooFine {
        /// The text, cut after 64 characters.
        text: String,
    },
    /// A leap second, which Unix time does not have.
    #[error("a leap second: {text:?}; send the second before or after it")]
    LeapSecond {
        /// The text, cut after 64 characters.
        text: String,
    },
}

/// The rest of a text that is parsed from left to right.
struct Text<'a>(&'a [u8]);

impl Text<'_> {
    /// A number of exactly `digits` digits.
    fn number(&mut self, digits: usize) -> Option<u32> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        number.iter().try_fold(0, |sum: u32, digit| match digit {
            b'0'..=b'9' => Some(sum * 10 + u32::from(digit - b'0')),
            _ => None,
        })
    }

    /// The next byte, if it is one of these.
    fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        bytes.contains(first).then_some(*first)
    }

    /// The digits that follow.
    fn digits(&mut self) -> &[u8] {
        let end = self.0.iter().position(|byte| !byte.is_ascii_digit());
        let (digits, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        digits
    }

    /// A point and the digits of a fraction, in microseconds, if there are any. The inner `None`: the fraction
    /// is finer than a microsecond.
    fn fraction_us(&mut self) -> Option<Option<i64>> {
        if self.0.first() != Some(&b'.') {
            return Some(Some(0));
        }
        self.0 = &self.0[1..];
        let digits = self.digits();
        if digits.is_empty() {
            return None;
        }
        let (kept, finer) = digits.split_at(digits.len().min(6));
        let padded = kept.iter().chain(std::iter::repeat(&b'0')).take(6);
        let micros = padded.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        Some(finer.iter().all(|digit| *digit == b'0').then_some(micros))
    }

    /// `Z`, or the hours and minutes by which the time is ahead of UTC; in seconds.
    fn offset_seconds(&mut self) -> Option<i64> {
        let sign = match self.one_of(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return Some(0),
        };
        let hours = self.number(2).filter(|hours| *hours < 24)?;
        self.one_of(b":")?;
        let minutes = self.number(2).filter(|minutes| *minutes < 60)?;
        Some(sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60))
    }
}

impl Timestamp {
    /// Parses RFC 3339, such as `2010-12-01T08:26:00Z`, and nothing else of ISO 8601. Every part of the text is
    /// kept: a part that can't be stored is an error.
    ///
    /// # Errors
    /// The text is not such a time, or it is one that can't be stored.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        let shown = || text.chars().take(64).collect();
        let read = read(text).ok_or_else(|| TimestampError::NotRfc3339 { text: shown() })?;
        match read {
            Read { second: 60, .. } => Err(TimestampError::LeapSecond { text: shown() }),
            Read { at: None, .. } => Err(TimestampError::TooFine { text: shown() }),
            Read { at: Some(at), .. } => Ok(at),
        }
    }

    /// The point in time, rounded down to a multiple of `width_us` microseconds since 1970.
    pub fn floor(self, width_us: i64) -> Self {
        Self(self.0 - self.0.rem_euclid(width_us))
    }
}

/// A text of the right form.
struct Read {
    second: u32,
    /// `None`: the fraction is finer than a microsecond.
    at: Option<Timestamp>,
}

/// Reads a text of the form `2010-12-01T08:26:00.5+01:00`, if there is such a time.
fn read(text: &str) -> Option<Read> {
    let mut text = Text(text.as_bytes());
    let year = text.number(4)?;
    text.one_of(b"-")?;
    let month = text.number(2)?;
    text.one_of(b"-")?;
    let day = text.number(2)?;
    text.one_of(b"Tt")?;
    let hour = text.number(2).filter(|hour| *hour < 24)?;
    text.one_of(b":")?;
    let minute = text.number(2).filter(|minute| *minute < 60)?;
    text.one_of(b":")?;
    let second = text.number(2).filter(|second| *second <= 60)?;
    let fraction_us = text.fraction_us()?;
    let offset_seconds = text.offset_seconds()?;
    if !text.0.is_empty() {
        return None;
    }
    let small = |number: u32| i8::try_from(number).ok();
    let date = jiff::civil::Date::new(i16::try_from(year).ok()?, small(month)?, small(day)?);
    let epoch = jiff::civil::date(1970, 1, 1);
    let days = date.ok()?.since(epoch).ok()?.get_days();
    let seconds =
        i64::from(days) * 86_400 + i64::from(hour * 3600 + minute * 60 + second) - offset_seconds;
    if !YEARS_1_TO_9999.contains(&seconds) {
        return None;
    }
    let at = fraction_us.map(|micros| Timestamp(seconds * 1_000_000 + micros));
    Some(Read { second, at })
}

/// The seconds since 1970 in the years 1 to 9999.
const YEARS_1_TO_9999: std::ops::Range<i64> = -62_135_596_800..253_402_300_800;

impl std::fmt::Display for Timestamp {
    /// RFC 3339 in UTC, with as many fractional digits as needed. A value beyond the years of RFC 3339 is
    /// printed as a number of microseconds.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => write!(f, "{timestamp}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_parsed_and_printed_as_rfc_3339() {
        let time = Timestamp::parse("2010-12-01T09:26:00+01:00").unwrap();
        assert_eq!(time.0, 1_291_191_960_000_000);
        assert_eq!(time.to_string(), "2010-12-01T08:26:00Z");
    }

    #[test]
    fn every_form_of_rfc_3339_is_read() {
        let noon = Timestamp(1_291_204_800_000_000);
        for (text, micros) in [
            ("2010-12-01T12:00:00Z", 0),
            ("2010-12-01t12:00:00z", 0),
            ("2010-12-01T12:00:00+00:00", 0),
            ("2010-12-01T12:00:00-00:00", 0),
            ("2010-12-02T11:59:00+23:59", 0),
            ("2010-11-30T12:01:00-23:59", 0),
            ("2010-12-01T12:00:00.5Z", 500_000),
            ("2010-12-01T12:00:00.000001Z", 1),
            ("2010-12-01T12:00:00.120000000Z", 120_000),
        ] {
            assert_eq!(
                Timestamp::parse(text),
                Ok(Timestamp(noon.0 + micros)),
                "{text}"
            );
        }
        for (text, seconds) in [
            ("0001-01-01T00:00:00Z", -62_135_596_800),
            ("1969-12-31T23:59:59Z", -1),
            ("2000-02-29T00:00:00Z", 951_782_400),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            let expected = Timestamp(seconds * 1_000_000);
            assert_eq!(Timestamp::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_text_of_another_form_is_refused() {
        for text in [
            "",
            "1/12/2010 8:26",
            "2010-12-01",
            "2010-12-01T12:00:00",
            "2010-12-01T12:00Z",
            "2010-12-01 12:00:00Z",
            "20101201T120000Z",
            "2010-12-01T12:00:00+0100",
            "2010-12-01T12:00:00+01",
            "2010-12-01T12:00:00+25:00",
            "2010-12-01T12:00:00+01:60",
            "2010-12-01T12:00:00+01:00[Europe/Paris]",
            "2010-12-01T12:00:00Z ",
            " 2010-12-01T12:00:00Z",
            "2010-12-01T12:00:00.Z",
            "2010-12-01T12:00:00,5Z",
            "2010-12-01T24:00:00Z",
            "2010-12-01T12:60:00Z",
            "2010-12-01T12:00:61Z",
            "2010-02-29T12:00:00Z",
            "2010-13-01T12:00:00Z",
            "2010-00-01T12:00:00Z",
            "+2010-12-01T12:00:00Z",
            "-000001-01-01T00:00:00Z",
            "10000-01-01T00:00:00Z",
            "0000-12-31T23:59:59Z",
            "9999-12-31T23:59:59-01:00",
            "2010-12-0\u{661}T12:00:00Z",
        ] {
            let refused = Timestamp::parse(text);
            let is_refused = matches!(refused, Err(TimestampError::NotRfc3339 { .. }));
            assert!(is_refused, "not refused: {text}: {refused:?}");
        }
    }

    #[test]
    fn a_time_that_cannot_be_stored_is_refused() {
        let text = "2010-12-01T12:00:00.0000001Z".to_owned();
        let refused = Timestamp::parse(&text);
        assert_eq!(refused, Err(TimestampError::TooFine { text }));
        for text in ["2016-12-31T23:59:60Z", "2010-12-01T08:26:60Z"] {
            let text = text.to_owned();
            let refused = Timestamp::parse(&text);
            assert_eq!(refused, Err(TimestampError::LeapSecond { text }));
        }
    }

    #[test]
    fn floor_rounds_down_before_1970_as_well() {
        assert_eq!(Timestamp(-1).floor(10), Timestamp(-10));
        assert_eq!(Timestamp(19).floor(10), Timestamp(10));
    }
}
