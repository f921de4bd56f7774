//! The routes' metrics by journal. They are looked up once, so that counting a command costs only an
//! addition.

use crate::metrics as names;
use metrics::{Counter, counter};

/// The handles of one journal's metrics; see [`crate::metrics`].
pub struct TopicMeters {
    /// Commands taken from other nodes.
    pub forwarded: Counter,
    /// Commands sent on to other nodes.
    pub sent_on: Counter,
    /// Attempts that failed and were repeated.
    pub retries: Counter,
}

/// The metrics of every journal.
pub struct Meters {
    by_topic: Vec<(&'static str, TopicMeters)>,
}

impl Meters {
    /// The metrics of the given journals, at 0, in the recorder that is installed now.
    pub fn new(topics: impl Iterator<Item = &'static str>) -> Self {
        let of_topic = |topic: &'static str| TopicMeters {
            forwarded: counter!(names::FORWARDED, "topic" => topic),
            sent_on: counter!(names::SENT_ON, "topic" => topic),
            retries: counter!(names::RETRIES, "topic" => topic),
        };
        Self {
            by_topic: topics.map(|topic| (topic, of_topic(topic))).collect(),
        }
    }

    /// The metrics of one journal.
    pub fn of(&self, topic: &str) -> &TopicMeters {
        let found = self.by_topic.iter().find(|(known, _)| *known == topic);
        let (_, meters) = found.expect("every journal has metrics");
        meters
    }
}
