//! Phrases that make a sentence hard to read at once, and plain ones to write instead.
//!
//! The list must stay precise: a phrase is here only if no source and no document could need it.

use system_tests::source_tree::File;

/// Phrases and what to write instead. A phrase matches in any case, and within names: `made anew`
/// finds `made_anew` and `MadeAnew`.
const BANNED: [(&[&str], &str); 6] = [
    (
        &["whoever", "whatever comes"],
        "a subject: the client, the caller, any node",
    ),
    (
        &["anew", "mend", "mends", "mended"],
        "again; repair, replace, fix",
    ),
    (&["all the same"], "nevertheless, or leave it out"),
    (&["the same, but"], "the difference alone"),
    (&["for so long", "so long as"], "a duration; while"),
    (&["is none of", "is none that"], "is not"),
];

/// Words that must not begin a sentence: the subject comes first.
const FIRST_WORDS: [&str; 5] = ["What", "Whoever", "Who", "Of", "That"];

/// Endings of the files that are read.
const ENDINGS: [&str; 11] = [
    ".rs",
    ".md",
    ".sh",
    ".py",
    ".avsc",
    ".sql",
    ".cql",
    ".template",
    ".toml",
    ".yml",
    ".xml",
];
/// Results of earlier versions, generated files, third-party texts, and this list.
const NOT_READ: [&str; 5] = [
    "bench/RESULTS.md",
    "schemas/golden/",
    "data/",
    "LICENSE",
    "tests/tests/docs_lint/plain_english.rs",
];

/// The lines that have a banned phrase, and what to write instead.
pub fn banned_phrases(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| is_read(file)) {
        let named =
            phrases_of(&file.path).map(|phrase| format!("{}: its name has {phrase}", file.path));
        found.extend(named);
        for (index, line) in file.text.lines().enumerate() {
            let location = format!("{}:{}", file.path, index + 1);
            found.extend(phrases_of(line).map(|word| format!("{location}: {word}")));
        }
    }
    found
}

/// The sentences of comments and documents whose first word is not a subject.
pub fn inverted_sentences(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| is_read(file)) {
        // Whether the next line of text begins a sentence.
        let mut begins = true;
        for (index, line) in file.text.lines().enumerate() {
            let Some(text) = prose(&file.path, line) else {
                begins = true;
                continue;
            };
            if let Some(word) = first_word_of_a_sentence(text, begins) {
                found.push(format!(
                    "{}:{}: begins with {word}: {text}",
                    file.path,
                    index + 1
                ));
            }
            begins = text.is_empty() || text.ends_with(['.', ':', '?']);
        }
    }
    found
}

/// Scripts need no ending.
fn is_read(file: &File) -> bool {
    let has_ending = ENDINGS.iter().any(|ending| file.path.ends_with(ending));
    let is_skipped = NOT_READ
        .iter()
        .any(|skipped| file.path.starts_with(skipped));
    (has_ending || file.text.starts_with("#!")) && !is_skipped
}

/// The banned phrases of a line, each with its replacement.
fn phrases_of(line: &str) -> impl Iterator<Item = String> {
    let plain = plain(line);
    let banned = BANNED
        .iter()
        .flat_map(|(phrases, instead)| phrases.iter().map(move |phrase| (*phrase, *instead)));
    banned
        .filter(move |(phrase, _)| has_phrase(&plain, phrase))
        .map(|(phrase, instead)| format!("`{phrase}`; write: {instead}"))
}

/// A line in lower case, with the words of its names apart.
fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len() + 8);
    let mut before = ' ';
    for c in line.chars() {
        if before.is_ascii_lowercase() && c.is_ascii_uppercase() {
            plain.push(' ');
        }
        plain.push(if c == '_' {
            ' '
        } else {
            c.to_ascii_lowercase()
        });
        before = c;
    }
    plain
}

fn has_phrase(line: &str, phrase: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric();
    line.match_indices(phrase).any(|(start, _)| {
        let (before, after) = (&line[..start], &line[start + phrase.len()..]);
        !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}

/// The text of a comment's line or of a document's; `None` for code.
fn prose<'a>(path: &str, line: &'a str) -> Option<&'a str> {
    let line = line.trim();
    let markers: &[&str] = match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("rs") => &["///", "//!", "//"],
        Some("md") => return Some(line.trim_start_matches(['-', '#', '*', '|', ' '])),
        _ => &["#"],
    };
    let text = markers.iter().find_map(|marker| line.strip_prefix(marker));
    text.map(str::trim)
}

fn first_word_of_a_sentence(text: &str, begins: bool) -> Option<&'static str> {
    let begins_with = |sentence: &str, word: &str| {
        let rest = sentence.strip_prefix(word);
        rest.is_some_and(|rest| rest.starts_with([' ', ',', '\'']))
    };
    let mut sentences = text.split(". ").enumerate();
    sentences.find_map(|(index, sentence)| {
        let is_question = sentence.ends_with('?');
        let mut words = FIRST_WORDS.into_iter();
        let word = words.find(|word| begins_with(sentence, word))?;
        ((begins || index > 0) && !is_question).then_some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phrase_is_found_in_names_and_prose_and_not_within_other_words() {
        let has = |line: &str| phrases_of(line).next().is_some();
        assert!(has("let made_anew = 1;"));
        assert!(has("struct MadeAnew;"));
        assert!(has("Whoever asks, waits."));
        assert!(!has("Please amend it."));
    }

    #[test]
    fn a_sentence_is_judged_by_its_first_word() {
        let file = |text: &str| File {
            path: "a.rs".into(),
            text: text.into(),
        };
        let count = |text: &str| inverted_sentences(&[file(text)]).len();
        assert_eq!(count("/// What a node does."), 1);
        assert_eq!(count("/// A node. Whoever asks, waits."), 1);
        assert_eq!(count("/// It waits. That costs a second."), 1);
        assert_eq!(count("/// It is the value\n/// That follows."), 0);
        assert_eq!(count("/// The value that is What."), 0);
    }
}
