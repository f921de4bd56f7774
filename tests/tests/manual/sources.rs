//! All sources as one, to look up what a document says is in them.

use super::{super::checkout::File, words};
use std::collections::HashSet;

/// Documents don't prove each other, these tests prove nothing either, and what programs write is
/// not what people named.
const NO_SOURCE: [&str; 5] = [
    "tests/tests/manual/",
    "tests/tests/documents.rs",
    "schemas/golden/",
    "Cargo.lock",
    "LICENSE",
];

/// Shortest part around a placeholder that means anything.
const PART_CHARS_MIN: usize = 3;

/// The sources.
pub struct Sources {
    text: String,
    words: HashSet<String>,
    paths: HashSet<String>,
}

impl Sources {
    /// Of all files, those that are sources.
    pub fn of(files: &[File]) -> Self {
        let is_source = |path: &str| {
            !path.ends_with(".md") && !NO_SOURCE.iter().any(|other| path.starts_with(other))
        };
        let sources = files.iter().filter(|file| is_source(&file.path));
        let text: Vec<&str> = sources.map(|file| file.text.as_str()).collect();
        let text = text.join("\n");
        Self {
            words: words(&text).map(str::to_owned).collect(),
            paths: files
                .iter()
                .flat_map(|file| with_folders(&file.path))
                .collect(),
            text,
        }
    }

    /// Whether a path from the root names a file that is text, or a folder with one.
    pub fn has_path(&self, path: &str) -> bool {
        self.paths.contains(path.trim_end_matches('/'))
    }

    /// Whether a path begins with a folder that is there.
    pub fn begins_like_a_path(&self, text: &str) -> bool {
        text.split_once('/')
            .is_some_and(|(first, _)| self.has_path(first))
    }

    /// Whether the text occurs, or each part of it that is no placeholder (`journal.<context>`,
    /// `order_01h4...`), or each step of a Rust path, or a file of that name.
    pub fn know(&self, text: &str) -> bool {
        let has = |part: &str| self.text.contains(part);
        // Names of HTTP headers are the same in any case; sources have them in lower case.
        let header = text.split(": ").next().unwrap_or_default();
        let is_header = header.contains('-') && !header.contains(' ');
        let parts = || {
            let parts = text.split("...").flat_map(|part| part.split('<'));
            parts.map(|part| part.rsplit('>').next().unwrap_or_default())
        };
        let has_placeholder = text.contains("...") || text.contains('<');
        let means_something = |part: &str| part.len() >= PART_CHARS_MIN;
        has(text)
            || (is_header && has(&header.to_ascii_lowercase()))
            || (text.contains("::") && words(text).all(|word| self.words.contains(word)))
            || (has_placeholder && parts().any(means_something) && parts().all(has))
            || self
                .paths
                .iter()
                .any(|path| path.ends_with(&format!("/{text}")))
    }

    /// Whether a word occurs by itself.
    pub fn know_word(&self, word: &str) -> bool {
        self.words.contains(word)
    }
}

/// A path and all folders that it lies in.
fn with_folders(path: &str) -> Vec<String> {
    let ends = path
        .match_indices('/')
        .map(|(end, _)| end)
        .chain([path.len()]);
    ends.map(|end| path[..end].to_owned()).collect()
}
