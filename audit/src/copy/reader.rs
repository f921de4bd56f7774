//! Reads a copy, line by line.

use crate::copy::line::{FORMAT, Header, Line, VERSION};
use std::io::{self, BufRead, Read as _};

/// Longest line: Kafka's largest records are far below, with two digits a byte.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// Most partitions of a topic; a greater number is a broken header.
const PARTITIONS_MAX: i32 = 10_000;

/// Why a file can't be read as a copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file itself.
    #[error("the copy can't be read at line {line}: {error}")]
    File {
        /// The line, from 1.
        line: u64,
        /// The system's words.
        error: io::Error,
    },
    /// Not such a file.
    #[error("not a copy of a log: {reason}")]
    Header {
        /// What its first line lacks.
        reason: String,
    },
}

/// One line as it was read.
#[derive(Debug)]
pub enum Read {
    /// A line of a copy.
    Line(Line),
    /// Something else, and why.
    Unreadable(String),
}

/// Reads a copy.
pub struct CopyReader<R> {
    input: R,
    line: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> CopyReader<R> {
    /// Reads the header.
    pub fn new(input: R) -> Result<(Self, Header), CopyError> {
        let mut reader = Self {
            input,
            line: 0,
            buffer: Vec::new(),
        };
        let reason = match reader.next_line()? {
            None => "the file is empty".to_owned(),
            Some(Read::Unreadable(reason)) => format!("its first line is no header: {reason}"),
            Some(Read::Line(Line::Header(header))) if header.format != FORMAT => {
                format!("its format is {:?}", header.format)
            }
            Some(Read::Line(Line::Header(header))) if header.version != VERSION => {
                format!("its version is {}, not {VERSION}", header.version)
            }
            Some(Read::Line(Line::Header(header))) if !has_sound_topics(&header) => {
                format!("a topic has no partitions, or more than {PARTITIONS_MAX}")
            }
            Some(Read::Line(Line::Header(header))) => return Ok((reader, header)),
            Some(Read::Line(Line::Record(_) | Line::Schema(_) | Line::End(_))) => {
                "its first line is no header".to_owned()
            }
        };
        Err(CopyError::Header { reason })
    }

    /// The number of the line that was read last, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Reads the next line; `None` at the end.
    pub fn next_line(&mut self) -> Result<Option<Read>, CopyError> {
        self.buffer.clear();
        self.line += 1;
        let line = self.line;
        let mut bounded = self.input.by_ref().take(LINE_BYTES_MAX);
        let bytes = bounded
            .read_until(b'\n', &mut self.buffer)
            .map_err(|error| CopyError::File { line, error })?;
        if bytes == 0 {
            return Ok(None);
        }
        if bytes as u64 == LINE_BYTES_MAX && !self.buffer.ends_with(b"\n") {
            let error = io::Error::other(format!("it is longer than {LINE_BYTES_MAX} bytes"));
            return Err(CopyError::File { line, error });
        }
        Ok(Some(match serde_json::from_slice(&self.buffer) {
            Ok(line) => Read::Line(line),
            Err(_) => Read::Unreadable(self.reason()),
        }))
    }

    /// Why the line in the buffer is none of a copy's.
    fn reason(&self) -> String {
        match serde_json::from_slice::<serde_json::Value>(&self.buffer) {
            Err(error) => format!("not JSON: {error}"),
            Ok(_) => "neither record, schema, end nor header".to_owned(),
        }
    }
}

fn has_sound_topics(header: &Header) -> bool {
    let mut topics = header.topics.iter();
    topics.all(|topic| (1..=PARTITIONS_MAX).contains(&topic.partitions))
}
