//! Reads journal partitions from their first offset to their end as it stood at the start.
//!
//! One partition after the other, so that the output is in the same order each time and only one
//! partition's state is held. Following a log reads all partitions at once.

use kafka::{
    Admin, BatchConsumer, ConsumerError, KafkaSettings, Record, RegistryError, admin::AdminError,
};
use schemas::Context;
use std::time::Duration;
use tokio::{sync::mpsc, time::timeout};

/// The name of our clients at the broker.
const ROLE: &str = "audit";
/// Longest wait for the next records of a partition that has more of them.
const STALL_MAX: Duration = Duration::from_secs(30);
/// Batches of a followed log that wait to be printed.
const FOLLOWED_BATCHES_MAX: usize = 4;

/// A partition and what was in it at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Whose journal.
    pub context: &'static Context,
    /// The topic's partition.
    pub partition: i32,
    /// The first offset that there is; 0, unless its history was lost.
    pub low: i64,
    /// The offset that came next.
    pub end: i64,
}

/// Why the log can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The topics can't be measured.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The topics can't be read.
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
    /// The registry does not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// No more records come, though there should be some.
    #[error(
        "topic {topic} partition {partition}: no record from offset {next} on came within {} s, though the log ends at {end}{}",
        STALL_MAX.as_secs(),
        because(.last_error)
    )]
    Stalled {
        /// The journal's topic.
        topic: &'static str,
        /// The topic's partition.
        partition: i32,
        /// The offset waited for.
        next: i64,
        /// The log's end.
        end: i64,
        /// What the client said last.
        last_error: Option<ConsumerError>,
    },
    /// A journal is kept whole; without its beginning nothing can be judged.
    #[error(
        "topic {topic} partition {partition}: the log begins at offset {low}, its beginning is gone"
    )]
    BeginningGone {
        /// The journal's topic.
        topic: &'static str,
        /// The topic's partition.
        partition: i32,
        /// The first offset there is.
        low: i64,
    },
}

fn because(last_error: &Option<ConsumerError>) -> String {
    last_error
        .as_ref()
        .map_or_else(String::new, |error| format!("; last error: {error}"))
}

/// Measures all partitions of the contexts' journals.
pub async fn spans(
    kafka: &KafkaSettings,
    contexts: &[&'static Context],
) -> Result<Vec<Span>, SourceError> {
    let admin = Admin::new(kafka)?;
    let mut spans = Vec::new();
    for &context in contexts {
        for partition in 0..admin.partitions(context.topic).await? {
            let marks = admin.watermarks(context.topic, partition).await?;
            spans.push(Span {
                context,
                partition,
                low: marks.low,
                end: marks.high,
            });
        }
    }
    Ok(spans)
}

/// Reads one partition up to its end.
pub struct SpanReader {
    span: Span,
    next: i64,
    /// `None` for an empty partition.
    consumer: Option<BatchConsumer>,
}

impl SpanReader {
    /// Begins at the first offset.
    pub fn start(kafka: &KafkaSettings, span: Span) -> Result<Self, SourceError> {
        let topic = span.context.topic;
        if span.low > 0 {
            return Err(SourceError::BeginningGone {
                topic,
                partition: span.partition,
                low: span.low,
            });
        }
        let starts = [(span.partition, 0)];
        let consumer = match span.end > 0 {
            true => Some(BatchConsumer::start(kafka, ROLE, topic, &starts)?),
            false => None,
        };
        Ok(Self {
            span,
            next: 0,
            consumer,
        })
    }

    /// The next records; none once the end is reached.
    pub async fn next_batch(&mut self) -> Result<Option<Vec<Record>>, SourceError> {
        let Some(consumer) = &mut self.consumer else {
            return Ok(None);
        };
        if self.next >= self.span.end {
            return Ok(None);
        }
        let mut last_error = None;
        let waited = timeout(STALL_MAX, async {
            loop {
                match consumer.next().await {
                    Err(error) if error.is_transient() => {
                        tracing::warn!(%error, "reading the journal again");
                        last_error = Some(error);
                    }
                    other => return other,
                }
            }
        })
        .await;
        let Ok(batch) = waited else {
            return Err(SourceError::Stalled {
                topic: self.span.context.topic,
                partition: self.span.partition,
                next: self.next,
                end: self.span.end,
                last_error,
            });
        };
        let mut batch = batch?;
        if let Some(last) = batch.last() {
            self.next = last.offset + 1;
        }
        batch.retain(|record| record.offset < self.span.end);
        Ok(Some(batch))
    }
}

/// Records of one topic as they come.
pub struct Followed {
    /// Whose journal.
    pub context: &'static Context,
    /// In each partition in the order of their offsets.
    pub records: Vec<Record>,
}

/// Reads all partitions at once from their first offset on, for ever.
pub fn follow(
    kafka: &KafkaSettings,
    spans: &[Span],
) -> Result<mpsc::Receiver<Result<Followed, SourceError>>, SourceError> {
    let (sender, receiver) = mpsc::channel(FOLLOWED_BATCHES_MAX);
    for topic_spans in spans.chunk_by(|one, other| one.context == other.context) {
        let starts: Vec<(i32, i64)> = topic_spans.iter().map(|span| (span.partition, 0)).collect();
        let context = topic_spans[0].context;
        let consumer = BatchConsumer::start(kafka, ROLE, context.topic, &starts)?;
        tokio::spawn(follow_topic(context, consumer, sender.clone()));
    }
    Ok(receiver)
}

/// Ends when nobody listens any more, or with an error that waiting does not mend.
async fn follow_topic(
    context: &'static Context,
    mut consumer: BatchConsumer,
    sender: mpsc::Sender<Result<Followed, SourceError>>,
) {
    loop {
        let next = tokio::select! {
            next = consumer.next() => next,
            () = sender.closed() => return,
        };
        let (message, ends) = match next {
            Ok(records) => (Ok(Followed { context, records }), false),
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "reading the journal again");
                continue;
            }
            Err(error) => (Err(SourceError::from(error)), true),
        };
        if sender.send(message).await.is_err() || ends {
            return;
        }
    }
}
