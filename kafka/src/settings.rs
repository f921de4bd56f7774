//! How to reach the brokers and the registry.

use rdkafka::ClientConfig;
use serde::Deserialize;
use std::collections::BTreeMap;

/// How to reach the brokers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaSettings {
    /// Bootstrap servers, `host:port` with commas between them. Default `127.0.0.1:9092`.
    pub brokers: String,
    /// Copies of each partition of a topic that we create. Default 1; production wants 3, and then
    /// two of them must have a record before it counts as written.
    pub replication_factor: i32,
    /// Further client settings in librdkafka's own names, such as `security.protocol`,
    /// `ssl.ca.location`, `sasl.mechanism`, `sasl.username` and `sasl.password`. Default: none. What
    /// correctness rests on (acks, idempotence, isolation) can't be set here.
    pub properties: BTreeMap<String, String>,
    /// How command processes divide partitions among them: `classic`, or `consumer` (KIP-848), whose
    /// session time-out is the brokers' own setting, 45 s by default: that long nobody takes a killed
    /// process's place. Default `classic`.
    pub group_protocol: GroupProtocol,
}

/// A consumer group's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupProtocol {
    /// Rebalanced by its members, cooperatively.
    #[default]
    Classic,
    /// Rebalanced by the brokers (KIP-848).
    Consumer,
}

/// How to reach the schema registry (Confluent's API).
#[derive(Debug, Clone, Deserialize)]
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
    /// Correctness rests on this one.
    #[error("kafka.properties must not set {name}: daybook's guarantees rest on it")]
    Reserved {
        /// The property's name.
        name: String,
    },
    /// The build lacks the cargo feature.
    #[error("kafka.properties asks for {protocol}, which needs a build with `--features tls`")]
    NoTls {
        /// The protocol asked for.
        protocol: String,
    },
    /// Not a number of copies.
    #[error("kafka.replication_factor is {value}; it must be 1 to 32767")]
    ReplicationFactor {
        /// What was set.
        value: i32,
    },
}

/// Properties that the appender's, the consumer's and the group's guarantees rest on.
const RESERVED: [&str; 19] = [
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
];

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".into(),
            replication_factor: 1,
            properties: BTreeMap::new(),
            group_protocol: GroupProtocol::default(),
        }
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
    /// Refuses what would break a guarantee or can't work in this build.
    pub fn check(&self) -> Result<(), SettingsError> {
        if let Some(name) = RESERVED
            .iter()
            .find(|name| self.properties.contains_key(**name))
        {
            return Err(SettingsError::Reserved {
                name: (*name).to_owned(),
            });
        }
        let protocol = self.properties.get("security.protocol").map(String::as_str);
        match protocol {
            Some(protocol)
                if !protocol.eq_ignore_ascii_case("plaintext") && !cfg!(feature = "tls") =>
            {
                Err(SettingsError::NoTls {
                    protocol: protocol.to_owned(),
                })
            }
            _ if !(1..=32_767).contains(&self.replication_factor) => {
                Err(SettingsError::ReplicationFactor {
                    value: self.replication_factor,
                })
            }
            _ => Ok(()),
        }
    }

    /// What every client of ours starts from; `role` shows in the broker's logs.
    pub(crate) fn client(&self, role: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", format!("daybook-{role}"))
            .set("allow.auto.create.topics", "false")
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "1000")
            // Connections to brokers that nobody talks to are closed by them; that is no fault.
            .set("log.connection.close", "false");
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
    fn refuses_what_guarantees_rest_on() {
        assert!(matches!(
            with("acks", "1").check(),
            Err(SettingsError::Reserved { .. })
        ));
        assert_eq!(with("sasl.username", "me").check(), Ok(()));
        assert_eq!(with("security.protocol", "PLAINTEXT").check(), Ok(()));
        #[cfg(not(feature = "tls"))]
        assert!(matches!(
            with("security.protocol", "ssl").check(),
            Err(SettingsError::NoTls { .. })
        ));
    }
}
