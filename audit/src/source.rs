//! Reads journal partitions from their first offset to the end offset at start.
//!
//! Partitions are read one after the other, so that the output has the same order each time and only one partition's
//! state is in memory. Following a log reads all partitions at once. The broker reports the partitions of a topic.

use kafka::{
    Admin, BatchConsumer, BoundedReadError, BoundedReader, ConsumerError, Fetch, KafkaSettings,
    Record, RegistryError, admin::AdminError,
};
use schemas::Context;
use tokio::sync::mpsc;

/// Role in the client id that the broker sees.
const ROLE: &str = "audit";
/// Maximum number of batches of a followed log that wait to be printed.
const FOLLOWED_BATCHES_MAX: usize = 4;

/// A partition and its offsets at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The journal's context.
    pub context: &'static Context,
    /// The topic's partition.
    pub partition: i32,
    /// The first offset; above 0 only if the beginning of the log was deleted.
    pub low: i64,
    /// The end offset: the offset of the next record to be appended.
    pub end: i64,
}

/// The reason why the log can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The topics' partitions and offsets can't be fetched.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The topics can't be read to their ends.
    #[error(transparent)]
    Read(#[from] BoundedReadError),
    /// The topics can't be followed.
    #[error(transparent)]
    Follow(#[from] ConsumerError),
    /// The registry does not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Records were deleted from the beginning of the journal, so nothing after them can be judged.
    #[error(
        "topic {topic} partition {partition}: the log begins at offset {low}; the records before it were deleted"
    )]
    BeginningGone {
        /// The journal's topic.
        topic: &'static str,
        /// The topic's partition.
        partition: i32,
        /// The first offset of the partition.
        low: i64,
    },
}

/// Fetches the offsets of all partitions of the contexts' journals.
///
/// # Errors
/// [`SourceError`]: the partitions or their offsets can't be fetched.
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

/// Reads one partition up to its end offset.
pub struct SpanReader {
    reader: BoundedReader,
}

impl SpanReader {
    /// Starts to read a partition at offset 0.
    ///
    /// # Errors
    /// [`SourceError`]: the beginning of the log was deleted, or the consumer can't be started.
    pub fn start(kafka: &KafkaSettings, span: Span) -> Result<Self, SourceError> {
        let Span {
            context,
            partition,
            low,
            end,
        } = span;
        let topic = context.topic;
        if low > 0 {
            return Err(SourceError::BeginningGone {
                topic,
                partition,
                low,
            });
        }
        let spans = [kafka::Span {
            partition,
            low,
            end,
        }];
        let reader = BoundedReader::start(kafka, ROLE, topic, &spans, Fetch::Ahead)?;
        Ok(Self { reader })
    }

    /// The next records; `None` once the end is reached.
    ///
    /// # Errors
    /// [`SourceError`]: the partition can't be read to its end.
    pub async fn next_batch(&mut self) -> Result<Option<Vec<Record>>, SourceError> {
        Ok(self.reader.next().await?)
    }
}

/// A batch of records of one topic.
pub struct Followed {
    /// The journal's context.
    pub context: &'static Context,
    /// The records; within each partition in the order of their offsets.
    pub records: Vec<Record>,
}

/// Reads all partitions at once from their first offset, without an end.
///
/// # Errors
/// [`SourceError`]: a consumer can't be started. Later errors come through the receiver.
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

/// Returns when the receiver is dropped, or after a permanent error.
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
                let topic = context.topic;
                tracing::warn!(topic, %error, "failed to read the journal, retrying");
                continue;
            }
            Err(error) => (Err(SourceError::from(error)), true),
        };
        if sender.send(message).await.is_err() || ends {
            return;
        }
    }
}
