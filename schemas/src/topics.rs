//! All topics: key, partitions, retention and schema of each. The number of partitions is final once a topic
//! exists, because a key's partition is `murmur2(key) % partitions`.

use crate::context::{CONTEXTS, Context};

/// A partition of one of our topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: &'static str,
    /// From 0.
    pub partition: i32,
}

impl std::fmt::Display for TopicPartition {
    /// `<topic>/<partition>`, as in `journal.orders/1`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// The number of partitions of each topic, as the broker reports it. It is final per topic, but differs between
/// deployments, so no code assumes a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionCounts {
    counts: std::collections::BTreeMap<&'static str, i32>,
}

impl PartitionCounts {
    /// Counts by topic name, one for every topic in [`TOPICS`].
    ///
    /// # Panics
    /// If a topic of [`TOPICS`] is missing or has no partition. The caller has checked the broker's answer.
    pub fn new(counts: impl IntoIterator<Item = (&'static str, i32)>) -> Self {
        let counts: std::collections::BTreeMap<_, _> = counts.into_iter().collect();
        for topic in TOPICS {
            let count = counts.get(topic.name).copied().unwrap_or(0);
            assert!(count > 0, "topic {} has {count} partitions", topic.name);
        }
        Self { counts }
    }

    /// The same number for every topic: for tests and simulations.
    pub fn uniform(partitions: i32) -> Self {
        Self::new(TOPICS.iter().map(|topic| (topic.name, partitions)))
    }

    /// The number of partitions of one of our topics.
    ///
    /// # Panics
    /// If the topic is not in [`TOPICS`].
    pub fn of(&self, topic: &str) -> i32 {
        *self
            .counts
            .get(topic)
            .unwrap_or_else(|| panic!("{topic} is not in schemas::topics::TOPICS"))
    }

    /// Every partition of every journal, in the order of the contexts.
    pub fn journal_partitions(&self) -> impl Iterator<Item = TopicPartition> + '_ {
        CONTEXTS.into_iter().flat_map(|context| {
            let topic = context.topic;
            (0..self.of(topic)).map(move |partition| TopicPartition { topic, partition })
        })
    }
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// How a topic is created, and which of its properties are checked at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicSpec {
    /// The topic's name, without the prefix that a deployment may give it.
    pub name: &'static str,
    /// The form of its records' keys, as text for operators.
    pub key: &'static str,
    /// How many partitions it is created with.
    pub partitions: Partitions,
    /// The records that the broker may delete.
    pub retention: Retention,
    /// The Avro schema of its values; `None`: they are JSON.
    pub schema: Option<ValueSchema>,
}

/// How many partitions a topic is created with. The number is final: a key's partition depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partitions {
    /// The number in the settings when the topic is created; afterwards the broker's number.
    Setting,
    /// Always this number, because the code relies on it.
    Fixed(i32),
}

/// The records of a topic that the broker may delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// None.
    Unlimited,
    /// Records that it received more than this many milliseconds ago.
    Milliseconds(i64),
    /// All records of a key but the last.
    LastOfKey,
}

/// Where the Avro schema of a topic's values comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueSchema {
    /// The values are commits of this context.
    Journal(&'static Context),
    /// The schema as JSON text.
    Record(&'static str),
}

/// The hourly windows of the job `revenue_by_country`.
pub const REVENUE_BY_COUNTRY_HOUR: TopicSpec =
    aggregate_topic("aggregates.revenue_by_country_hour");
/// The daily windows of the job `revenue_by_country`.
pub const REVENUE_BY_COUNTRY_DAY: TopicSpec = aggregate_topic("aggregates.revenue_by_country_day");

/// The owner of each journal partition, so that nodes can forward commands. It is a hint; only the journal
/// decides who may append. It has one partition, so that its entries have one order. See [`crate::owners`].
pub const OWNERS: TopicSpec = TopicSpec {
    name: "journal.owners",
    key: "<journal topic>/<partition>",
    partitions: Partitions::Fixed(1),
    retention: Retention::LastOfKey,
    schema: None,
};

/// Topics that are not a context's journal; to add one, add its line.
const OTHER_TOPICS: [TopicSpec; 3] = [REVENUE_BY_COUNTRY_HOUR, REVENUE_BY_COUNTRY_DAY, OWNERS];

/// All our topics: each context's journal, then the others.
pub const TOPICS: [TopicSpec; CONTEXTS.len() + OTHER_TOPICS.len()] = {
    let mut topics = [OWNERS; CONTEXTS.len() + OTHER_TOPICS.len()];
    let mut index = 0;
    while index < topics.len() {
        topics[index] = match index.checked_sub(CONTEXTS.len()) {
            None => journal_topic(CONTEXTS[index]),
            Some(other) => OTHER_TOPICS[other],
        };
        index += 1;
    }
    topics
};

const fn journal_topic(context: &'static Context) -> TopicSpec {
    TopicSpec {
        name: context.topic,
        key: "<aggregate type>_<aggregate id>; empty in announcements and no-ops",
        partitions: Partitions::Setting,
        retention: Retention::Unlimited,
        schema: Some(ValueSchema::Journal(context)),
    }
}

const fn aggregate_topic(name: &'static str) -> TopicSpec {
    TopicSpec {
        name,
        key: "<window start, RFC 3339>/<country>/<currency>",
        partitions: Partitions::Setting,
        retention: Retention::Milliseconds(30 * DAY_MS),
        schema: Some(ValueSchema::Record(
            crate::aggregates::REVENUE_BY_COUNTRY_AVSC,
        )),
    }
}

impl TopicSpec {
    /// The topic's configuration by Kafka's names. The broker timestamps records (LogAppendTime), so that retention
    /// does not delete a new record whose event is old. A journal is never compacted, because its history is the
    /// data.
    pub fn config(&self) -> [(&'static str, String); 4] {
        let (policy, retention_ms) = match self.retention {
            Retention::Unlimited => ("delete", -1),
            Retention::Milliseconds(time) => ("delete", time),
            Retention::LastOfKey => ("compact", -1),
        };
        [
            ("cleanup.policy", policy.to_owned()),
            ("retention.ms", retention_ms.to_string()),
            ("retention.bytes", "-1".to_owned()),
            ("message.timestamp.type", "LogAppendTime".to_owned()),
        ]
    }

    /// The Avro schema of the values, as JSON text; `None`: they are JSON.
    pub fn schema(&self) -> Option<String> {
        self.schema.map(|schema| match schema {
            ValueSchema::Journal(context) => context.schema(),
            ValueSchema::Record(text) => text.to_owned(),
        })
    }

    /// The registry's subject of the values' schema, as its TopicNameStrategy names it, so that other
    /// clients find it; without the prefix that a deployment may give it. `None`: the values are JSON.
    pub fn subject(&self) -> Option<String> {
        self.schema.map(|_| format!("{}-value", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_context_has_its_topic() {
        for context in crate::CONTEXTS {
            let topic = TOPICS.iter().find(|topic| topic.name == context.topic);
            let topic = topic.unwrap_or_else(|| panic!("{} is not in TOPICS", context.topic));
            assert_eq!(topic.schema, Some(ValueSchema::Journal(context)));
            assert_eq!(topic.subject().as_deref(), Some(context.subject));
        }
    }
}
