//! The file of what could not be imported: CSV with the columns `line`, `command`, `reason`, `row`.
//!
//! A rejected row, or one held back with it, has its line, the reason and itself as it stood; a command that the service
//! refused has the line of its first row, its key and the reason. The file is written anew by each
//! import, and has only its header when nothing was rejected.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

/// Why it can't be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the rejects file {}", path.display())]
pub struct Error {
    path: PathBuf,
    #[source]
    source: csv::Error,
}

/// The file, and how much went into it.
pub struct Rejects {
    path: PathBuf,
    writer: csv::Writer<File>,
    rows: u64,
}

impl Rejects {
    /// Begins the file; what it held is lost.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let attempt = || {
            let mut writer = csv::Writer::from_path(path)?;
            writer.write_record(["line", "command", "reason", "row"])?;
            writer.flush()?;
            Ok(writer)
        };
        match attempt() {
            Ok(writer) => Ok(Self {
                path: path.to_owned(),
                writer,
                rows: 0,
            }),
            Err(source) => Err(Error {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Takes up a row that is not imported.
    pub fn add_row(&mut self, line: u64, reason: &str, row: &[u8]) -> Result<(), Error> {
        self.rows += 1;
        self.write(line, "", reason, row)
    }

    /// Takes up a command that the service refused.
    pub fn add_command(&mut self, line: u64, key: &str, reason: &str) -> Result<(), Error> {
        self.write(line, key, reason, b"")
    }

    /// How many rows are not imported.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes out what is still held back.
    pub fn flush(&mut self) -> Result<(), Error> {
        let flushed = self.writer.flush();
        flushed.map_err(|source| self.error(source.into()))
    }

    fn write(&mut self, line: u64, key: &str, reason: &str, row: &[u8]) -> Result<(), Error> {
        let line = line.to_string();
        let written =
            self.writer
                .write_record([line.as_bytes(), key.as_bytes(), reason.as_bytes(), row]);
        written.map_err(|source| self.error(source))
    }

    fn error(&self, source: csv::Error) -> Error {
        Error {
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_rows_as_they_stood() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rejects.csv");
        let mut rejects = Rejects::create(&path).unwrap();
        rejects.add_row(7, "no price", b"1,\"a\xa3\",,").unwrap();
        rejects.add_command(9, "sale/1", "refused").unwrap();
        rejects.flush().unwrap();
        assert_eq!(rejects.rows(), 1);
        let written = std::fs::read(&path).unwrap();
        let expected =
            b"line,command,reason,row\n7,,no price,\"1,\"\"a\xa3\"\",,\"\n9,sale/1,refused,\n";
        assert_eq!(written, expected);
    }

    #[test]
    fn says_which_file_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let error = Rejects::create(&folder.path().join("none/x.csv"))
            .err()
            .unwrap();
        assert!(error.to_string().contains("none/x.csv"));
    }
}
