//! Facts: a journal's events with what a view needs to know of their commits.

use journal::Valid;
use schemas::{ContextEvent, Timestamp};

/// One event, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fact<'a, E> {
    /// The record's key: `<aggregate type>_<aggregate id>`.
    pub key: &'a str,
    /// The commit's offset in its partition.
    pub offset: i64,
    /// The aggregate's version after this event; versions count events.
    pub version: i64,
    /// What happened.
    pub event: &'a E,
}

/// A fact that a view can't take. No other try mends it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// Our own keys are printable ASCII.
    #[error("the key of the commit at offset {offset} is no text")]
    KeyIsNoText {
        /// The commit's offset.
        offset: i64,
    },
    /// A time that no calendar of ours can say.
    #[error("{key} at offset {offset} has a time outside of the years 1 to 9999: {time}")]
    Time {
        /// The record's key.
        key: String,
        /// The commit's offset.
        offset: i64,
        /// The time.
        time: Timestamp,
    },
    /// More lines than a row can say.
    #[error("{key} at offset {offset} has {lines} lines")]
    TooManyLines {
        /// The record's key.
        key: String,
        /// The commit's offset.
        offset: i64,
        /// How many.
        lines: usize,
    },
}

/// The events of some commits, in order.
pub fn of_commits<E: ContextEvent>(commits: &[Valid<E>]) -> Result<Vec<Fact<'_, E>>, FoldError> {
    let mut facts = Vec::with_capacity(commits.len());
    for commit in commits {
        let Some(decision) = commit.decision() else {
            continue;
        };
        let offset = commit.offset;
        let key =
            std::str::from_utf8(&commit.key).map_err(|_| FoldError::KeyIsNoText { offset })?;
        facts.extend(
            (decision.version + 1..)
                .zip(&decision.events)
                .map(|(version, event)| Fact {
                    key,
                    offset,
                    version,
                    event,
                }),
        );
    }
    Ok(facts)
}
