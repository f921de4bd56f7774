//! All sources as one text, in which the names of documents are looked up.

use super::words;
use std::collections::HashSet;
use system_tests::source_tree::File;

/// Names are not looked up in these files: they are documents, tests of documents, or generated.
const NO_SOURCE: [&str; 5] = [
    "tests/tests/docs_lint/",
    "tests/tests/documents.rs",
    "schemas/golden/",
    "Cargo.lock",
    "LICENSE",
];

/// Shortest part beside a placeholder that is meaningful.
const PART_CHARS_MIN: usize = 3;

/// The sources.
pub struct Sources {
    text: String,
    words: HashSet<String>,
    paths: HashSet<String>,
}

impl Sources {
    /// The sources among all files.
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

    /// Whether a path from the root is a text file or a folder that has one.
    pub fn has_path(&self, path: &str) -> bool {
        self.paths.contains(path.trim_end_matches('/'))
    }

    /// Whether a path begins with an existing folder.
    pub fn begins_like_a_path(&self, text: &str) -> bool {
        text.split_once('/')
            .is_some_and(|(first, _)| self.has_path(first))
    }

    /// Whether the sources have the text, or all its parts around placeholders (`journal.<context>`,
    /// `order_01h4...`), or each segment of a Rust path, or a file of that name.
    pub fn know(&self, text: &str) -> bool {
        let has = |part: &str| self.text.contains(part);
        // Names of HTTP headers have no case, and sources have them in lower case.
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

    /// Whether a whole word occurs.
    pub fn know_word(&self, word: &str) -> bool {
        self.words.contains(word)
    }
}

/// A path and all its folders.
fn with_folders(path: &str) -> Vec<String> {
    let ends = path
        .match_indices('/')
        .map(|(end, _)| end)
        .chain([path.len()]);
    ends.map(|end| path[..end].to_owned()).collect()
}
