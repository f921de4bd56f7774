//! The file as rows of bytes: unpacked if need be, numbered, bounded, and turned into text.
//!
//! A row is one line of the file. That makes a stray quote cost one row and not the rest of the
//! file, and lets a rejected row be shown just as it stood. Quoted line breaks are therefore not
//! read; Online Retail has none.

use flate2::bufread::MultiGzDecoder;
use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

/// Longest row, in bytes. What a longer one has beyond is skipped.
pub const ROW_BYTES_MAX: usize = 64 * 1024;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Why the file can't be read on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Opening it failed.
    #[error("cannot open the file")]
    Open(#[source] io::Error),
    /// Reading or unpacking it failed.
    #[error("cannot read the file after line {line}")]
    Read {
        /// The last line that was read, counted from 1.
        line: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The rows of a file, one at a time.
pub struct Rows {
    reader: Box<dyn BufRead + Send>,
    row: Vec<u8>,
    line: u64,
}

/// One row, without its line end.
#[derive(Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// Its line in the file, counted from 1.
    pub line: u64,
    /// Its bytes: all, or the first [`ROW_BYTES_MAX`].
    pub bytes: &'a [u8],
    /// Whether `bytes` is not all of it.
    pub cut: bool,
}

/// A row's text, and how it was had.
#[derive(Debug, PartialEq, Eq)]
pub struct Text<'a> {
    /// The row as text.
    pub text: Cow<'a, str>,
    /// Whether it is not UTF-8 and was read as Windows-1252 (which holds Latin-1's characters).
    pub is_windows_1252: bool,
}

impl Rows {
    /// Opens a CSV file, plain or packed with gzip: its first bytes say which.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::Open)?;
        Self::new(file).map_err(Error::Open)
    }

    /// Reads from anything, plain or packed with gzip.
    pub fn new(source: impl Read + Send + 'static) -> io::Result<Self> {
        let mut source = BufReader::with_capacity(READ_BUFFER_BYTES, source);
        let reader: Box<dyn BufRead + Send> = if source.fill_buf()?.starts_with(&GZIP_MAGIC) {
            let unpacked = MultiGzDecoder::new(source);
            Box::new(BufReader::with_capacity(READ_BUFFER_BYTES, unpacked))
        } else {
            Box::new(source)
        };
        Ok(Self {
            reader,
            row: Vec::new(),
            line: 0,
        })
    }

    /// The next row that is not empty; `None` at the end of the file.
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>, Error> {
        loop {
            let Some(cut) = self.read_line().map_err(|source| Error::Read {
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
                    cut,
                }));
            }
        }
    }

    /// Fills `row` with the next line, and says whether it had to be cut.
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
    /// The row as text. Windows-1252 gives every byte a character, so this can't fail.
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
        let mut seen = Vec::new();
        while let Some(row) = rows.next_row().unwrap() {
            seen.push((row.line, row.bytes.to_vec(), row.cut));
        }
        seen
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn reads_lines_of_all_kinds() {
        let expected = vec![(1, b"a".to_vec(), false), (3, b"b\"".to_vec(), false)];
        assert_eq!(rows(b"a\n\nb\"\n"), expected);
        assert_eq!(rows(b"\xef\xbb\xbfa\r\n\r\nb\""), expected);
        assert_eq!(rows(&gzip(b"a\n\nb\"")), expected);
        assert_eq!(rows(b""), vec![]);
    }

    #[test]
    fn reads_packed_files_of_several_members() {
        let packed = [gzip(b"a\n"), gzip(b"b\n")].concat();
        assert_eq!(rows(&packed).len(), 2);
    }

    #[test]
    fn cuts_a_row_that_is_too_long_and_goes_on() {
        let longest = "x".repeat(ROW_BYTES_MAX);
        let text = format!("{longest}\n{longest}y{longest}\nz\n");
        let seen = rows(text.as_bytes());
        let outline: Vec<_> = seen
            .iter()
            .map(|(line, bytes, cut)| (*line, bytes.len(), *cut))
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
    fn a_broken_archive_is_an_error_with_the_line() {
        let mut packed = gzip("row\n".repeat(10).as_bytes());
        packed.truncate(packed.len() - 9);
        let mut rows = Rows::new(Cursor::new(packed)).unwrap();
        let error = loop {
            match rows.next_row() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the end of the archive is missing"),
                Err(error) => break error,
            }
        };
        assert!(
            error
                .to_string()
                .starts_with("cannot read the file after line")
        );
    }

    #[test]
    fn falls_back_to_windows_1252() {
        let row = |bytes| Row {
            line: 1,
            bytes,
            cut: false,
        };
        let latin = row(b"\xa310").text();
        assert_eq!((&*latin.text, latin.is_windows_1252), ("£10", true));
        let utf_8 = row("£10".as_bytes()).text();
        assert_eq!((&*utf_8.text, utf_8.is_windows_1252), ("£10", false));
    }

    proptest! {
        #[test]
        fn any_bytes_give_rows_or_an_error(bytes: Vec<u8>) {
            let mut rows = Rows::new(Cursor::new(bytes)).unwrap();
            while let Ok(Some(row)) = rows.next_row() {
                row.text();
            }
        }
    }
}
