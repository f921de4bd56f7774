//! How to reach the brokers and the registry.

use rdkafka::ClientConfig;
use schemas::topics::{Partitions, TOPICS, TopicSpec};
use serde::Deserialize;
use std::{collections::BTreeMap, fmt, ops::RangeInclusive};

/// Longest [`KafkaSettings::topic_prefix`], in characters. Kafka allows names of 249.
pub const TOPIC_PREFIX_LENGTH_MAX: usize = 100;
/// Maximum number of partitions of a topic.
pub const PARTITIONS_MAX: i32 = 10_000;
/// Maximum number of copies of a partition: Kafka has 16 bits for the number.
const REPLICATION_FACTOR_MAX: i32 = 32_767;
/// Shortest and longest [`KafkaSettings::topic_check_interval_ms`].
const TOPIC_CHECK_INTERVAL_MS: RangeInclusive<u64> = 500..=3_600_000;

/// How to reach the brokers, and how topics are named and created.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaSettings {
    /// Bootstrap servers, `host:port` with commas between them. Default `127.0.0.1:9092`.
    pub brokers: String,
    /// Prefix of the names of this deployment's topics, registry subjects and consumer groups, so that several
    /// deployments can share a cluster. All nodes and tools of a deployment need the same prefix. At most
    /// [`TOPIC_PREFIX_LENGTH_MAX`] characters: letters, digits, `.`, `_` and `-`. Default: empty.
    ///
    /// The prefix separates deployments in Kafka and in the registry only. The other stores have settings of
    /// their own, which must differ as well: `postgres.url` (the database), `cql.keyspace` and
    /// `commands.state_dir`.
    pub topic_prefix: String,
    /// Number of partitions of each topic that is created, 1 to [`PARTITIONS_MAX`]. It has no effect on an existing
    /// topic: the number of its partitions is final, and is read from the brokers. Default 4.
    pub partitions: i32,
    /// The number of partitions of individual topics, by their names without the prefix, such as
    /// `{"journal.orders"=12}`. Default: empty, so [`KafkaSettings::partitions`] applies to all topics.
    pub partitions_by_topic: BTreeMap<String, i32>,
    /// Copies of each partition of a topic that is created, 1 to 32767. With 2 or more, two of them must have a
    /// record before it counts as written, so use 3 in production. Default 1.
    pub replication_factor: i32,
    /// Further client settings in librdkafka's own names, such as `security.protocol`,
    /// `ssl.ca.location`, `sasl.mechanism`, `sasl.username` and `sasl.password`. Settings that
    /// correctness depends on (acks, idempotence, isolation) are refused, and so are those that Daybook sets
    /// itself (`linger.ms`, `compression.type`, the sizes of queues). Default: none.
    pub properties: BTreeMap<String, String>,
    /// How nodes divide partitions among themselves: `classic`, or `consumer` (KIP-848), whose session timeout is the
    /// brokers' setting, 45 s by default: a killed node's partitions have no owner for that time. Default `classic`.
    pub group_protocol: GroupProtocol,
    /// Time between two checks of the topics' configurations and of the journals' logs, in milliseconds, 500 to
    /// 3,600,000. Nodes notice within this time that a journal was deleted or truncated, and write to it until then.
    /// Default 60,000.
    pub topic_check_interval_ms: u64,
}

/// A consumer group's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupProtocol {
    /// The members divide the partitions, with cooperative rebalances.
    #[default]
    Classic,
    /// The brokers divide the partitions (KIP-848).
    Consumer,
}

/// How to reach the schema registry (Confluent's API).
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistrySettings {
    /// Base address. Default `http://127.0.0.1:8081/apis/ccompat/v7`.
    pub url: String,
    /// Longest wait for one answer, in milliseconds. Default 5,000.
    pub timeout_ms: u64,
}

/// A setting that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Correctness depends on this property, or each client has a value of its own.
    #[error(
        "kafka.properties must not set {name}: daybook sets it, or its guarantees depend on it"
    )]
    Reserved {
        /// The property's name.
        name: String,
    },
    /// This build lacks the cargo feature for TLS.
    #[error("kafka.properties asks for {protocol}, which needs a build with `--features tls`")]
    NoTls {
        /// The protocol asked for.
        protocol: String,
    },
    /// Kafka would refuse the topics' names.
    #[error(
        "kafka.topic_prefix is {value:?}; it may have up to {TOPIC_PREFIX_LENGTH_MAX} letters, digits, '.', '_' and '-'"
    )]
    TopicPrefix {
        /// The setting's value.
        value: String,
    },
    /// The number of partitions is out of its bounds.
    #[error("{setting} is {value}; it must be 1 to {PARTITIONS_MAX}")]
    Partitions {
        /// The setting's name.
        setting: String,
        /// The setting's value.
        value: i32,
    },
    /// The number of partitions of the named topic can't be set.
    #[error(
        "kafka.partitions_by_topic names {topic:?}; it may name {}",
        settable_topics()
    )]
    PartitionsOfUnknown {
        /// The name.
        topic: String,
    },
    /// The interval is out of its bounds.
    #[error(
        "kafka.topic_check_interval_ms is {value}; it must be {} to {}",
        TOPIC_CHECK_INTERVAL_MS.start(),
        TOPIC_CHECK_INTERVAL_MS.end()
    )]
    TopicCheckInterval {
        /// The setting's value.
        value: u64,
    },
    /// The replication factor is out of its bounds.
    #[error("kafka.replication_factor is {value}; it must be 1 to {REPLICATION_FACTOR_MAX}")]
    ReplicationFactor {
        /// The setting's value.
        value: i32,
    },
}

/// The topics whose number of partitions is a setting.
fn settable_topics() -> String {
    let topics = TOPICS.iter().filter(|topic| is_settable(topic));
    topics
        .map(|topic| topic.name)
        .collect::<Vec<_>>()
        .join(", ")
}

fn is_settable(topic: &TopicSpec) -> bool {
    topic.partitions == Partitions::Setting
}

/// Properties that the guarantees of appender, consumer and group depend on, and those that our clients set
/// themselves, each with its other names in librdkafka. A user's value for one of them would have no effect.
pub(crate) const RESERVED: [&str; 46] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "delivery.report.only.error",
    "message.max.bytes",
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "transactional.id",
    "isolation.level",
    "auto.offset.reset",
    "enable.auto.commit",
    "allow.auto.create.topics",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "partition.assignment.strategy",
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "auto.commit.enable",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "client.id",
    "topic.metadata.refresh.interval.ms",
    "socket.timeout.ms",
    "partitioner",
    "compression.type",
    "compression.codec",
    "linger.ms",
    "queue.buffering.max.ms",
    "batch.size",
    "batch.num.messages",
    "queue.buffering.max.messages",
    "queue.buffering.max.kbytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "fetch.min.bytes",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "max.partition.fetch.bytes",
    "queued.min.messages",
    "queued.max.messages.kbytes",
    "receive.message.max.bytes",
    "retries",
    "message.send.max.retries",
];

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".into(),
            topic_prefix: String::new(),
            partitions: 4,
            partitions_by_topic: BTreeMap::new(),
            replication_factor: 1,
            properties: BTreeMap::new(),
            group_protocol: GroupProtocol::default(),
            topic_check_interval_ms: 60_000,
        }
    }
}

impl fmt::Debug for KafkaSettings {
    /// Leaves out the values of [`KafkaSettings::properties`], because one of them may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            brokers,
            topic_prefix,
            partitions,
            partitions_by_topic,
            replication_factor,
            properties,
            group_protocol,
            topic_check_interval_ms,
        } = self;
        let names: Vec<&String> = properties.keys().collect();
        f.debug_struct("KafkaSettings")
            .field("brokers", brokers)
            .field("topic_prefix", topic_prefix)
            .field("partitions", partitions)
            .field("partitions_by_topic", partitions_by_topic)
            .field("replication_factor", replication_factor)
            .field("properties", &names)
            .field("group_protocol", group_protocol)
            .field("topic_check_interval_ms", topic_check_interval_ms)
            .finish()
    }
}

impl fmt::Debug for RegistrySettings {
    /// Leaves out the address, because it may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrySettings")
            .field("timeout_ms", &self.timeout_ms)
            .finish_non_exhaustive()
    }
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8081/apis/ccompat/v7".into(),
            timeout_ms: 5_000,
        }
    }
}

impl KafkaSettings {
    /// Refuses settings that would break a guarantee or can't work in this build.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.check_properties()?;
        self.check_topic_prefix()?;
        self.check_partitions()?;
        if !TOPIC_CHECK_INTERVAL_MS.contains(&self.topic_check_interval_ms) {
            return Err(SettingsError::TopicCheckInterval {
                value: self.topic_check_interval_ms,
            });
        }
        match self.replication_factor {
            1..=REPLICATION_FACTOR_MAX => Ok(()),
            value => Err(SettingsError::ReplicationFactor { value }),
        }
    }

    fn check_properties(&self) -> Result<(), SettingsError> {
        let mut reserved = RESERVED.iter();
        if let Some(name) = reserved.find(|name| self.properties.contains_key(**name)) {
            return Err(SettingsError::Reserved {
                name: (*name).to_owned(),
            });
        }
        let needs_tls = |protocol: &str| {
            let without = ["plaintext", "sasl_plaintext"];
            !without
                .iter()
                .any(|name| protocol.eq_ignore_ascii_case(name))
        };
        match self.properties.get("security.protocol") {
            Some(protocol) if needs_tls(protocol) && !cfg!(feature = "tls") => {
                Err(SettingsError::NoTls {
                    protocol: protocol.to_owned(),
                })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn check_topic_prefix(&self) -> Result<(), SettingsError> {
        let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let prefix = &self.topic_prefix;
        match prefix.len() <= TOPIC_PREFIX_LENGTH_MAX && prefix.bytes().all(is_legal) {
            true => Ok(()),
            false => Err(SettingsError::TopicPrefix {
                value: prefix.clone(),
            }),
        }
    }

    fn check_partitions(&self) -> Result<(), SettingsError> {
        let check = |setting: &dyn Fn() -> String, value: i32| match value {
            1..=PARTITIONS_MAX => Ok(()),
            _ => Err(SettingsError::Partitions {
                setting: setting(),
                value,
            }),
        };
        check(&|| "kafka.partitions".into(), self.partitions)?;
        for (name, partitions) in &self.partitions_by_topic {
            let mut topics = TOPICS.iter().filter(|topic| is_settable(topic));
            if !topics.any(|topic| topic.name == name) {
                return Err(SettingsError::PartitionsOfUnknown {
                    topic: name.clone(),
                });
            }
            check(
                &|| format!("kafka.partitions_by_topic of {name}"),
                *partitions,
            )?;
        }
        Ok(())
    }

    /// The number of partitions with which a topic is created.
    pub(crate) fn partitions_of(&self, topic: &TopicSpec) -> i32 {
        match topic.partitions {
            Partitions::Fixed(partitions) => partitions,
            Partitions::Setting => {
                let own = self.partitions_by_topic.get(topic.name);
                own.copied().unwrap_or(self.partitions)
            }
        }
    }

    /// The configuration that all our clients begin with; `role` shows in the broker's logs.
    pub(crate) fn client(&self, role: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        // The user's values replace these.
        config
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "1000")
            // Brokers close idle connections, which is not an error.
            .set("log.connection.close", "false");
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", format!("daybook-{role}"))
            .set("allow.auto.create.topics", "false");
        config
    }

    /// The configuration of a client that reads or measures topics. An open transaction of another program must not
    /// hide the records after it. So a topic's end is after its last record, not at the start of the first open
    /// transaction.
    pub(crate) fn reading_client(&self, role: &str) -> ClientConfig {
        let mut config = self.client(role);
        config.set("isolation.level", "read_uncommitted");
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> KafkaSettings {
        let properties = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        KafkaSettings {
            properties,
            ..KafkaSettings::default()
        }
    }

    #[test]
    fn properties_that_guarantees_depend_on_are_refused() {
        let checked = with("acks", "1").check();
        assert!(
            matches!(checked, Err(SettingsError::Reserved { .. })),
            "{checked:?} instead of Reserved"
        );
        #[cfg(not(feature = "tls"))]
        {
            let checked = with("security.protocol", "ssl").check();
            assert!(
                matches!(checked, Err(SettingsError::NoTls { .. })),
                "{checked:?} instead of NoTls"
            );
        }
        assert_eq!(with("sasl.username", "me").check(), Ok(()));
        for protocol in ["PLAINTEXT", "sasl_plaintext"] {
            assert_eq!(with("security.protocol", protocol).check(), Ok(()));
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        let settings = with("sasl.password", "hunter2");
        let registry = RegistrySettings {
            url: "https://me:hunter2@registry".into(),
            ..RegistrySettings::default()
        };
        let printed = format!("{settings:?}{settings:#?}{registry:?}");
        assert!(
            printed.contains("sasl.password"),
            "no \"sasl.password\" in: {printed}"
        );
        assert!(!printed.contains("hunter2"), "\"hunter2\" in: {printed}");
    }

    #[test]
    fn a_topic_prefix_makes_names_that_kafka_allows() {
        let prefixed = |prefix: &str| KafkaSettings {
            topic_prefix: prefix.into(),
            ..KafkaSettings::default()
        };
        let longest = "x".repeat(TOPIC_PREFIX_LENGTH_MAX);
        for legal in ["", "us-west.", "Test_7.", &longest] {
            assert_eq!(prefixed(legal).check(), Ok(()), "{legal}");
        }
        for illegal in ["us west", "a/", "\u{fc}", &format!("{longest}x")] {
            let error = prefixed(illegal).check().unwrap_err().to_string();
            assert!(
                error.starts_with("kafka.topic_prefix is"),
                "no \"kafka.topic_prefix is\" at the start of: {error}"
            );
        }
        for topic in TOPICS {
            let length = TOPIC_PREFIX_LENGTH_MAX + topic.name.len();
            let name = topic.name;
            assert!(length <= 249, "{name}: {length} instead of at most 249");
        }
    }

    #[test]
    fn topics_are_checked_at_an_interval_with_bounds() {
        let with = |topic_check_interval_ms| KafkaSettings {
            topic_check_interval_ms,
            ..KafkaSettings::default()
        };
        assert_eq!(with(500).check(), Ok(()));
        for value in [0, 499, 3_600_001] {
            let error = with(value).check().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("kafka.topic_check_interval_ms is {value}; it must be 500 to 3600000")
            );
        }
    }

    #[test]
    fn a_topic_has_its_own_number_of_partitions_or_the_common_one() {
        let with = |partitions: i32, own: &[(&str, i32)]| KafkaSettings {
            partitions,
            partitions_by_topic: own
                .iter()
                .map(|(topic, partitions)| ((*topic).to_owned(), *partitions))
                .collect(),
            ..KafkaSettings::default()
        };
        let settings = with(6, &[("journal.orders", 12)]);
        assert_eq!(settings.check(), Ok(()));
        for topic in TOPICS {
            let expected = match (topic.partitions, topic.name) {
                (Partitions::Fixed(partitions), _) => partitions,
                (Partitions::Setting, "journal.orders") => 12,
                (Partitions::Setting, _) => 6,
            };
            assert_eq!(settings.partitions_of(&topic), expected, "{}", topic.name);
        }
        for (settings, name) in [
            (with(0, &[]), "kafka.partitions is 0"),
            (
                with(4, &[("journal.orders", PARTITIONS_MAX + 1)]),
                "kafka.partitions_by_topic of journal.orders is 10001",
            ),
            (
                with(4, &[("journal.owners", 2)]),
                "kafka.partitions_by_topic names \"journal.owners\"; it may name ",
            ),
        ] {
            let error = settings.check().unwrap_err().to_string();
            assert!(
                error.starts_with(name),
                "no {name:?} at the start of: {error}"
            );
        }
    }
}
