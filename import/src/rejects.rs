//! The rejects file lists everything that was not imported: CSV with the columns `line`, `command`,
//! `reason`, `row`.
//!
//! A row that was rejected, or held back because another row of its invoice was rejected, is listed with its line,
//! the reason and its unchanged text. A command that the service refused is listed with the line of its
//! first row, its key and the reason. Each import overwrites the file; it has only its header when nothing
//! was rejected.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

/// The rejects file can't be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the rejects file {}", path.display())]
pub struct Error {
    path: PathBuf,
    #[source]
    source: csv::Error,
}

/// The open rejects file.
pub struct Rejects {
    path: PathBuf,
    writer: csv::Writer<File>,
    rows: u64,
}

impl Rejects {
    /// Creates the file, replacing an existing one.
    ///
    /// # Errors
    /// [`Error`]: the file can't be written.
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

    /// Lists a row that is not imported.
    ///
    /// # Errors
    /// [`Error`]: the file can't be written.
    pub fn add_row(&mut self, line: u64, reason: &str, row: &[u8]) -> Result<(), Error> {
        self.rows += 1;
        self.write(line, "", reason, row)
    }

    /// Lists a command that the service did not accept.
    ///
    /// # Errors
    /// [`Error`]: the file can't be written.
    pub fn add_command(&mut self, line: u64, key: &str, reason: &str) -> Result<(), Error> {
        self.write(line, key, reason, b"")
    }

    /// Number of rows listed so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes buffered entries to the file.
    ///
    /// # Errors
    /// [`Error`]: the file can't be written.
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
    fn rows_are_listed_unchanged() {
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
    fn the_error_names_the_file_that_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let error = Rejects::create(&folder.path().join("none/x.csv"))
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("none/x.csv"),
            "no \"none/x.csv\" in: {error}"
        );
    }
}
