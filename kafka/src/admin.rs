//! Topics: made where missing, checked where present, measured.

use crate::settings::{KafkaSettings, SettingsError};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode,
};
use schemas::topics::{Retention, TopicSpec};
use std::{sync::Arc, time::Duration};

/// Longest wait for one answer of the brokers.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How often, and how far apart, it is asked for a topic that was made just now: brokers learn of it one
/// after the other.
const MADE_TRIES: usize = 100;
const MADE_WAIT: Duration = Duration::from_millis(50);

/// Creates, checks and measures topics.
#[derive(Clone)]
pub struct Admin {
    client: Arc<AdminClient<DefaultClientContext>>,
    /// Asks for metadata and watermarks; never assigned anything.
    watcher: Arc<BaseConsumer>,
    brokers: String,
    replication_factor: i32,
}

/// The first offset of a partition and the one that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// The first offset there is.
    pub low: i64,
    /// The offset that the next record will get.
    pub high: i64,
}

/// Why a topic can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// A setting is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No answer; another try may help.
    #[error("kafka at {brokers} does not answer: {reason}")]
    Unreachable {
        /// Where it should be.
        brokers: String,
        /// The client library's words.
        reason: String,
    },
    /// The brokers refuse.
    #[error("topic {topic}: {reason}")]
    Refused {
        /// The topic.
        topic: String,
        /// Their words.
        reason: String,
    },
    /// The topic is there, but not as it must be.
    #[error("topic {topic} has {property} = {found}, it must be {expected}")]
    Mismatch {
        /// The topic.
        topic: String,
        /// What differs.
        property: String,
        /// As it must be.
        expected: String,
        /// As it is.
        found: String,
    },
}

impl AdminError {
    /// Whether another try may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

impl Admin {
    /// A client; nothing is asked yet.
    pub fn new(settings: &KafkaSettings) -> Result<Self, AdminError> {
        settings.check()?;
        let unreachable = |error: KafkaError| AdminError::Unreachable {
            brokers: settings.brokers.clone(),
            reason: error.to_string(),
        };
        Ok(Self {
            client: Arc::new(settings.client("admin").create().map_err(unreachable)?),
            watcher: Arc::new(settings.client("watcher").create().map_err(unreachable)?),
            brokers: settings.brokers.clone(),
            replication_factor: settings.replication_factor,
        })
    }

    /// Makes the topics that are missing, then checks all. Gives the names of those it made.
    pub async fn ensure(&self, specs: &[TopicSpec]) -> Result<Vec<&'static str>, AdminError> {
        let mut made = Vec::new();
        for spec in specs {
            if self.create(spec).await? {
                made.push(spec.name);
            }
        }
        for topic in &made {
            self.await_made(topic).await?;
        }
        for spec in specs {
            self.check(spec).await?;
        }
        Ok(made)
    }

    /// Makes a topic; `false` if it is there already.
    async fn create(&self, spec: &TopicSpec) -> Result<bool, AdminError> {
        let config = spec.config();
        let replication = TopicReplication::Fixed(self.replication_factor);
        let mut topic = NewTopic::new(spec.name, spec.partitions, replication);
        for (name, value) in &config {
            topic = topic.set(name, value);
        }
        if self.replication_factor >= 3 {
            topic = topic
                .set("min.insync.replicas", "2")
                .set("unclean.leader.election.enable", "false");
        }
        let results = self.client.create_topics([&topic], &options()).await;
        match results.map_err(|error| self.unreachable(&error))?.pop() {
            Some(Ok(_)) => Ok(true),
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, code))) if is_passing(code) => Err(self.unreachable(&code)),
            Some(Err((topic, code))) => Err(AdminError::Refused {
                topic,
                reason: code.to_string(),
            }),
            None => Err(AdminError::Refused {
                topic: spec.name.to_owned(),
                reason: "the broker gave no answer for it".into(),
            }),
        }
    }

    /// Waits until the broker that is asked knows of a topic that was made.
    async fn await_made(&self, topic: &str) -> Result<(), AdminError> {
        for _ in 1..MADE_TRIES {
            match self.partitions(topic).await {
                Err(AdminError::Refused { .. }) => tokio::time::sleep(MADE_WAIT).await,
                known => return known.map(drop),
            }
        }
        self.partitions(topic).await.map(drop)
    }

    /// Compares a topic's partitions and configuration with what they must be. A journal must also
    /// still begin at offset 0.
    pub async fn check(&self, spec: &TopicSpec) -> Result<(), AdminError> {
        let mismatch = |property: &str, expected: String, found: String| AdminError::Mismatch {
            topic: spec.name.to_owned(),
            property: property.to_owned(),
            expected,
            found,
        };
        let partitions = self.partitions(spec.name).await?;
        if partitions != spec.partitions {
            return Err(mismatch(
                "partitions",
                spec.partitions.to_string(),
                partitions.to_string(),
            ));
        }
        let resource = ResourceSpecifier::Topic(spec.name);
        let described = self.client.describe_configs([&resource], &options()).await;
        let described = described.map_err(|error| self.unreachable(&error))?.pop();
        let Some(Ok(described)) = described else {
            let reason = "its configuration can't be read".to_owned();
            return Err(AdminError::Refused {
                topic: spec.name.to_owned(),
                reason,
            });
        };
        for (name, expected) in spec.config() {
            let found = described
                .get(name)
                .and_then(|entry| entry.value.clone())
                .unwrap_or_default();
            if found != expected {
                return Err(mismatch(name, expected, found));
            }
        }
        if spec.retention == Retention::Unlimited {
            for partition in 0..spec.partitions {
                let low = self.watermarks(spec.name, partition).await?.low;
                if low != 0 {
                    let property = format!("first offset of partition {partition}");
                    return Err(mismatch(&property, "0".into(), low.to_string()));
                }
            }
        }
        Ok(())
    }

    /// How many partitions a topic has.
    pub async fn partitions(&self, topic: &str) -> Result<i32, AdminError> {
        let name = topic.to_owned();
        let metadata = self
            .blocking(move |watcher| watcher.fetch_metadata(Some(&name), ADMIN_TIMEOUT))
            .await?;
        let refused = |reason: String| AdminError::Refused {
            topic: topic.to_owned(),
            reason,
        };
        match metadata.topics().first() {
            Some(found) if found.error().is_none() => i32::try_from(found.partitions().len())
                .map_err(|_| refused("more partitions than can be".into())),
            Some(found) => Err(refused(found.error().map_or_else(
                || "it can't be used".to_owned(),
                |error| RDKafkaErrorCode::from(error).to_string(),
            ))),
            None => Err(refused("there is no such topic".into())),
        }
    }

    /// Where a partition begins and ends now.
    pub async fn watermarks(&self, topic: &str, partition: i32) -> Result<Watermarks, AdminError> {
        let name = topic.to_owned();
        let (low, high) = self
            .blocking(move |watcher| watcher.fetch_watermarks(&name, partition, ADMIN_TIMEOUT))
            .await?;
        Ok(Watermarks { low, high })
    }

    /// Deletes topics and all that is in them. For tests and for `--wipe`; nothing else calls it.
    pub async fn delete(&self, topics: &[&str]) -> Result<(), AdminError> {
        let results = self.client.delete_topics(topics, &options()).await;
        for result in results.map_err(|error| self.unreachable(&error))? {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
                Err((topic, code)) => {
                    return Err(AdminError::Refused {
                        topic,
                        reason: code.to_string(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Runs a call of the client library that blocks, away from the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&BaseConsumer) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, AdminError> {
        let watcher = self.watcher.clone();
        match tokio::task::spawn_blocking(move || call(&watcher)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.unreachable(&error)),
            Err(error) => Err(self.unreachable(&error)),
        }
    }

    fn unreachable(&self, error: &dyn std::fmt::Display) -> AdminError {
        AdminError::Unreachable {
            brokers: self.brokers.clone(),
            reason: error.to_string(),
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(ADMIN_TIMEOUT))
        .request_timeout(Some(ADMIN_TIMEOUT))
}

/// Whether brokers that are still starting say so. Too few of them for the copies asked for is such
/// a word as well: they may be on their way.
fn is_passing(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::NotController
            | RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::InvalidReplicationFactor
            | RDKafkaErrorCode::BrokerNotAvailable
    )
}
