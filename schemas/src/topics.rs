//! Every topic on one page: key, partitions, retention. The number of partitions is final once a
//! topic exists, for a key's partition is `murmur2(key) % partitions`.

/// Partitions of every journal and aggregate topic.
pub const PARTITIONS: i32 = 4;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// How a topic is made, and what is checked of it at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicSpec {
    /// The topic's name.
    pub name: &'static str,
    /// What its records' keys are, in words.
    pub key: &'static str,
    /// Final.
    pub partitions: i32,
    /// Milliseconds since the broker took a record; -1: for ever.
    pub retention_ms: i64,
    /// The registry's subject and schema of the values.
    pub subject: &'static str,
}

/// The windows of the job `revenue_by_country`, an aggregate topic each.
pub const REVENUE_BY_COUNTRY_HOUR: TopicSpec = aggregate_topic(
    "aggregates.revenue_by_country_hour",
    "aggregates.revenue_by_country_hour-value",
);
/// See [`REVENUE_BY_COUNTRY_HOUR`].
pub const REVENUE_BY_COUNTRY_DAY: TopicSpec = aggregate_topic(
    "aggregates.revenue_by_country_day",
    "aggregates.revenue_by_country_day-value",
);

/// Every topic of ours; to add one, add its line.
pub const TOPICS: [TopicSpec; 4] = [
    journal_topic("journal.orders", "journal.orders-value"),
    journal_topic("journal.catalog", "journal.catalog-value"),
    REVENUE_BY_COUNTRY_HOUR,
    REVENUE_BY_COUNTRY_DAY,
];

const fn journal_topic(name: &'static str, subject: &'static str) -> TopicSpec {
    let key = "<aggregate type>_<aggregate id>; empty in announcements and no-ops";
    TopicSpec {
        name,
        key,
        partitions: PARTITIONS,
        retention_ms: -1,
        subject,
    }
}

const fn aggregate_topic(name: &'static str, subject: &'static str) -> TopicSpec {
    let key = "<window start, RFC 3339>/<country>/<currency>";
    TopicSpec {
        name,
        key,
        partitions: PARTITIONS,
        retention_ms: 30 * DAY_MS,
        subject,
    }
}

impl TopicSpec {
    /// The topic's configuration in Kafka's own words. LogAppendTime, so that retention never eats
    /// records about old times; never compacted, for a journal's history is its meaning.
    pub fn config(&self) -> [(&'static str, String); 4] {
        [
            ("cleanup.policy", "delete".to_owned()),
            ("retention.ms", self.retention_ms.to_string()),
            ("retention.bytes", "-1".to_owned()),
            ("message.timestamp.type", "LogAppendTime".to_owned()),
        ]
    }

    /// The Avro schema of the values, as JSON text.
    pub fn schema(&self) -> String {
        match crate::Context::of_topic(self.name) {
            Some(context) => context.schema(),
            None => crate::aggregates::REVENUE_BY_COUNTRY_AVSC.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_context_has_its_topic() {
        for context in crate::CONTEXTS {
            let topic = TOPICS.iter().find(|topic| topic.name == context.topic);
            assert_eq!(topic.map(|topic| topic.subject), Some(context.subject));
        }
    }
}
