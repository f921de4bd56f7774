//! Writes a copy.

use crate::{
    copy::line::{
        Digest, End, FORMAT, Header, Line, RecordLine, SchemaLine, TopicPartitions, VERSION, hash,
    },
    frame::Kind,
    model::{Alarm, Entry, Model, Verdict},
};
use std::{
    collections::HashSet,
    io::{self, Write},
};

/// Writes the lines of a copy one by one.
pub struct CopyWriter<W> {
    out: W,
    schemas: HashSet<u32>,
}

/// Collects the fields of a partition's end line while the partition's records are written.
pub struct PartitionEnd {
    topic: String,
    partition: i32,
    /// The offset after the last record. Control records may follow it; they get no line.
    pub end_offset: i64,
    model: Model,
    digest: Digest,
    records: u64,
    /// The alarm at which the rule halted. Later records are written, too, but not judged.
    pub alarm: Option<Alarm>,
}

impl PartitionEnd {
    /// The state before the first record.
    pub fn new(topic: &str, partition: i32, end_offset: i64) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
            end_offset,
            model: Model::new(topic, partition),
            digest: Digest::default(),
            records: 0,
            alarm: None,
        }
    }

    /// Adds the next record; returns its line, and the schema id if the record is a valid decision.
    pub fn add(&mut self, entry: Entry<'_>) -> (RecordLine, Option<u32>) {
        self.digest
            .update(&hash(&self.topic, self.partition, entry));
        let line = RecordLine::new(&self.topic, self.partition, entry);
        (line, self.judge(entry))
    }

    fn judge(&mut self, entry: Entry<'_>) -> Option<u32> {
        self.records += 1;
        if self.alarm.is_some() {
            return None;
        }
        match self.model.judge(entry) {
            Ok(Verdict::Valid(frame)) => {
                matches!(frame.kind, Kind::Decision).then_some(frame.schema_id)
            }
            Ok(Verdict::Void(_)) => None,
            Err(alarm) => {
                self.alarm = Some(alarm);
                None
            }
        }
    }
}

impl<W: Write> CopyWriter<W> {
    /// Writes the header. The caller then writes all partitions of `topics`.
    pub fn new(out: W, topics: Vec<TopicPartitions>) -> io::Result<Self> {
        let mut writer = Self {
            out,
            schemas: HashSet::new(),
        };
        let format = FORMAT.to_owned();
        writer.line(&Line::Header(Header {
            format,
            version: VERSION,
            topics,
        }))?;
        Ok(writer)
    }

    /// Whether a schema was not written yet.
    pub fn lacks(&self, schema_id: u32) -> bool {
        !self.schemas.contains(&schema_id)
    }

    /// Writes a schema. `text` is `None` if the registry does not have the schema; then the copy lacks it.
    pub fn schema(&mut self, schema_id: u32, text: Option<&str>) -> io::Result<()> {
        self.schemas.insert(schema_id);
        match text {
            Some(text) => self.line(&Line::Schema(SchemaLine {
                schema_id,
                schema: text.to_owned(),
            })),
            None => Ok(()),
        }
    }

    /// Writes a record.
    pub fn record(&mut self, line: RecordLine) -> io::Result<()> {
        self.line(&Line::Record(line))
    }

    /// Writes a partition's end line.
    pub fn end(&mut self, end: &PartitionEnd) -> io::Result<()> {
        self.line(&Line::End(End {
            topic: end.topic.clone(),
            partition: end.partition,
            end_offset: end.end_offset,
            last_hash: end.model.hash(),
            records: end.records,
            digest: end.digest.value(),
        }))
    }

    /// Flushes the output.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Returns the output.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }
}
