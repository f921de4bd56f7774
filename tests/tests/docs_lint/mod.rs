//! Reads the project's Markdown: the names that it mentions, and the words that it must not use.

mod commands;
mod plain_english;
mod program;
mod settings;
mod sources;

pub use commands::{Command, commands, program};
pub use plain_english::{banned_phrases, inverted_sentences};
pub use program::Program;
pub use settings::setting_names;
pub use sources::Sources;

use anyhow::{Result, ensure};

/// A piece of a document.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The document and the line, for error messages.
    pub location: String,
    /// Without its marks.
    pub text: String,
}

/// The parts of a document.
#[derive(Debug, Default)]
pub struct Document {
    /// The texts between single backticks.
    pub spans: Vec<Piece>,
    /// The lines of fenced blocks whose language is `sh`.
    pub shell: Vec<Piece>,
    /// Targets of links within the repository.
    pub links: Vec<Piece>,
}

impl Document {
    /// Splits a document into its parts.
    ///
    /// # Errors
    /// A span or a block that does not end. A span must end on its own line.
    pub fn read(path: &str, text: &str) -> Result<Self> {
        let mut document = Self::default();
        let mut fence: Option<&str> = None;
        for (index, line) in text.lines().enumerate() {
            let location = format!("{path}:{}", index + 1);
            match (line.trim_start().strip_prefix("```"), fence) {
                (Some(language), None) => fence = Some(language),
                (Some(_), Some(_)) => fence = None,
                (None, Some("sh")) => document.shell.push(Piece {
                    location,
                    text: line.to_owned(),
                }),
                (None, Some(_)) => {}
                (None, None) => document.read_line(&location, line)?,
            }
        }
        ensure!(fence.is_none(), "{path}: a block does not end");
        Ok(document)
    }

    fn read_line(&mut self, location: &str, line: &str) -> Result<()> {
        let parts: Vec<&str> = line.split('`').collect();
        ensure!(parts.len() % 2 == 1, "{location}: a backtick is left over");
        let piece = |text: &str| Piece {
            location: location.to_owned(),
            text: text.to_owned(),
        };
        self.spans
            .extend(parts.iter().skip(1).step_by(2).map(|text| piece(text)));
        for part in line.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            if !target.starts_with("http") {
                self.links
                    .push(piece(target.split('#').next().unwrap_or_default()));
            }
        }
        Ok(())
    }

    /// Spans and lines of shell.
    pub fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.spans.iter().chain(&self.shell)
    }
}

/// The words of a text: letters, digits and underscores.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}
