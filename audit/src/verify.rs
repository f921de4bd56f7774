//! `daybook audit verify`: checks journal topics, or a copy of them.

use crate::{
    check::{PartitionCheck, PartitionReport},
    copy::{CopyError, CopyReader, Digest, End, Header, Line, Read, RecordLine, check, hash},
    finding::{Finding, Problem, TopicPartition},
    model::Entry,
    report::Report,
    schemas_seen::SchemasSeen,
    source::{SourceError, Span, SpanReader, spans},
};
use kafka::{KafkaSettings, Record, Registry, Subjects};
use schemas::Context;
use std::{collections::BTreeMap, io::BufRead};

/// Maximum number of findings about a copy's lines that are kept; all findings are counted.
const LINE_FINDINGS_KEPT_MAX: usize = 100;

/// A consumer's record in the form that the rule reads.
pub(crate) fn entry(record: &Record) -> Entry<'_> {
    Entry {
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
    }
}

/// Checks the journals of some contexts up to their current end offsets.
///
/// # Errors
/// [`SourceError`]: the log can't be read. A fault of the log is a finding of the report.
pub async fn verify_topics(
    kafka: &KafkaSettings,
    registry: &Registry,
    contexts: &[&'static Context],
) -> Result<Report, SourceError> {
    let mut writers = Writers {
        subjects: Subjects::new(registry.clone(), kafka),
        registry: registry.clone(),
        schemas: SchemasSeen::default(),
        lost: 0,
    };
    let mut report = Report::default();
    for span in spans(kafka, contexts).await? {
        let partition = verify_span(kafka, &mut writers, span).await?;
        report.partitions.push(partition);
    }
    if let Err(error) = writers.registry.without_faults(writers.schemas.faults()) {
        report.findings_total += 1;
        report.findings.push(Finding {
            partition: None,
            offset: None,
            problem: Problem::RegistryLostData {
                error: error.to_string(),
                decisions: writers.lost,
            },
        });
    }
    Ok(report)
}

/// Fetches the schemas that records were written with, and counts the decisions whose schema is lost.
struct Writers {
    registry: Registry,
    subjects: Subjects,
    schemas: SchemasSeen,
    /// The number of decisions whose schema the registry has lost.
    lost: u64,
}

async fn verify_span(
    kafka: &KafkaSettings,
    writers: &mut Writers,
    span: Span,
) -> Result<PartitionReport, SourceError> {
    let mut check = PartitionCheck::new(span.context.topic, span.partition);
    if span.low > 0 {
        check.report(None, Problem::BeginningGone { low: span.low });
        return Ok(check.finish());
    }
    let mut reader = SpanReader::start(kafka, span)?;
    while let Some(batch) = reader.next_batch().await? {
        for record in &batch {
            let entry = entry(record);
            if let Some(frame) = check.record(entry) {
                let (id, subject) = (frame.schema_id, span.context.subject);
                let Writers {
                    registry,
                    subjects,
                    schemas,
                    lost,
                } = &mut *writers;
                if schemas.is_lost(subjects, subject, id).await? {
                    *lost += 1;
                    check.unread_decision(entry);
                    continue;
                }
                let schema = schemas.fetch(registry, id).await?;
                check.decision(entry, &frame, schema);
            }
        }
    }
    Ok(check.finish())
}

/// Checks a copy by its own lines only: the topics of `contexts`, or all topics if `contexts` is empty.
///
/// # Errors
/// [`CopyError`]: the file can't be read, or is not a copy. A fault of the copy is a finding of the report.
pub fn verify_copy(
    input: impl BufRead,
    contexts: &[&'static Context],
) -> Result<Report, CopyError> {
    let (mut reader, header) = CopyReader::new(input)?;
    let mut copy = CopyCheck::new(&header, contexts);
    while let Some(read) = reader.next_line()? {
        match read {
            Read::Line(line) => copy.line(reader.line(), line),
            Read::Unreadable(reason) => copy.unreadable(reader.line(), reason),
        }
    }
    Ok(copy.finish())
}

/// The check of a copy in progress.
struct CopyCheck<'a> {
    contexts: &'a [&'static Context],
    schemas: SchemasSeen,
    partitions: BTreeMap<TopicPartition, CopiedPartition>,
    findings: Vec<Finding>,
    findings_total: u64,
    /// Partition and offset of the last record line.
    last: Option<(TopicPartition, i64)>,
}

struct CopiedPartition {
    check: PartitionCheck,
    digest: Digest,
    /// The offset after the last record line.
    next_offset: i64,
    end: Option<End>,
}

impl<'a> CopyCheck<'a> {
    fn new(header: &Header, contexts: &'a [&'static Context]) -> Self {
        let mut partitions = BTreeMap::new();
        for topic in &header.topics {
            for partition in 0..topic.partitions {
                let name = TopicPartition {
                    topic: topic.topic.clone(),
                    partition,
                };
                let copied = CopiedPartition {
                    check: PartitionCheck::new(&topic.topic, partition),
                    digest: Digest::default(),
                    next_offset: 0,
                    end: None,
                };
                if is_wanted(contexts, &topic.topic) {
                    partitions.insert(name, copied);
                }
            }
        }
        Self {
            contexts,
            schemas: SchemasSeen::default(),
            partitions,
            findings: Vec::new(),
            findings_total: 0,
            last: None,
        }
    }

    fn line(&mut self, number: u64, line: Line) {
        let (topic, partition) = match &line {
            Line::Record(record) => (record.topic.clone(), record.partition),
            Line::End(end) => (end.topic.clone(), end.partition),
            Line::Schema(schema) => {
                return self.schemas.insert(schema.schema_id, &schema.schema);
            }
            Line::Header(_) => return self.unreadable(number, "it is a second header".into()),
        };
        let name = TopicPartition { topic, partition };
        let Some(copied) = self.partitions.get_mut(&name) else {
            if is_wanted(self.contexts, &name.topic) {
                self.unreadable(number, format!("the header does not list {name}"));
            }
            return;
        };
        match line {
            Line::Record(_) | Line::End(_) if copied.end.is_some() => {
                self.unreadable(number, format!("it comes after the end line of {name}"));
            }
            Line::Record(record) => {
                let entry = record.entry();
                copied.add(&record);
                if let Some(frame) = copied.check.record(entry) {
                    let schema = self.schemas.get(frame.schema_id);
                    copied.check.decision(entry, &frame, schema);
                }
                self.last = Some((name, record.offset));
            }
            Line::End(end) => copied.end = Some(end),
            Line::Schema(_) | Line::Header(_) => {}
        }
    }

    fn unreadable(&mut self, line: u64, reason: String) {
        self.findings_total += 1;
        if self.findings.len() >= LINE_FINDINGS_KEPT_MAX {
            return;
        }
        let reason = match &self.last {
            Some((name, offset)) => {
                format!("{reason} (the record before it is {name} offset {offset})")
            }
            None => reason,
        };
        self.findings.push(Finding {
            partition: None,
            offset: None,
            problem: Problem::UnreadableLine { line, reason },
        });
    }

    fn finish(self) -> Report {
        let partitions = self.partitions.into_values();
        Report {
            partitions: partitions.map(CopiedPartition::finish).collect(),
            findings: self.findings,
            findings_total: self.findings_total,
        }
    }
}

impl CopiedPartition {
    fn add(&mut self, record: &RecordLine) {
        let hash = hash(&record.topic, record.partition, record.entry());
        self.digest.update(&hash);
        self.next_offset = record.offset.saturating_add(1);
        if check(&hash) != record.check {
            let problem = Problem::RecordAltered {
                expected: hex::encode(record.check),
                found: hex::encode(check(&hash)),
            };
            self.check.report(Some(record.offset), problem);
        }
    }

    fn finish(mut self) -> PartitionReport {
        let (offset, trace) = self.check.first_trace();
        match &self.end {
            None => self.check.report(offset, Problem::Truncated),
            Some(end) => {
                let differences = self.differences(end);
                if !differences.is_empty() {
                    let differences = differences.join(", ");
                    let problem = Problem::CopyDiffers { differences, trace };
                    self.check.report(offset, problem);
                }
            }
        }
        self.check.finish()
    }

    fn differences(&self, end: &End) -> Vec<String> {
        let mut differences = Vec::new();
        if end.records != self.check.records() {
            let found = self.check.records();
            differences.push(format!("{found} records instead of {}", end.records));
        }
        if end.end_offset != self.next_offset {
            let next = self.next_offset;
            differences.push(format!("end offset {next} instead of {}", end.end_offset));
        }
        if end.last_hash != self.check.model().hash() {
            differences.push("a different last hash".into());
        }
        if end.digest != self.digest.value() {
            differences.push("a different digest of all records".into());
        }
        differences
    }
}

fn is_wanted(contexts: &[&'static Context], topic: &str) -> bool {
    contexts.is_empty() || contexts.iter().any(|context| context.topic == topic)
}
