//! Points in time, as the contract stores them.

use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// A text that is not a point in time of the years 1 to 9999.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time: {text:?}")]
pub struct TimestampError {
    /// The text, cut after 64 characters.
    pub text: String,
}

impl Timestamp {
    /// Parses RFC 3339, such as `2010-12-01T08:26:00Z`. Digits below the microsecond are cut off.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        let error = || TimestampError {
            text: text.chars().take(64).collect(),
        };
        let parsed: jiff::Timestamp = text.parse().map_err(|_| error())?;
        let year = parsed.to_zoned(jiff::tz::TimeZone::UTC).year();
        if (1..=9999).contains(&year) {
            Ok(Self(parsed.as_microsecond()))
        } else {
            Err(error())
        }
    }

    /// The point in time, rounded down to a multiple of `width_us` microseconds since 1970.
    pub fn floor(self, width_us: i64) -> Self {
        Self(self.0 - self.0.rem_euclid(width_us))
    }
}

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
        assert!(Timestamp::parse("1/12/2010 8:26").is_err());
        assert!(Timestamp::parse("-000001-01-01T00:00:00Z").is_err());
    }

    #[test]
    fn floor_rounds_down_before_1970_as_well() {
        assert_eq!(Timestamp(-1).floor(10), Timestamp(-10));
        assert_eq!(Timestamp(19).floor(10), Timestamp(10));
    }
}
