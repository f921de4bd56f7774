//! Reads a copy, line by line.

use crate::copy::line::{FORMAT, Header, Line, VERSION};
use std::io::{self, BufRead, Read as _};

/// Maximum length of a line, in bytes. Kafka's largest records are far shorter, even with two digits per byte.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// Maximum number of partitions of a topic; a header with more is corrupt.
const PARTITIONS_MAX: i32 = 10_000;

/// The reason why a file can't be read as a copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file can't be read.
    #[error("the copy can't be read at line {line}: {error}")]
    File {
        /// The line, from 1.
        line: u64,
        /// The system's error.
        error: io::Error,
    },
    /// The file is not a copy of a log.
    #[error("not a copy of a log: {reason}")]
    Header {
        /// The fault of the first line.
        reason: String,
    },
}

/// One line of the file.
#[derive(Debug)]
pub enum Read {
    /// A line of a copy.
    Line(Line),
    /// Any other line, with the reason why it can't be read.
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
    ///
    /// # Errors
    /// [`CopyError`]: the file can't be read, or its first line is not a header of this format.
    pub fn new(input: R) -> Result<(Self, Header), CopyError> {
        let mut reader = Self {
            input,
            line: 0,
            buffer: Vec::new(),
        };
        let reason = match reader.next_line()? {
            None => "the file is empty".to_owned(),
            Some(Read::Unreadable(reason)) => format!("its first line is not a header: {reason}"),
            Some(Read::Line(Line::Header(header))) if header.format != FORMAT => {
                format!("its format is {:?}, not {FORMAT:?}", header.format)
            }
            Some(Read::Line(Line::Header(header))) if header.version != VERSION => {
                format!("its version is {}, not {VERSION}", header.version)
            }
            Some(Read::Line(Line::Header(header))) if !has_valid_topics(&header) => {
                format!("a topic has no partitions, or more than {PARTITIONS_MAX}")
            }
            Some(Read::Line(Line::Header(header))) => return Ok((reader, header)),
            Some(Read::Line(Line::Record(_) | Line::Schema(_) | Line::End(_))) => {
                "its first line is not a header".to_owned()
            }
        };
        Err(CopyError::Header { reason })
    }

    /// The number of the last line read, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Reads the next line; `None` at the end.
    ///
    /// # Errors
    /// [`CopyError`]: the file can't be read, or a line is too long. A line that can't be parsed is
    /// [`Read::Unreadable`].
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
            let error = io::Error::other(format!("the line is longer than {LINE_BYTES_MAX} bytes"));
            return Err(CopyError::File { line, error });
        }
        Ok(Some(match serde_json::from_slice(&self.buffer) {
            Ok(line) => Read::Line(line),
            Err(_) => Read::Unreadable(self.reason()),
        }))
    }

    /// The reason why the line in the buffer is not a line of a copy.
    fn reason(&self) -> String {
        match serde_json::from_slice::<serde_json::Value>(&self.buffer) {
            Err(error) => format!("not JSON: {error}"),
            Ok(_) => "not a record, schema, end or header line".to_owned(),
        }
    }
}

fn has_valid_topics(header: &Header) -> bool {
    let mut topics = header.topics.iter();
    topics.all(|topic| (1..=PARTITIONS_MAX).contains(&topic.partitions))
}
