//! `daybook audit log --raw`: copies the log for a later verification, with or without Kafka.

use crate::{
    copy::{CopyWriter, PartitionEnd, TopicPartitions},
    schemas_seen::SchemasSeen,
    source::{SourceError, Span, SpanReader, spans},
    verify::entry,
};
use kafka::{KafkaSettings, Registry};
use schemas::Context;
use std::io::{self, Write};

/// The reason why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The log can't be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The copy can't be written.
    #[error("the copy can't be written: {0}")]
    Write(#[from] io::Error),
}

/// Copies the journals of some contexts up to their current end offsets; returns the number of records. Faulty
/// records are copied as well; the verification of the copy reports them.
///
/// # Errors
/// [`ExportError`]: the log can't be read, or the copy can't be written.
pub async fn export(
    kafka: &KafkaSettings,
    registry: &Registry,
    contexts: &[&'static Context],
    out: impl Write,
) -> Result<u64, ExportError> {
    let spans = spans(kafka, contexts).await?;
    let mut copy = CopyWriter::new(out, topics(&spans))?;
    let mut schemas = SchemasSeen::default();
    let mut records = 0;
    for span in spans {
        let mut end = PartitionEnd::new(span.context.topic, span.partition, 0);
        let mut reader = SpanReader::start(kafka, span)?;
        while let Some(batch) = reader.next_batch().await? {
            for record in &batch {
                records += 1;
                end.end_offset = record.offset + 1;
                let (line, needed) = end.add(entry(record));
                if let Some(schema_id) = needed.filter(|id| copy.lacks(*id)) {
                    let fetched = schemas.fetch(registry, schema_id).await;
                    let schema = fetched.map_err(SourceError::from)?;
                    if let Err(reason) = &schema {
                        tracing::warn!(
                            schema_id,
                            reason,
                            "the registry does not have a schema, so the copy lacks it"
                        );
                    }
                    let text = schema.as_ref().ok().map(|schema| schema.text.as_str());
                    copy.schema(schema_id, text)?;
                }
                copy.record(line)?;
            }
        }
        if let Some(alarm) = &end.alarm {
            tracing::warn!(%alarm, "copied a partition that halts its readers");
        }
        copy.end(&end)?;
    }
    copy.flush()?;
    Ok(records)
}

fn topics(spans: &[Span]) -> Vec<TopicPartitions> {
    spans
        .chunk_by(|one, other| one.context == other.context)
        .map(|spans| TopicPartitions {
            topic: spans[0].context.topic.to_owned(),
            partitions: i32::try_from(spans.len())
                .expect("kafka numbers partitions with 32 signed bits"),
        })
        .collect()
}
