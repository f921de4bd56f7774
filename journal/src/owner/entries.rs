//! The entries of an owner's index tables.

use super::request::Answer;
use foldhash::HashMap;
use schemas::{Origin, Outcome, Timestamp, ids::CommandId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const HOUR_US: i64 = 60 * 60 * 1_000_000;
/// How long a client may retry a key, in microseconds of log time.
const KEYED_US: i64 = 24 * HOUR_US;
/// How long an answer to a command without a key is kept, in microseconds of log time.
const SERVER_US: i64 = HOUR_US / 6;

/// How long answers are kept. The numbers are in the keys of the state store's expiry entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// Never expires.
    Unlimited = 0,
    /// As long as a client may retry a key.
    Keyed = 1,
    /// As long as the answer to a command without a key is kept.
    Server = 2,
}

/// An aggregate's version and state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Aggregate<S> {
    pub version: i64,
    pub state: S,
}

/// An answer that is in the log. Kept small, because there is one per command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredAnswer {
    pub hash: [u8; 16],
    pub recorded_at: Timestamp,
    pub origin: Origin,
    pub offset: i64,
    pub version: i64,
    pub events: usize,
    /// Rare, so boxed.
    pub outcome: Option<Box<Outcome>>,
}

/// The entries of the next write, or of the one in progress.
pub(super) struct Unsaved<S> {
    pub aggregates: HashMap<Arc<str>, Arc<Aggregate<S>>>,
    pub answers: Vec<(CommandId, StoredAnswer)>,
}

impl StoredAnswer {
    /// The answer as it was first given.
    pub fn answer(&self, partition: i32) -> Answer {
        Answer {
            partition,
            offset: self.offset,
            version: self.version,
            events: self.events,
            outcome: self.outcome.as_deref().cloned(),
            replayed: false,
        }
    }

    /// Whether it has expired.
    pub fn is_expired(&self, log_time: Timestamp) -> bool {
        Lifetime::of(self.origin).is_over(self.recorded_at, log_time)
    }
}

impl Lifetime {
    pub const ALL: [Self; 3] = [Self::Unlimited, Self::Keyed, Self::Server];

    pub fn of(origin: Origin) -> Self {
        match origin {
            Origin::Policy | Origin::Timer | Origin::Unknown => Self::Unlimited,
            Origin::Keyed => Self::Keyed,
            Origin::Server => Self::Server,
        }
    }

    /// In microseconds of log time; `None`: without a limit.
    pub fn us(self) -> Option<i64> {
        match self {
            Self::Unlimited => None,
            Self::Keyed => Some(KEYED_US),
            Self::Server => Some(SERVER_US),
        }
    }

    /// Whether an answer of `recorded_at` has expired.
    pub fn is_over(self, recorded_at: Timestamp, log_time: Timestamp) -> bool {
        self.us()
            .is_some_and(|us| log_time.0.saturating_sub(recorded_at.0) > us)
    }
}

impl<S> Default for Unsaved<S> {
    fn default() -> Self {
        Self {
            aggregates: HashMap::default(),
            answers: Vec::new(),
        }
    }
}
