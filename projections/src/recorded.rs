//! Recorded events: a journal's events with the data of their commits that views need.

use journal::Valid;
use schemas::{Body, Timestamp};

/// The years 1 to 9999, in microseconds since 1970.
const CALENDAR_US: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;

/// One event with its position in the log.
#[derive(Debug, PartialEq)]
pub struct Recorded<'a, E> {
    /// The record's key, which names the aggregate: `<aggregate type>_<aggregate id>`.
    pub key: &'a str,
    /// The commit's offset in its partition.
    pub offset: i64,
    /// The aggregate's version after this event; versions count events, so the first event has version 1.
    pub version: i64,
    /// Log time of the commit.
    pub recorded_at: Timestamp,
    /// The event itself.
    pub event: &'a E,
}

// A derived implementation would require events that are `Clone` and `Copy`.
impl<E> Clone for Recorded<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Recorded<'_, E> {}

/// An event that a view can't apply. A retry gives the same error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// The key is not UTF-8; our own keys are printable ASCII.
    #[error("key of the commit at offset {offset} is not UTF-8")]
    KeyNotText {
        /// The commit's offset.
        offset: i64,
    },
    /// A time that RFC 3339 can't express.
    #[error("{key} at offset {offset} has a time outside of the years 1 to 9999: {time}")]
    Time {
        /// The record's key.
        key: String,
        /// The commit's offset.
        offset: i64,
        /// The time.
        time: Timestamp,
    },
    /// More items than a row's counter can hold.
    #[error("{key} at offset {offset} has {count} lines, more than a row can count")]
    TooManyLines {
        /// The record's key.
        key: String,
        /// The commit's offset.
        offset: i64,
        /// Lines in the event.
        count: usize,
    },
    /// A sum beyond 64 bits.
    #[error("{key} at offset {offset} takes the sum {column} beyond 64 bits")]
    Overflow {
        /// The record's key.
        key: String,
        /// The commit's offset.
        offset: i64,
        /// The sum's column.
        column: &'static str,
    },
    /// Events between the stored row and this event are missing.
    #[error("{key} at offset {offset} has version {version}, but the stored row has {stored}")]
    Gap {
        /// The record's key.
        key: String,
        /// The commit's offset.
        offset: i64,
        /// The event's version.
        version: i64,
        /// The version that the row or its deletion has.
        stored: i64,
    },
    /// The event changes a row that is not stored.
    #[error("{key} at offset {offset} with version {version} needs a row that is not stored")]
    MissingRow {
        /// The record's key.
        key: String,
        /// The commit's offset.
        offset: i64,
        /// The event's version.
        version: i64,
    },
    /// The view's `apply` returned a row with another version than its event's: a bug in the view.
    #[error("row of {key} at offset {offset} has version {found} instead of {version}")]
    WrongVersion {
        /// The record's key.
        key: String,
        /// The commit's offset.
        offset: i64,
        /// The event's version.
        version: i64,
        /// The row's version.
        found: i64,
    },
}

impl FoldError {
    /// The aggregate's key and the offset of the event; `None` if the key is not UTF-8.
    pub fn aggregate(&self) -> Option<(&str, i64)> {
        match self {
            Self::KeyNotText { .. } => None,
            Self::Time { key, offset, .. }
            | Self::TooManyLines { key, offset, .. }
            | Self::Overflow { key, offset, .. }
            | Self::Gap { key, offset, .. }
            | Self::MissingRow { key, offset, .. }
            | Self::WrongVersion { key, offset, .. } => Some((key, *offset)),
        }
    }
}

impl<E> Recorded<'_, E> {
    /// Checks that the time is one that our databases and clients can express.
    ///
    /// # Errors
    /// [`FoldError::Time`] outside of the years 1 to 9999.
    pub fn calendar_time(&self, time: Timestamp) -> Result<Timestamp, FoldError> {
        match is_in_calendar(time) {
            true => Ok(time),
            false => Err(FoldError::Time {
                key: self.key.to_owned(),
                offset: self.offset,
                time,
            }),
        }
    }

    /// Converts a number of lines to the type of its column.
    ///
    /// # Errors
    /// [`FoldError::TooManyLines`] above 2^31 - 1.
    pub fn line_count(&self, count: usize) -> Result<i32, FoldError> {
        i32::try_from(count).map_err(|_| FoldError::TooManyLines {
            key: self.key.to_owned(),
            offset: self.offset,
            count,
        })
    }

    /// Adds the event's part to a sum of a row.
    ///
    /// # Errors
    /// [`FoldError::Overflow`] beyond 64 bits.
    pub fn add(&self, column: &'static str, sum: i64, part: i64) -> Result<i64, FoldError> {
        sum.checked_add(part).ok_or_else(|| FoldError::Overflow {
            key: self.key.to_owned(),
            offset: self.offset,
            column,
        })
    }

    /// The error for an event that changes a missing row.
    pub fn missing_row(&self) -> FoldError {
        FoldError::MissingRow {
            key: self.key.to_owned(),
            offset: self.offset,
            version: self.version,
        }
    }
}

/// Whether a time lies in the years 1 to 9999, as every [`Timestamp`] that was parsed from text does.
pub fn is_in_calendar(time: Timestamp) -> bool {
    CALENDAR_US.contains(&time.0)
}

/// The events of some commits, in order.
///
/// # Errors
/// [`FoldError::KeyNotText`] for a key that is not UTF-8.
pub fn recorded_events<E>(commits: &[Valid<E>]) -> Result<Vec<Recorded<'_, E>>, FoldError> {
    let mut recorded = Vec::with_capacity(commits.len());
    for commit in commits {
        let decision = match &commit.commit.body {
            Body::Decision(decision) => decision,
            Body::Announcement(_) | Body::NoOp(_) => continue,
        };
        let offset = commit.offset;
        let key = std::str::from_utf8(&commit.key).map_err(|_| FoldError::KeyNotText { offset })?;
        let recorded_at = commit.commit.recorded_at;
        let versions = decision.version + 1..;
        recorded.extend(
            versions
                .zip(&decision.events)
                .map(|(version, event)| Recorded {
                    key,
                    offset,
                    version,
                    recorded_at,
                    event,
                }),
        );
    }
    Ok(recorded)
}
