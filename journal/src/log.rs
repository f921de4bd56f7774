//! What readers and owners need of a log. Kafka's is [`Source`] and [`Kafka`]; the simulator has one
//! in memory, and the same readers and owners run on both.

use crate::protocol::{Protocol, Sound};
use kafka::{
    Admin, Appender, BatchConsumer, ConsumerError, KafkaSettings, Record, Registry, Report,
    admin::AdminError,
    appender::{AppendError, AppendLine, AppenderError},
};
use std::future::Future;
use tokio::sync::mpsc;

/// A log that can be read.
pub trait ReadLog: Clone + Send + Sync + 'static {
    /// The mistakes that its readers and owners make; [`Sound`]: none.
    type Protocol: Protocol;
    /// Gives the records of some partitions.
    type Feed: Feed;

    /// The offset that a partition's next record will get.
    fn end(
        &self,
        topic: &str,
        partition: i32,
    ) -> impl Future<Output = Result<i64, AdminError>> + Send;

    /// Begins to read `topic` at `(partition, offset)` each. `role` names the client.
    fn feed(
        &self,
        role: &str,
        topic: &str,
        starts: &[(i32, i64)],
    ) -> Result<Self::Feed, ConsumerError>;

    /// Knows the writers' schemas.
    fn registry(&self) -> &Registry;
}

/// Records in the order of their offsets.
pub trait Feed: Send {
    /// Waits for the next ones: at least one. Cancel-safe.
    ///
    /// After an error that [`ConsumerError::is_transient`], call again; after another, give up.
    fn next(&mut self) -> impl Future<Output = Result<Vec<Record>, ConsumerError>> + Send;
}

/// A log that can be appended to.
pub trait Log: ReadLog {
    /// Where one partition's owner appends.
    type Line: Line;

    /// Opens a line to one partition, and gives what its reports come through. No more than
    /// `under_way_max` records may be without a report at any time.
    fn line(
        &self,
        topic: &str,
        partition: i32,
        under_way_max: usize,
    ) -> (Self::Line, mpsc::Receiver<Report>);
}

/// Where one partition's owner appends.
pub trait Line: Send + 'static {
    /// Hands one record over; its [`Report`] will bear `number`. An error means that nothing was
    /// sent, and no report will come.
    fn append(
        &self,
        key: &[u8],
        value: &[u8],
        headers: &[(&str, &[u8])],
        number: u64,
    ) -> Result<(), AppendError>;

    /// Makes the producer work again if it is beyond repair. Reports of what was handed to the old
    /// one may still come.
    fn mend(&self) -> Result<(), AppenderError>;
}

/// Kafka's log, to read.
#[derive(Clone)]
pub struct Source {
    /// How to reach the brokers.
    pub kafka: KafkaSettings,
    /// Measures the log at start.
    pub admin: Admin,
    /// Knows the writers' schemas.
    pub registry: Registry,
}

/// Kafka's log, to read and to append to.
#[derive(Clone)]
pub struct Kafka {
    /// To read.
    pub source: Source,
    /// The process's producer.
    pub appender: Appender,
}

impl ReadLog for Source {
    type Protocol = Sound;
    type Feed = BatchConsumer;

    async fn end(&self, topic: &str, partition: i32) -> Result<i64, AdminError> {
        Ok(self.admin.watermarks(topic, partition).await?.high)
    }

    fn feed(
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

impl Feed for BatchConsumer {
    async fn next(&mut self) -> Result<Vec<Record>, ConsumerError> {
        self.next().await
    }
}

impl ReadLog for Kafka {
    type Protocol = Sound;
    type Feed = BatchConsumer;

    async fn end(&self, topic: &str, partition: i32) -> Result<i64, AdminError> {
        self.source.end(topic, partition).await
    }

    fn feed(
        &self,
        role: &str,
        topic: &str,
        starts: &[(i32, i64)],
    ) -> Result<BatchConsumer, ConsumerError> {
        self.source.feed(role, topic, starts)
    }

    fn registry(&self) -> &Registry {
        &self.source.registry
    }
}

impl Log for Kafka {
    type Line = AppendLine;

    fn line(
        &self,
        topic: &str,
        partition: i32,
        under_way_max: usize,
    ) -> (AppendLine, mpsc::Receiver<Report>) {
        self.appender.line(topic, partition, under_way_max)
    }
}

impl Line for AppendLine {
    fn append(
        &self,
        key: &[u8],
        value: &[u8],
        headers: &[(&str, &[u8])],
        number: u64,
    ) -> Result<(), AppendError> {
        self.append(key, value, headers, number)
    }

    fn mend(&self) -> Result<(), AppenderError> {
        self.mend()
    }
}
