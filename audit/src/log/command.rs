//! Reads and judges the log, and prints the records that the filter accepts.

use crate::{
    frame::{Frame, Kind},
    log::{filter::Filter, line::Position},
    model::{Alarm, Entry, Model, Verdict},
    schemas_seen::{Known, SchemasSeen},
    source::{SourceError, SpanReader, follow, spans},
    verify::entry,
};
use kafka::{KafkaSettings, Record, Registry};
use schemas::Context;
use std::{
    collections::HashMap,
    io::{self, Write},
};

/// The reason why printing failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log can't be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The output can't be written.
    #[error("the lines can't be written: {0}")]
    Write(#[from] io::Error),
}

/// The faults that were found while printing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Alarms; each ended the reading of its partition.
    pub alarms: Vec<Alarm>,
    /// Number of valid decisions that can't be decoded.
    pub undecodable: u64,
}

/// Prints the journals of some contexts, partition by partition, up to their current end offsets. If
/// `follows`, prints the records of all partitions as they are appended, without an end. Prints at most
/// `limit` lines.
///
/// Each partition is read from its first offset, regardless of the filter, because the rule needs all earlier
/// records.
///
/// # Errors
/// [`LogError`]: the log can't be read, or the lines can't be written.
pub async fn print_log(
    kafka: &KafkaSettings,
    registry: &Registry,
    contexts: &[&'static Context],
    filter: Filter,
    limit: Option<u64>,
    follows: bool,
    out: impl Write,
) -> Result<Outcome, LogError> {
    let mut spans = spans(kafka, contexts).await?;
    spans.retain(|span| filter.accepts_partition(span.partition));
    let mut printer = Printer {
        registry: registry.clone(),
        schemas: SchemasSeen::default(),
        filter,
        lines_left: limit.unwrap_or(u64::MAX),
        partitions: HashMap::new(),
        outcome: Outcome::default(),
        out,
    };
    if follows {
        let mut batches = follow(kafka, &spans)?;
        while let Some(batch) = batches.recv().await
            && printer.lines_left > 0
        {
            let batch = batch?;
            printer.records(batch.context.topic, &batch.records).await?;
        }
        return Ok(printer.outcome);
    }
    for span in spans {
        let mut reader = SpanReader::start(kafka, span)?;
        while printer.lines_left > 0
            && let Some(batch) = reader.next_batch().await?
        {
            printer.records(span.context.topic, &batch).await?;
        }
    }
    Ok(printer.outcome)
}

struct Printer<W> {
    registry: Registry,
    schemas: SchemasSeen,
    filter: Filter,
    lines_left: u64,
    /// `None` after an alarm.
    partitions: HashMap<(&'static str, i32), Option<Model>>,
    outcome: Outcome,
    out: W,
}

impl<W: Write> Printer<W> {
    /// Prints the accepted records of a batch, and flushes the output.
    async fn records(&mut self, topic: &'static str, records: &[Record]) -> Result<(), LogError> {
        for record in records {
            if self.lines_left == 0 {
                break;
            }
            self.record(topic, record.partition, entry(record)).await?;
        }
        Ok(self.out.flush()?)
    }

    async fn record(
        &mut self,
        topic: &'static str,
        partition: i32,
        entry: Entry<'_>,
    ) -> Result<(), LogError> {
        let state = self
            .partitions
            .entry((topic, partition))
            .or_insert_with(|| Some(Model::new(topic, partition)));
        let Some(model) = state else {
            return Ok(());
        };
        let position = Position::new(topic, partition, entry);
        match model.judge(entry) {
            Ok(Verdict::Valid(frame)) if frame.kind == Kind::Decision => {
                let log_id = model.log_id().unwrap_or_default();
                self.decision(position, entry, &frame, &log_id).await
            }
            Ok(Verdict::Valid(frame)) if self.filter.accepts_other(entry, &frame) => {
                self.line(&position.other(&frame))
            }
            Ok(Verdict::Void(void)) if self.filter.accepts_void(entry) => {
                self.line(&position.void(&void))
            }
            Ok(Verdict::Valid(_) | Verdict::Void(_)) => Ok(()),
            Err(alarm) => {
                *state = None;
                self.outcome.alarms.push(alarm);
                Ok(())
            }
        }
    }

    async fn decision(
        &mut self,
        position: Position<'_>,
        entry: Entry<'_>,
        frame: &Frame,
        log_id: &[u8; 32],
    ) -> Result<(), LogError> {
        if !self.filter.accepts_frame(entry, frame) {
            return Ok(());
        }
        let schema: Known = self
            .schemas
            .fetch(&self.registry, frame.schema_id)
            .await
            .map_err(SourceError::from)?;
        let value = entry.value.unwrap_or_default();
        match schema.and_then(|schema| schema.decision(value).map_err(|error| error.to_string())) {
            Ok(decision) if self.filter.accepts_decision(&decision) => {
                self.line(&position.decision(frame, &decision, log_id))
            }
            Ok(_) => Ok(()),
            Err(reason) => {
                self.outcome.undecodable += 1;
                match self.filter.accepts_undecodable() {
                    true => self.line(&position.undecodable(frame, &reason)),
                    false => Ok(()),
                }
            }
        }
    }

    fn line(&mut self, line: &impl serde::Serialize) -> Result<(), LogError> {
        serde_json::to_writer(&mut self.out, line).map_err(io::Error::from)?;
        self.out.write_all(b"\n")?;
        self.lines_left -= 1;
        Ok(())
    }
}
