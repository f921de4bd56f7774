//! Reads a partition from its beginning to the end that it has now, and says how far it is.

use kafka::{Admin, BatchConsumer, ConsumerError, KafkaSettings, Record, admin::AdminError};
use std::{ops::ControlFlow, time::Duration};
use tokio::time::{Instant, timeout};

/// The name of our clients at the broker.
const ROLE: &str = "describe";
/// Longest wait for the next records of a partition that has more of them.
const STALL_MAX: Duration = Duration::from_secs(30);
/// Time between two words on how far a long reading is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// A partition, and what is in it.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub topic: &'static str,
    pub partition: i32,
    /// The first offset there is.
    pub low: i64,
    /// The offset that the next record gets.
    pub end: i64,
}

/// Why the log can't be described.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The brokers, asked for offsets.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The brokers, asked for records.
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
    /// No more records come, though there should be some.
    #[error(
        "{topic}/{partition}: no record from offset {next} on came within {STALL_MAX:?}, though the log ends at {end}"
    )]
    Stalled {
        topic: &'static str,
        partition: i32,
        /// The offset waited for.
        next: i64,
        /// The log's end.
        end: i64,
    },
}

impl Span {
    /// What a partition has now.
    pub async fn measure(
        admin: &Admin,
        (topic, partition): (&'static str, i32),
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

/// Gives the span's records to `take`, in order, until it has enough.
pub async fn read(
    kafka: &KafkaSettings,
    span: &Span,
    mut take: impl FnMut(&Record) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    let Span {
        topic,
        partition,
        low,
        end,
    } = *span;
    if low >= end {
        return Ok(());
    }
    let mut consumer = BatchConsumer::start(kafka, ROLE, topic, &[(partition, low)])?;
    let mut next = low;
    let mut told = Instant::now();
    while next < end {
        let batch = timeout(STALL_MAX, next_batch(&mut consumer)).await;
        let batch = batch.map_err(|_| ReadError::Stalled {
            topic,
            partition,
            next,
            end,
        })??;
        for record in batch.iter().filter(|record| record.offset < end) {
            if take(record).is_break() {
                return Ok(());
            }
        }
        next = batch.last().map_or(next, |record| record.offset + 1);
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            eprintln!("{topic}/{partition}: {} of {end} read", next.min(end));
        }
    }
    Ok(())
}

/// The next records; what waiting mends is waited for.
async fn next_batch(consumer: &mut BatchConsumer) -> Result<Vec<Record>, ConsumerError> {
    loop {
        match consumer.next().await {
            Err(error) if error.is_transient() => tracing::warn!(%error, "reading again"),
            other => return other,
        }
    }
}
