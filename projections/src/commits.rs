//! Reads individual commits again by their offsets.

use journal::{Source, Valid};
use kafka::{BoundedReadError, BoundedReader, CodecError, Decoder, Fetch, Span};
use schemas::{Commit, ContextEvent};
use std::collections::BTreeSet;

/// The commits can't be read.
#[derive(Debug, thiserror::Error)]
pub enum CommitsError {
    /// Kafka does not answer.
    #[error("kafka: {0}")]
    Kafka(#[from] BoundedReadError),
    /// A record can't be decoded.
    #[error("record of {topic}/{partition} at offset {offset}: {source}")]
    Codec {
        /// The journal.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// The decoder's error.
        source: CodecError,
    },
    /// The log no longer has a record at this offset.
    #[error("{topic}/{partition} has no record at offset {offset}")]
    Missing {
        /// The journal.
        topic: String,
        /// Its partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
}

/// Reads the commits at ascending offsets. The caller must know that these commits are valid.
///
/// # Errors
/// [`CommitsError`].
pub async fn read<E: ContextEvent>(
    source: &Source,
    topic: &str,
    partition: i32,
    offsets: &[i64],
) -> Result<Vec<Valid<E>>, CommitsError> {
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
        return Ok(Vec::new());
    };
    let span = Span {
        partition,
        low: *first,
        end: last + 1,
    };
    let wanted: BTreeSet<i64> = offsets.iter().copied().collect();
    let mut reader = BoundedReader::start(&source.kafka, "parked", topic, &[span], Fetch::Ahead)?;
    let decoder = Decoder::new(source.registry.clone());
    let mut commits = Vec::with_capacity(offsets.len());
    while let Some(records) = reader.next().await? {
        for record in records {
            if !wanted.contains(&record.offset) {
                continue;
            }
            let value = record.value.as_deref().unwrap_or_default();
            let decoded = decoder.decode::<Commit<E>>(value).await;
            let commit = decoded.map_err(|source| CommitsError::Codec {
                topic: topic.to_owned(),
                partition,
                offset: record.offset,
                source,
            })?;
            commits.push(Valid {
                offset: record.offset,
                key: record.key.unwrap_or_default(),
                commit,
            });
        }
    }
    let read: BTreeSet<i64> = commits.iter().map(|commit| commit.offset).collect();
    match wanted.difference(&read).next() {
        Some(offset) => Err(CommitsError::Missing {
            topic: topic.to_owned(),
            partition,
            offset: *offset,
        }),
        None => Ok(commits),
    }
}
