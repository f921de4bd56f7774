//! Reads a partition from its beginning to the end that it has now, and reports its progress.

use kafka::{
    BoundedReadError, BoundedReader, Fetch, KafkaSettings, Record, Span, admin::AdminError,
};
use std::{ops::ControlFlow, time::Duration};
use tokio::time::Instant;

/// The role in the client id that the broker sees.
const ROLE: &str = "describe";
/// Time between two progress messages of a long reading.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Reasons why the log can't be described.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The brokers don't return the offsets.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The brokers don't return the records.
    #[error(transparent)]
    Read(#[from] BoundedReadError),
}

/// Passes the records of a span to `take`, in order, until `take` breaks. Returns the offset before which every record
/// was passed; control records, which end another program's transaction, are not passed.
pub async fn read(
    kafka: &KafkaSettings,
    topic: &str,
    span: Span,
    mut take: impl FnMut(&Record) -> ControlFlow<()>,
) -> Result<i64, ReadError> {
    let Span {
        partition,
        low,
        end,
    } = span;
    let mut reader = BoundedReader::start(kafka, ROLE, topic, &[span], Fetch::Ahead)?;
    let mut shown = Instant::now();
    let position = |reader: &BoundedReader| reader.position(partition).unwrap_or(low);
    while let Some(batch) = reader.next().await? {
        for record in &batch {
            if take(record).is_break() {
                return Ok(record.offset);
            }
        }
        if shown.elapsed() >= PROGRESS_INTERVAL {
            shown = Instant::now();
            let next = position(&reader);
            eprintln!("{topic}/{partition}: {next} of {end} read");
        }
    }
    Ok(position(&reader))
}
