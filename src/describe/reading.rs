//! Reads a partition from its beginning to the end that it has now, and reports its progress.

use kafka::{
    Admin, BoundedReadError, BoundedReader, Fetch, KafkaSettings, Record, admin::AdminError,
};
use schemas::topics::TopicPartition;
use std::{ops::ControlFlow, time::Duration};
use tokio::time::Instant;

/// The name of our clients at the broker.
const ROLE: &str = "describe";
/// Time between two progress messages of a long reading.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// A partition and the offsets of its records.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub topic: &'static str,
    pub partition: i32,
    /// The first offset that the log has.
    pub low: i64,
    /// The offset that the next record gets.
    pub end: i64,
}

/// Why the log can't be described.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The brokers don't give the offsets.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The brokers don't give the records.
    #[error(transparent)]
    Read(#[from] BoundedReadError),
}

impl Span {
    /// Measures a partition as it is now.
    pub async fn measure(
        admin: &Admin,
        TopicPartition { topic, partition }: TopicPartition,
    ) -> Result<Self, ReadError> {
        let marks = admin.watermarks(topic, partition).await?;
        Ok(Self {
            topic,
            partition,
            low: marks.low,
            end: marks.high,
        })
    }
}

/// Gives the span's records to `take`, in order, until it has enough. Returns the offset before which every
/// record was given; offsets of control records, which end another program's transaction, have none.
pub async fn read(
    kafka: &KafkaSettings,
    span: &Span,
    mut take: impl FnMut(&Record) -> ControlFlow<()>,
) -> Result<i64, ReadError> {
    let Span {
        topic,
        partition,
        low,
        end,
    } = *span;
    let spans = [kafka::Span {
        partition,
        low,
        end,
    }];
    let mut reader = BoundedReader::start(kafka, ROLE, topic, &spans, Fetch::Ahead)?;
    let mut reported = Instant::now();
    let position = |reader: &BoundedReader| reader.position(partition).unwrap_or(low);
    while let Some(batch) = reader.next().await? {
        for record in &batch {
            if take(record).is_break() {
                return Ok(record.offset);
            }
        }
        if reported.elapsed() >= PROGRESS_INTERVAL {
            reported = Instant::now();
            let next = position(&reader);
            eprintln!("{topic}/{partition}: {next} of {end} read");
        }
    }
    Ok(position(&reader))
}
