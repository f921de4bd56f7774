//! Creates missing topics, checks existing ones, and measures partitions.

mod durability;
mod ends;
mod error;

pub use error::AdminError;

use crate::{prefix::TopicPrefix, settings::KafkaSettings};
use durability::durability;
use error::{config_hidden, is_transient, is_unsettled, mismatch, not_settled, refused};
use rdkafka::{
    admin::{
        AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    metadata::MetadataPartition,
    types::RDKafkaErrorCode,
};
use schemas::topics::{PartitionCounts, Partitions, Retention, TopicSpec};
use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::Semaphore, time::Instant};

/// The property of a topic's configuration that limits the size of a batch.
const MESSAGE_BYTES: &str = "max.message.bytes";
/// Longest wait for one answer of the brokers.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait until a new topic has settled. Brokers learn of a new topic one after the other, and a loaded
/// broker becomes the leader of a partition late.
const TOPIC_READY_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait until a partition has another leader.
const LEADER_SETTLES_WITHIN: Duration = Duration::from_secs(5);
/// Time between two attempts while a topic has not settled.
const SETTLE_INTERVAL: Duration = Duration::from_millis(100);

/// Maximum number of concurrent calls of the client library. Each call occupies a thread until the brokers answer, and
/// all owners of a process may call at the same time.
const CALLS_MAX: usize = 64;

/// Creates, checks and measures topics, by their logical names. Every request may fail with a transient error (see
/// [`AdminError::is_transient`]).
#[derive(Clone)]
pub struct Admin {
    client: Arc<AdminClient<DefaultClientContext>>,
    /// Requests metadata and watermarks; it is never assigned a partition.
    watcher: Arc<BaseConsumer>,
    settings: Arc<KafkaSettings>,
    prefix: TopicPrefix,
    calls: Arc<Semaphore>,
    /// The topics whose number of partitions was reported to differ from the setting.
    reported: Arc<Mutex<BTreeSet<&'static str>>>,
}

/// The first offset of a partition, and the offset of its next record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// The first offset.
    pub low: i64,
    /// The offset that the next record will get.
    pub high: i64,
}

impl Admin {
    /// Creates a client, without a request to the brokers.
    pub fn new(settings: &KafkaSettings) -> Result<Self, AdminError> {
        settings.check()?;
        let unreachable = |error: KafkaError| AdminError::Unreachable {
            brokers: settings.brokers.clone(),
            reason: error.to_string(),
        };
        Ok(Self {
            client: Arc::new(settings.client("admin").create().map_err(unreachable)?),
            watcher: Arc::new(
                settings
                    .reading_client("watcher")
                    .create()
                    .map_err(unreachable)?,
            ),
            settings: Arc::new(settings.clone()),
            prefix: TopicPrefix::of(settings),
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            reported: Arc::default(),
        })
    }

    /// Creates the missing topics, then checks all topics. Returns the names of the created topics. If all topics
    /// exist, this needs no right to create or change topics.
    ///
    /// A topic that exists keeps its number of partitions; a difference from the setting is logged once.
    pub async fn ensure(&self, specs: &[TopicSpec]) -> Result<Vec<&'static str>, AdminError> {
        let mut created = Vec::new();
        for spec in specs {
            if !self.exists(spec.name).await? && self.create(spec).await? {
                created.push(spec.name);
            }
        }
        for spec in specs {
            let found = self.check_settled(spec).await?;
            self.report_other_count(spec, found);
        }
        Ok(created)
    }

    /// Checks a topic that exists, and that each partition's leader answers. Repeats the check for a bounded time until
    /// the topic has settled. Returns the topic's number of partitions.
    async fn check_settled(&self, spec: &TopicSpec) -> Result<i32, AdminError> {
        settled(TOPIC_READY_TIMEOUT, || async move {
            let found = self.partitions(spec.name).await?;
            let expected = match spec.partitions {
                Partitions::Fixed(partitions) => partitions,
                Partitions::Setting => found,
            };
            self.check(spec, expected).await?;
            for partition in 0..found {
                self.request_watermarks(spec.name, partition).await?;
            }
            Ok(found)
        })
        .await
    }

    /// Whether the brokers know a topic.
    pub async fn exists(&self, topic: &str) -> Result<bool, AdminError> {
        match self.topic_metadata(topic).await? {
            Ok(_) | Err(Some(RDKafkaErrorCode::LeaderNotAvailable)) => Ok(true),
            Err(Some(RDKafkaErrorCode::UnknownTopicOrPartition) | None) => Ok(false),
            Err(Some(code)) => Err(self.topic_error(topic, code)),
        }
    }

    /// Creates a topic; `false` if it exists.
    async fn create(&self, spec: &TopicSpec) -> Result<bool, AdminError> {
        let (name, config) = (self.prefix.add(spec.name), spec.config());
        let replication = TopicReplication::Fixed(self.settings.replication_factor);
        let mut topic = NewTopic::new(&name, self.settings.partitions_of(spec), replication);
        for (name, value) in &config {
            topic = topic.set(name, value);
        }
        for (name, value) in durability(self.settings.replication_factor) {
            topic = topic.set(name, value);
        }
        let results = self.client.create_topics([&topic], &options()).await;
        match results.map_err(|error| self.unreachable(&error))?.pop() {
            Some(Ok(_)) => Ok(true),
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, code))) => Err(self.topic_error(spec.name, code)),
            None => Err(refused(spec.name, &"the broker gave no answer for it")),
        }
    }

    /// Warns once about an existing topic whose number of partitions differs from the setting.
    fn report_other_count(&self, spec: &TopicSpec, found: i32) {
        let setting = self.settings.partitions_of(spec);
        let mut reported = self.reported.lock().expect("no holder of this lock panics");
        if found != setting && reported.insert(spec.name) {
            tracing::warn!(
                topic = spec.name,
                partitions = found,
                setting,
                "the topic keeps its number of partitions; the setting applies at creation only"
            );
        }
    }

    /// Compares a topic's configuration and number of partitions with the required ones; `partitions` is the
    /// number that was read at start. A journal must also still begin at offset 0.
    pub async fn check(&self, spec: &TopicSpec, partitions: i32) -> Result<(), AdminError> {
        let found = self.partitions(spec.name).await?;
        if found != partitions {
            return Err(mismatch(spec, "partitions", partitions, found));
        }
        self.check_config(spec).await?;
        match spec.retention {
            Retention::Unlimited => self.check_beginnings(spec, found).await,
            Retention::Milliseconds(_) | Retention::LastOfKey => Ok(()),
        }
    }

    /// The largest producer batch that the topic accepts, in bytes: its `max.message.bytes`.
    pub async fn message_bytes_max(&self, topic: &str) -> Result<usize, AdminError> {
        let found = value_of(&self.config(topic).await?, MESSAGE_BYTES);
        found
            .parse()
            .map_err(|error| refused(topic, &format!("{MESSAGE_BYTES} is {found:?}: {error}")))
    }

    async fn config(&self, topic: &str) -> Result<ConfigResource, AdminError> {
        let name = self.prefix.add(topic);
        let resource = ResourceSpecifier::Topic(&name);
        let described = self.client.describe_configs([&resource], &options()).await;
        match described.map_err(|error| self.unreachable(&error))?.pop() {
            Some(Ok(described)) if described.entries.is_empty() => Err(config_hidden(topic)),
            Some(Ok(described)) => Ok(described),
            Some(Err(code)) => Err(match self.topic_error(topic, code) {
                AdminError::Refused { topic, reason } => {
                    let reason = format!("its configuration can't be read: {reason}");
                    AdminError::Refused { topic, reason }
                }
                error => error,
            }),
            None => Err(refused(topic, &"its configuration can't be read")),
        }
    }

    async fn check_config(&self, spec: &TopicSpec) -> Result<(), AdminError> {
        let described = self.config(spec.name).await?;
        for (name, expected) in spec.config() {
            let found = value_of(&described, name);
            if found != expected {
                return Err(mismatch(spec, name, expected, found));
            }
        }
        Ok(())
    }

    async fn check_beginnings(&self, spec: &TopicSpec, partitions: i32) -> Result<(), AdminError> {
        for partition in 0..partitions {
            let low = self.watermarks(spec.name, partition).await?.low;
            if low != 0 {
                let property = format!("first offset of partition {partition}");
                return Err(mismatch(spec, &property, 0, low));
            }
        }
        Ok(())
    }

    /// The number of partitions of each topic at the brokers.
    ///
    /// # Panics
    /// If `specs` lacks a topic of [`schemas::topics::TOPICS`].
    pub async fn partition_counts(
        &self,
        specs: &[TopicSpec],
    ) -> Result<PartitionCounts, AdminError> {
        let mut counts = Vec::with_capacity(specs.len());
        for spec in specs {
            counts.push((spec.name, self.partitions(spec.name).await?));
        }
        Ok(PartitionCounts::new(counts))
    }

    /// The number of partitions of a topic: at least one.
    pub async fn partitions(&self, topic: &str) -> Result<i32, AdminError> {
        match self.topic_metadata(topic).await? {
            Ok(0) => Err(not_settled(topic, &"it has no partitions yet")),
            Ok(partitions) => i32::try_from(partitions).map_err(|error| refused(topic, &error)),
            Err(None) => Err(not_settled(topic, &"the brokers do not know the topic")),
            Err(Some(code)) => Err(self.topic_error(topic, code)),
        }
    }

    /// A topic's number of partitions, or the brokers' error about the topic; `None` if the brokers return no entry for
    /// it.
    async fn topic_metadata(
        &self,
        topic: &str,
    ) -> Result<Result<usize, Option<RDKafkaErrorCode>>, AdminError> {
        let name = self.prefix.add(topic);
        let metadata = self
            .blocking(move |watcher| watcher.fetch_metadata(Some(&name), ADMIN_TIMEOUT))
            .await?;
        let Some(found) = metadata.topics().first() else {
            return Ok(Err(None));
        };
        Ok(match found.error() {
            None => Ok(found.partitions().len()),
            Some(error) => Err(Some(RDKafkaErrorCode::from(error))),
        })
    }

    /// The id of the broker that leads a partition.
    pub async fn leader(&self, topic: &str, partition: i32) -> Result<i32, AdminError> {
        let name = self.prefix.add(topic);
        let metadata = self
            .blocking(move |watcher| watcher.fetch_metadata(Some(&name), ADMIN_TIMEOUT))
            .await?;
        let mut topics = metadata.topics().iter();
        let found = topics.find_map(|topic| {
            let mut partitions = topic.partitions().iter();
            partitions.find(|found| found.id() == partition)
        });
        match found.map(MetadataPartition::leader) {
            Some(leader) if leader >= 0 => Ok(leader),
            Some(_) | None => Err(not_settled(topic, &"the partition has no leader")),
        }
    }

    /// A partition's current first offset and end. The end includes the records of open transactions. Waits a bounded
    /// time for the partition's leader.
    pub async fn watermarks(&self, topic: &str, partition: i32) -> Result<Watermarks, AdminError> {
        settled(LEADER_SETTLES_WITHIN, || {
            self.request_watermarks(topic, partition)
        })
        .await
    }

    async fn request_watermarks(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Watermarks, AdminError> {
        let name = self.prefix.add(topic);
        let asked = self.blocking(move |watcher| {
            match watcher.fetch_watermarks(&name, partition, ADMIN_TIMEOUT) {
                Err(error) if error.rdkafka_error_code().is_some_and(is_unsettled) => {
                    Ok(Err(error))
                }
                Err(error) => Err(error),
                Ok(watermarks) => Ok(Ok(watermarks)),
            }
        });
        let (low, high) = asked.await?.map_err(|error| not_settled(topic, &error))?;
        Ok(Watermarks { low, high })
    }

    /// Deletes topics with all their records. Only tests and benchmarks call it.
    pub async fn delete(&self, topics: &[&str]) -> Result<(), AdminError> {
        let names: Vec<String> = topics.iter().map(|topic| self.prefix.add(topic)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let results = self.client.delete_topics(&names, &options()).await;
        for result in results.map_err(|error| self.unreachable(&error))? {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
                Err((name, code)) => return Err(refused(self.prefix.strip(&name), &code)),
            }
        }
        Ok(())
    }

    /// Runs a blocking call of the client library on a thread for blocking calls; at most [`CALLS_MAX`] run at once.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&BaseConsumer) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, AdminError> {
        let watcher = self.watcher.clone();
        let slot = self.calls.clone().acquire_owned().await;
        let slot = Arc::new(Mutex::new(Some(
            slot.expect("the semaphore is never closed"),
        )));
        let taken = slot.clone();
        let call = move || {
            let slot = taken.lock().expect("no holder panics").take();
            // The caller took the slot back when it returned an error, so nobody waits for this call.
            let Some(_slot) = slot else {
                return Err(KafkaError::Canceled);
            };
            call(&watcher)
        };
        // If the operating system has no thread for the call, the runtime queues the call and panics. The panic would
        // end the process, although a retry may get a thread.
        let started = catch_unwind(AssertUnwindSafe(|| tokio::task::spawn_blocking(call)));
        let Ok(started) = started else {
            slot.lock().expect("no holder panics").take();
            return Err(self.unreachable(&"the operating system has no thread for the request"));
        };
        match started.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.unreachable(&error)),
            Err(error) => Err(self.unreachable(&error)),
        }
    }

    /// The error about a topic for which the brokers returned this code.
    fn topic_error(&self, topic: &str, code: RDKafkaErrorCode) -> AdminError {
        match code {
            code if is_unsettled(code) => not_settled(topic, &code),
            code if is_transient(code) => self.unreachable(&code),
            code => refused(topic, &code),
        }
    }

    fn unreachable(&self, error: &dyn std::fmt::Display) -> AdminError {
        AdminError::Unreachable {
            brokers: self.settings.brokers.clone(),
            reason: error.to_string(),
        }
    }
}

/// The value of a property in a topic's configuration; empty if the broker does not know the property.
fn value_of(config: &ConfigResource, field: &str) -> String {
    let entry = config.get(field);
    entry
        .and_then(|entry| entry.value.clone())
        .unwrap_or_default()
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(ADMIN_TIMEOUT))
        .request_timeout(Some(ADMIN_TIMEOUT))
}

/// Repeats a request for a bounded time while the topic has not settled.
async fn settled<T, Requested: Future<Output = Result<T, AdminError>>>(
    bound: Duration,
    request: impl Fn() -> Requested,
) -> Result<T, AdminError> {
    let ends_at = Instant::now() + bound;
    loop {
        match request().await {
            Err(AdminError::NotSettled { .. }) if Instant::now() < ends_at => {
                tokio::time::sleep(SETTLE_INTERVAL).await;
            }
            answered => return answered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A request that is answered from its third attempt on.
    async fn third_attempt(attempts: &Cell<u32>) -> Result<u32, AdminError> {
        attempts.set(attempts.get() + 1);
        match attempts.get() {
            3.. => Ok(attempts.get()),
            _ => Err(not_settled("journal.orders", &"no leader")),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_repeated_until_the_topic_has_settled_or_the_time_is_over() {
        let attempts = Cell::new(0);
        let answer = settled(2 * SETTLE_INTERVAL, || third_attempt(&attempts)).await;
        assert_eq!(answer.unwrap(), 3);
        attempts.set(0);
        let late = settled(SETTLE_INTERVAL, || third_attempt(&attempts)).await;
        let expected = not_settled("journal.orders", &"no leader").to_string();
        assert_eq!(late.unwrap_err().to_string(), expected);
        let refused = async || Err::<(), _>(refused("journal.orders", &"not allowed"));
        let answer = settled(TOPIC_READY_TIMEOUT, refused).await;
        assert!(
            matches!(answer, Err(AdminError::Refused { .. })),
            "{answer:?} instead of Err(AdminError::Refused)"
        );
    }

    /// A stack size for which no machine has enough memory, so that no thread starts.
    const STACK_BYTES: usize = 1 << 60;

    #[test]
    fn a_lack_of_threads_is_a_transient_error() {
        let settings = KafkaSettings {
            brokers: "127.0.0.1:1".into(),
            ..KafkaSettings::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .unwrap();
        let admin = Admin::new(&settings).unwrap();
        // The failed calls must free their slots, or the last one would wait.
        for _ in 0..=CALLS_MAX {
            let error = runtime.block_on(admin.watermarks("journal.orders", 0));
            let error = error.unwrap_err();
            assert!(error.is_transient(), "not transient: {error}");
            let (text, part) = (error.to_string(), "has no thread");
            assert!(text.contains(part), "no {part:?} in: {text}");
        }
    }

    #[tokio::test]
    async fn a_topic_that_a_broker_does_not_know_yet_is_transient() {
        // This client sends no request, so it needs no broker.
        let admin = Admin::new(&KafkaSettings {
            brokers: "127.0.0.1:1".into(),
            ..KafkaSettings::default()
        })
        .unwrap();
        let is_transient = |code| admin.topic_error("journal.orders", code).is_transient();
        for (code, expected) in [
            (RDKafkaErrorCode::UnknownTopicOrPartition, true),
            (RDKafkaErrorCode::LeaderNotAvailable, true),
            (RDKafkaErrorCode::NotLeaderForPartition, true),
            (RDKafkaErrorCode::InvalidReplicationFactor, true),
            (RDKafkaErrorCode::NotController, true),
            (RDKafkaErrorCode::TopicAuthorizationFailed, false),
            (RDKafkaErrorCode::InvalidTopic, false),
        ] {
            assert_eq!(is_transient(code), expected, "{code:?}");
        }
        let unknown =
            admin.topic_error("journal.orders", RDKafkaErrorCode::UnknownTopicOrPartition);
        assert!(
            matches!(&unknown, AdminError::NotSettled { topic, .. } if topic == "journal.orders"),
            "{unknown:?} instead of NotSettled about journal.orders"
        );
    }
}
