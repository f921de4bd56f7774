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
    /// What the broker drops in time.
    pub retention: Retention,
    /// The registry's subject of the values' schema; `None`: the values are JSON.
    pub subject: Option<&'static str>,
}

/// What the broker drops of a topic in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Nothing.
    Unlimited,
    /// Records, so many milliseconds after the broker took them.
    Milliseconds(i64),
    /// All records of a key but the last.
    LastOfKey,
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

/// Who owns each journal partition: what commands are forwarded by. A hint, for only the journal says
/// who may append. See [`crate::owners`].
pub const OWNERS: TopicSpec = TopicSpec {
    name: "journal.owners",
    key: "<journal topic>/<partition>",
    partitions: 1,
    retention: Retention::LastOfKey,
    subject: None,
};

/// Every topic of ours; to add one, add its line.
pub const TOPICS: [TopicSpec; 5] = [
    journal_topic("journal.orders", "journal.orders-value"),
    journal_topic("journal.catalog", "journal.catalog-value"),
    REVENUE_BY_COUNTRY_HOUR,
    REVENUE_BY_COUNTRY_DAY,
    OWNERS,
];

const fn journal_topic(name: &'static str, subject: &'static str) -> TopicSpec {
    let key = "<aggregate type>_<aggregate id>; empty in announcements and no-ops";
    TopicSpec {
        name,
        key,
        partitions: PARTITIONS,
        retention: Retention::Unlimited,
        subject: Some(subject),
    }
}

const fn aggregate_topic(name: &'static str, subject: &'static str) -> TopicSpec {
    let key = "<window start, RFC 3339>/<country>/<currency>";
    TopicSpec {
        name,
        key,
        partitions: PARTITIONS,
        retention: Retention::Milliseconds(30 * DAY_MS),
        subject: Some(subject),
    }
}

impl TopicSpec {
    /// The topic's configuration in Kafka's own words. LogAppendTime, so that retention never eats
    /// records about old times; a journal is never compacted, for its history is its meaning.
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
        self.subject?;
        Some(match crate::Context::of_topic(self.name) {
            Some(context) => context.schema(),
            None => crate::aggregates::REVENUE_BY_COUNTRY_AVSC.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_context_has_its_topic() {
        for context in crate::CONTEXTS {
            let topic = TOPICS.iter().find(|topic| topic.name == context.topic);
            assert_eq!(topic.and_then(|topic| topic.subject), Some(context.subject));
        }
    }
}
