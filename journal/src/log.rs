//! The log as readers and owners see it. [`Source`] and [`Kafka`] implement it over Kafka, and
//! `journal-simulator` in memory; the same readers and owners run on both.

use kafka::{
    Admin, Appender, BatchConsumer, ConsumerError, Fetched, KafkaSettings, Registry, Report,
    admin::AdminError,
    appender::{AppendError, AppenderError, PartitionProducer},
};
use std::future::Future;
use tokio::sync::mpsc;

/// A log that can be read.
pub trait ReadLog: Clone + Send + Sync + 'static {
    /// The records of some partitions.
    type Records: RecordStream;

    /// The offset that a partition's next record will get. Records of open transactions count.
    fn end(
        &self,
        topic: &str,
        partition: i32,
    ) -> impl Future<Output = Result<i64, AdminError>> + Send;

    /// The id of the broker that leads a partition, and so stamps its records; `None` if that is not known.
    fn leader(&self, _topic: &str, _partition: i32) -> impl Future<Output = Option<i32>> + Send {
        std::future::ready(None)
    }

    /// Begins to read `topic` at each `(partition, offset)` of `starts`. `role` names the client.
    fn records(
        &self,
        role: &str,
        topic: &str,
        starts: &[(i32, i64)],
    ) -> Result<Self::Records, ConsumerError>;

    /// The registry that has the writers' schemas.
    fn registry(&self) -> &Registry;
}

/// Records, each partition's in the order of their offsets.
///
/// Some offsets have no record: those of control records, which end a transaction of another program. If a
/// partition ends with such offsets, the stream reports its position after them as an end, so that a reader
/// can wait for a position instead of a record.
pub trait RecordStream: Send {
    /// Waits for the next records or ends, at least one. Cancel-safe.
    ///
    /// # Errors
    /// After an error that [`ConsumerError::is_transient`], call again; after any other, give up.
    fn next(&mut self) -> impl Future<Output = Result<Fetched, ConsumerError>> + Send;
}

/// A log that can be appended to.
pub trait Log: ReadLog {
    /// Appends to one partition.
    type Appender: PartitionAppender;

    /// Opens an appender to one partition, and the channel of its delivery reports. At most
    /// `in_flight_max` records may lack a report at any time.
    fn appender(
        &self,
        topic: &str,
        partition: i32,
        in_flight_max: usize,
    ) -> (Self::Appender, mpsc::Receiver<Report>);

    /// Reads the topic's limits again, after a record exceeded one.
    fn refresh_limits(&self, topic: &str) -> impl Future<Output = Result<(), LimitsError>> + Send;
}

/// Why the limits of a topic can't be applied.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// They can't be read.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The producer can't be replaced by one with these limits.
    #[error(transparent)]
    Appender(#[from] AppenderError),
}

/// Appends to one partition, on behalf of its owner.
pub trait PartitionAppender: Send + 'static {
    /// Hands one record over. Its [`Report`] will carry `number`.
    ///
    /// # Errors
    /// Nothing was sent, and no report will come.
    fn append(
        &self,
        key: &[u8],
        value: &[u8],
        headers: &[(&str, &[u8])],
        number: u64,
    ) -> Result<(), AppendError>;

    /// Maximum size of a record's key and value together, in bytes, as far as the topic's limit is known.
    fn record_bytes_max(&self) -> usize;

    /// Replaces the producer if it had a fatal error. Reports of records that were handed to the
    /// previous one may still come.
    fn recover(&self) -> Result<(), AppenderError>;
}

/// Kafka's log, for reading.
#[derive(Clone)]
pub struct Source {
    /// How to reach the brokers.
    pub kafka: KafkaSettings,
    /// Measures the ends of logs.
    pub admin: Admin,
    /// The registry that has the writers' schemas.
    pub registry: Registry,
}

/// Kafka's log, for reading and appending.
#[derive(Clone)]
pub struct Kafka {
    /// Reads.
    pub source: Source,
    /// The node's producer.
    pub appender: Appender,
}

impl ReadLog for Source {
    type Records = BatchConsumer;

    async fn end(&self, topic: &str, partition: i32) -> Result<i64, AdminError> {
        Ok(self.admin.watermarks(topic, partition).await?.high)
    }

    async fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        self.admin.leader(topic, partition).await.ok()
    }

    fn records(
        &self,
        role: &str,
        topic: &str,
        starts: &[(i32, i64)],
    ) -> Result<BatchConsumer, ConsumerError> {
        BatchConsumer::start(&self.kafka, role, topic, starts)
    }

    fn registry(&self) -> &Registry {
        &self.registry
    }
}

impl RecordStream for BatchConsumer {
    async fn next(&mut self) -> Result<Fetched, ConsumerError> {
        self.next_fetched().await
    }
}

impl ReadLog for Kafka {
    type Records = BatchConsumer;

    async fn end(&self, topic: &str, partition: i32) -> Result<i64, AdminError> {
        self.source.end(topic, partition).await
    }

    async fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        self.source.leader(topic, partition).await
    }

    fn records(
        &self,
        role: &str,
        topic: &str,
        starts: &[(i32, i64)],
    ) -> Result<BatchConsumer, ConsumerError> {
        self.source.records(role, topic, starts)
    }

    fn registry(&self) -> &Registry {
        &self.source.registry
    }
}

impl Log for Kafka {
    type Appender = PartitionProducer;

    fn appender(
        &self,
        topic: &str,
        partition: i32,
        in_flight_max: usize,
    ) -> (PartitionProducer, mpsc::Receiver<Report>) {
        self.appender
            .partition_producer(topic, partition, in_flight_max)
    }

    async fn refresh_limits(&self, topic: &str) -> Result<(), LimitsError> {
        let bytes_max = self.source.admin.message_bytes_max(topic).await?;
        Ok(self.appender.set_message_bytes_max(topic, bytes_max)?)
    }
}

impl PartitionAppender for PartitionProducer {
    fn append(
        &self,
        key: &[u8],
        value: &[u8],
        headers: &[(&str, &[u8])],
        number: u64,
    ) -> Result<(), AppendError> {
        self.append(key, value, headers, number)
    }

    fn record_bytes_max(&self) -> usize {
        self.record_bytes_max()
    }

    fn recover(&self) -> Result<(), AppenderError> {
        self.heal()
    }
}
