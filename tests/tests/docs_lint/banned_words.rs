//! Words that this project does not use, and the words of the field that it uses instead.
//!
//! The list must stay precise: a word is here only if it has no other meaning that a source or a document
//! could need.

use crate::source_tree::File;

/// Words and what to write instead. A word with a capital letter is a name and must match as it is; any
/// other one, or a phrase, matches in any case and within longer names: `in office` finds `in_office`
/// and `InOffice`.
const BANNED: [(&[&str], &str); 36] = [
    (&["Place", "places()"], "TopicPartition"),
    (
        &["office", "offices"],
        "leadership; `OwnerStatuses`; serving",
    ),
    (&["deposed", "deposes", "depose"], "stepped down, fenced"),
    (
        &["Journey", "journey", "journeys"],
        "`InFlightCommand`; attempt",
    ),
    (&["may be done"], "`maybe_committed`"),
    (&["lane", "lanes"], "`PartitionPipeline`"),
    (&["traveller", "travellers"], "`QueuedCommand`"),
    (&["go first", "goes first"], "`requeue_front`"),
    (&["set out", "sets out"], "`dispatch`"),
    (
        &["Begun", "OtherWay", "Coming"],
        "`DispatchOutcome`, `RouteChanged`, `ReplyFuture`",
    ),
    (&["nobody()"], "`no_owner()`"),
    (
        &[
            "tried",
            "tries",
            "Trouble",
            "troubles",
            "UnderWay",
            "under way",
        ],
        "attempt; `AttemptOutcome`, `RetryReason`, `InFlight`, in flight",
    ),
    (
        &["Unfit", "unfit", "fitness", "Unsound", "Duties", "duties"],
        "self-eviction, `MisconfiguredTopics`, `PartitionAssignments`",
    ),
    (&["announcer"], "ownership publisher"),
    (
        &["Slot", "Prepared"],
        "late-initialised state; `TypedCommand`",
    ),
    (
        &["fn refusal", "refusal()", "fn settle"],
        "`rejection_outcome()`; `to_response`",
    ),
    (
        &["Seen", "Recent", "Feed"],
        "`BloomFilter`, two-generation cache, `RecordStream`",
    ),
    (
        &["mistake", "mistakes", "Sound", "Broken", "mod broken"],
        "mutation, correct protocol",
    ),
    (&["dice", "Heard", "Ask"], "rng, completion, invocation"),
    (
        &["judgement", "judgements", "mod truth", "mod inspection"],
        "checker, reference model, invariants",
    ),
    (
        &["mod tally", "Tally", "mod show", "mod world", "World"],
        "coverage, trace format, sim",
    ),
    (
        &["tampering", "pausable", "mod travel"],
        "corruption, process, network",
    ),
    (
        &["Lasting", "lasting", "patience"],
        "self-healing producer; back-off; a timeout",
    ),
    (
        &["struct Sleep", "struct Others"],
        "suspend detector, other members",
    ),
    (&["fact", "facts"], "event; recorded event"),
    (
        &["Standing", "Hindrances", "Overtaken"],
        "reader health, readiness reasons, stale checkpoint",
    ),
    (&["posted"], "applied"),
    (&["Traps"], "data quality"),
    (
        &["mod book", "mod london", "mod exchange"],
        "invoices, local time, batch stream",
    ),
    (
        &["shelf", "mod office", "mod own"],
        "workload, owners, owner process",
    ),
    (
        &[
            "ledger",
            "ledgers",
            "Look",
            "Gate",
            "mod checkout",
            "mod manual",
        ],
        "totals by source, poll, fault proxy, source tree, docs lint",
    ),
    (
        &["whoever", "whatever comes"],
        "a subject: the client, the caller, any node",
    ),
    (
        &["anew", "mend", "mends", "mended"],
        "again; repair, replace, fix",
    ),
    (&["all the same"], "nevertheless, or leave it out"),
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
/// Scripts without an ending.
const SCRIPTS: [&str; 5] = [
    "dev",
    ".ci/run",
    "bench/import",
    "bench/journal",
    "bench/nodes",
];

/// Results of earlier versions, generated files, third-party texts, and this list.
const NOT_READ: [&str; 5] = [
    "bench/RESULTS.md",
    "schemas/golden/",
    "data/",
    "LICENSE",
    "tests/tests/docs_lint/banned_words.rs",
];

/// The lines that have a banned word, and what to write instead.
pub fn banned_words(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| is_read(&file.path)) {
        let named = words_of(&file.path).map(|word| format!("{}: its name has {word}", file.path));
        found.extend(named);
        for (index, line) in file.text.lines().enumerate() {
            let place = format!("{}:{}", file.path, index + 1);
            found.extend(words_of(line).map(|word| format!("{place}: {word}")));
        }
    }
    found
}

/// The sentences of comments and documents whose first word is not a subject.
pub fn inverted_sentences(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| is_read(&file.path)) {
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

fn is_read(path: &str) -> bool {
    let is_text = SCRIPTS.contains(&path) || ENDINGS.iter().any(|ending| path.ends_with(ending));
    is_text && !NOT_READ.iter().any(|skipped| path.starts_with(skipped))
}

/// The banned words of a line, each with its replacement.
fn words_of(line: &str) -> impl Iterator<Item = String> {
    let plain = plain(line);
    let banned = BANNED
        .iter()
        .flat_map(|(words, instead)| words.iter().map(move |word| (*word, *instead)));
    let line = line.to_owned();
    banned.filter_map(move |(word, instead)| {
        let is_name = word.contains(|c: char| c.is_ascii_uppercase());
        let is_there = match is_name {
            true => has_word(&line, word, |c| c.is_ascii_alphanumeric() || c == '_'),
            false => has_word(&plain, word, |c| c.is_ascii_alphanumeric()),
        };
        is_there.then(|| format!("`{word}`; write: {instead}"))
    })
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

fn has_word(line: &str, word: &str, is_part: impl Fn(char) -> bool) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let (before, after) = (&line[..start], &line[start + word.len()..]);
        let continues = word.ends_with(&is_part) && after.starts_with(&is_part);
        !before.ends_with(&is_part) && !continues
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
    fn a_word_is_found_in_names_and_prose_and_not_within_other_words() {
        let has = |line: &str, word: &str| words_of(line).any(|found| found.contains(word));
        assert!(has("let in_office = 1;", "office"));
        assert!(has("struct OfficeState;", "office"));
        assert!(has("It is deposed.", "deposed"));
        assert!(has("fn f() -> Place {}", "Place"));
        assert!(!has("Ask for a Placement of officers.", "office"));
        assert!(!has("PlaceOrder", "Place"));
        assert!(!has("an artifact", "fact"));
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
