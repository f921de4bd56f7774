//! The routes' metrics by journal, looked up once: a command on its way costs them an addition.

use crate::metrics as names;
use metrics::{Counter, counter};
use schemas::CONTEXTS;

/// The handles of one journal's metrics; see [`crate::metrics`].
pub struct OfTopic {
    /// Commands taken from other processes.
    pub forwarded: Counter,
    /// Commands sent on to other processes.
    pub sent_on: Counter,
    /// Tries that led nowhere.
    pub tried_again: Counter,
}

/// The metrics of every journal.
pub struct Meters {
    by_topic: Vec<(&'static str, OfTopic)>,
}

impl Default for Meters {
    /// All of them, at 0. They go where the process's recorder is now.
    fn default() -> Self {
        let of_topic = |topic: &'static str| OfTopic {
            forwarded: counter!(names::FORWARDED, "topic" => topic),
            sent_on: counter!(names::SENT_ON, "topic" => topic),
            tried_again: counter!(names::TRIED_AGAIN, "topic" => topic),
        };
        let topics = CONTEXTS.into_iter().map(|context| context.topic);
        Self {
            by_topic: topics.map(|topic| (topic, of_topic(topic))).collect(),
        }
    }
}

impl Meters {
    /// One journal's.
    pub fn of(&self, topic: &str) -> &OfTopic {
        let found = self.by_topic.iter().find(|(known, _)| *known == topic);
        let (_, meters) = found.expect("there are metrics for every journal");
        meters
    }
}
