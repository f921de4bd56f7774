//! Reads the file as rows: decompressed if necessary, numbered, of bounded length, decoded to text.
//!
//! A row is one line of the file. So a stray quote affects only one row, and a rejected row can be listed
//! unchanged. Quoted line breaks are not supported; Online Retail has none.

use flate2::bufread::MultiGzDecoder;
use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

/// Maximum length of a row, in bytes. The excess of a longer row is skipped.
pub const ROW_BYTES_MAX: usize = 64 * 1024;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Reasons why the file can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Opening it failed.
    #[error("cannot open the file")]
    Open(#[source] io::Error),
    /// Reading or decompressing it failed.
    #[error("cannot read the file after line {line}")]
    Read {
        /// The last line that was read, counted from 1.
        line: u64,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Reads a file row by row.
pub struct Rows {
    reader: Box<dyn BufRead + Send>,
    row: Vec<u8>,
    line: u64,
}

/// One row, without its line terminator.
#[derive(Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// Line number in the file, counted from 1.
    pub line: u64,
    /// All bytes of the row, or the first [`ROW_BYTES_MAX`].
    pub bytes: &'a [u8],
    /// Whether `bytes` lacks the end of the row.
    pub truncated: bool,
}

/// A decoded row.
#[derive(Debug, PartialEq, Eq)]
pub struct Text<'a> {
    /// The row as text.
    pub text: Cow<'a, str>,
    /// Whether the row is not UTF-8 and was decoded as Windows-1252 (which contains Latin-1's characters).
    pub is_windows_1252: bool,
}

impl Rows {
    /// Opens a CSV file, plain or compressed with gzip, which is recognised by its first bytes.
    ///
    /// # Errors
    /// [`Error::Open`]: the file can't be opened or read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::Open)?;
        Self::new(file).map_err(Error::Open)
    }

    /// Reads from any source, plain or compressed with gzip.
    pub fn new(source: impl Read + Send + 'static) -> io::Result<Self> {
        let mut source = BufReader::with_capacity(READ_BUFFER_BYTES, source);
        let reader: Box<dyn BufRead + Send> = if source.fill_buf()?.starts_with(&GZIP_MAGIC) {
            let decompressed = MultiGzDecoder::new(source);
            Box::new(BufReader::with_capacity(READ_BUFFER_BYTES, decompressed))
        } else {
            Box::new(source)
        };
        Ok(Self {
            reader,
            row: Vec::new(),
            line: 0,
        })
    }

    /// The next non-empty row; `None` at the end of the file.
    ///
    /// # Errors
    /// [`Error::Read`], with the last line that was read.
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>, Error> {
        loop {
            let Some(truncated) = self.read_line().map_err(|source| Error::Read {
                line: self.line,
                source,
            })?
            else {
                return Ok(None);
            };
            self.line += 1;
            if self.line == 1 && self.row.starts_with(BYTE_ORDER_MARK) {
                self.row.drain(..BYTE_ORDER_MARK.len());
            }
            if !self.row.is_empty() {
                return Ok(Some(Row {
                    line: self.line,
                    bytes: &self.row,
                    truncated,
                }));
            }
        }
    }

    /// Fills `row` with the next line and returns whether it was truncated; `None` at the end of the file.
    fn read_line(&mut self) -> io::Result<Option<bool>> {
        self.row.clear();
        let limit = ROW_BYTES_MAX as u64 + 1;
        let taken = self
            .reader
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut self.row)?;
        if taken == 0 {
            return Ok(None);
        }
        if self.row.last() == Some(&b'\n') {
            self.row.pop();
            if self.row.last() == Some(&b'\r') {
                self.row.pop();
            }
            return Ok(Some(false));
        }
        if self.row.len() <= ROW_BYTES_MAX {
            return Ok(Some(false));
        }
        self.row.truncate(ROW_BYTES_MAX);
        self.reader.skip_until(b'\n')?;
        Ok(Some(true))
    }
}

impl<'a> Row<'a> {
    /// Decodes the row. Windows-1252 has a character for every byte, so this can't fail.
    pub fn text(&self) -> Text<'a> {
        match std::str::from_utf8(self.bytes) {
            Ok(text) => Text {
                text: Cow::Borrowed(text),
                is_windows_1252: false,
            },
            Err(_) => Text {
                text: encoding_rs::WINDOWS_1252
                    .decode_without_bom_handling(self.bytes)
                    .0,
                is_windows_1252: true,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Cursor, Write};

    fn rows(bytes: &[u8]) -> Vec<(u64, Vec<u8>, bool)> {
        let mut rows = Rows::new(Cursor::new(bytes.to_vec())).unwrap();
        let mut found = Vec::new();
        while let Some(row) = rows.next_row().unwrap() {
            found.push((row.line, row.bytes.to_vec(), row.truncated));
        }
        found
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn blank_lines_byte_order_marks_and_carriage_returns_are_dropped() {
        let expected = vec![(1, b"a".to_vec(), false), (3, b"b\"".to_vec(), false)];
        assert_eq!(rows(b"a\n\nb\"\n"), expected);
        assert_eq!(rows(b"\xef\xbb\xbfa\r\n\r\nb\""), expected);
        assert_eq!(rows(&gzip(b"a\n\nb\"")), expected);
        assert_eq!(rows(b""), vec![]);
    }

    #[test]
    fn every_member_of_a_gzip_file_is_read() {
        let compressed = [gzip(b"a\n"), gzip(b"b\n")].concat();
        assert_eq!(
            rows(&compressed),
            [(1, b"a".to_vec(), false), (2, b"b".to_vec(), false)]
        );
    }

    #[test]
    fn a_row_that_is_too_long_is_truncated_and_the_next_is_read() {
        let longest = "x".repeat(ROW_BYTES_MAX);
        let text = format!("{longest}\n{longest}y{longest}\nz\n");
        let found = rows(text.as_bytes());
        let outline: Vec<_> = found
            .iter()
            .map(|(line, bytes, truncated)| (*line, bytes.len(), *truncated))
            .collect();
        assert_eq!(
            outline,
            [
                (1, ROW_BYTES_MAX, false),
                (2, ROW_BYTES_MAX, true),
                (3, 1, false)
            ]
        );
    }

    #[test]
    fn a_damaged_gzip_file_is_an_error_with_its_line() {
        let mut compressed = gzip("row\n".repeat(10).as_bytes());
        compressed.truncate(compressed.len() - 9);
        let mut rows = Rows::new(Cursor::new(compressed)).unwrap();
        let error = loop {
            match rows.next_row() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the end of the rows instead of an error"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(
            error.starts_with("cannot read the file after line"),
            "no \"cannot read the file after line\" at the start of: {error}"
        );
    }

    #[test]
    fn a_row_that_is_not_utf_8_is_decoded_as_windows_1252() {
        let row = |bytes| Row {
            line: 1,
            bytes,
            truncated: false,
        };
        let latin = row(b"\xa310").text();
        assert_eq!((&*latin.text, latin.is_windows_1252), ("£10", true));
        let utf_8 = row("£10".as_bytes()).text();
        assert_eq!((&*utf_8.text, utf_8.is_windows_1252), ("£10", false));
    }

    proptest! {
        #[test]
        fn any_bytes_are_rows_or_an_error(bytes: Vec<u8>) {
            let mut rows = Rows::new(Cursor::new(bytes)).unwrap();
            while let Ok(Some(row)) = rows.next_row() {
                row.text();
            }
        }
    }
}
