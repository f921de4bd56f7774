//! The void rule against its vectors: `schemas/golden/journal/<name>.json`, one scenario a file, for
//! every reader of the log in any language. A file lists a partition's records in order, with keys
//! and values in hex, the verdict on each and the checkpoint after the last one; the README there
//! describes the format.
//!
//! `UPDATE_GOLDEN=1 cargo test -p journal --test vectors` writes missing files, and never changes a file: a reader in
//! another language may have been tested against it.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    reason = "tests may panic, and their numbers are small"
)]

mod scenarios;
mod writer;

use journal::{
    checkpoint::Checkpoint,
    frame::Frame,
    rule::{Rule, Verdict},
};
use scenarios::{Expect, Record, Vector};
use schemas::{Commit, Context, orders};
use std::{collections::BTreeSet, fs, path::PathBuf, sync::Once};

/// Scenarios with valid frames whose bodies are not of today's schema, or not as a writer packs them.
const NOT_OF_TODAYS_SCHEMA: [&str; 3] = [
    "fields_of_a_later_version",
    "decision_cut_off",
    "varints_padded",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas/golden/journal")
}

fn bytes(hex_text: &Option<String>) -> Option<Vec<u8>> {
    hex_text.as_ref().map(|text| hex::decode(text).unwrap())
}

fn content(vector: &Vector) -> String {
    serde_json::to_string_pretty(vector).unwrap() + "\n"
}

/// Writes the absent files, once a run and before any test reads them.
fn update_if_requested() {
    static UPDATED: Once = Once::new();
    UPDATED.call_once(|| {
        if std::env::var_os("UPDATE_GOLDEN").is_none() {
            return;
        }
        fs::create_dir_all(folder()).unwrap();
        for vector in scenarios::all() {
            let path = folder().join(format!("{}.json", vector.name));
            if !path.exists() {
                fs::write(path, content(&vector)).unwrap();
            }
        }
    });
}

/// The vectors as they are stored. All tests read these; a separate test finds drift.
fn stored() -> Vec<Vector> {
    update_if_requested();
    let mut vectors = Vec::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let vector: Vector =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        assert_eq!(
            path.file_stem().unwrap().to_str(),
            Some(vector.name.as_str())
        );
        vectors.push(vector);
    }
    vectors
}

fn judge(rule: &mut Rule, record: &Record) -> (Expect, Option<String>) {
    let (key, value) = (bytes(&record.key), bytes(&record.value));
    match rule.judge(record.offset, key.as_deref(), value.as_deref()) {
        Ok(Verdict::Valid(_)) => (Expect::Valid, None),
        Ok(Verdict::Void(reason)) => (Expect::Void, Some(reason.name().into())),
        Err(alarm) => (Expect::Halt, Some(alarm.name().into())),
    }
}

#[test]
fn vectors_match_their_scenarios() {
    update_if_requested();
    let vectors = scenarios::all();
    let mut names = BTreeSet::new();
    for vector in &vectors {
        assert!(names.insert(vector.name.clone()), "{} twice", vector.name);
        let path = folder().join(format!("{}.json", vector.name));
        let content = content(vector);
        let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        assert_eq!(golden, content, "{path:?} differs from its scenario");
    }
    let files: BTreeSet<_> = stored().into_iter().map(|vector| vector.name).collect();
    assert_eq!(files, names, "a file without a scenario");
}

#[test]
fn the_rule_agrees_with_the_vectors() {
    for vector in stored() {
        let mut rule = Rule::new(&vector.topic, vector.partition);
        for (index, record) in vector.records.iter().enumerate() {
            let before = rule.checkpoint();
            let found = judge(&mut rule, record);
            let position = format!("{} record {index}", vector.name);
            assert_eq!(found, (record.expect, record.reason.clone()), "{position}");
            if record.expect == Expect::Halt {
                assert_eq!(rule.checkpoint(), before, "{position}");
                assert_eq!(
                    index + 1,
                    vector.records.len(),
                    "{position} is not the last"
                );
            }
        }
        let checkpoint = serde_json::to_value(rule.checkpoint()).unwrap();
        let expected = serde_json::to_value(&vector.checkpoint).unwrap();
        assert_eq!(checkpoint, expected, "{}", vector.name);
    }
}

#[test]
fn every_checkpoint_is_confirmed_by_its_record() {
    for vector in stored() {
        let text = serde_json::to_string(&vector.checkpoint).unwrap();
        let checkpoint: Checkpoint = serde_json::from_str(&text).unwrap();
        let Some(offset) = checkpoint.probe_offset else {
            continue;
        };
        let record = vector
            .records
            .iter()
            .find(|record| record.offset == offset)
            .unwrap();
        let (key, value) = (bytes(&record.key), bytes(&record.value));
        let probed = checkpoint.probe(offset, key.as_deref(), value.as_deref());
        assert_eq!(probed, Ok(()), "{}", vector.name);
    }
}

/// Every reason to be void occurs in a vector, and so does every alarm.
#[test]
fn vectors_show_every_reason() {
    let shown: BTreeSet<String> = stored()
        .iter()
        .flat_map(|vector| &vector.records)
        .filter_map(|record| record.reason.clone())
        .collect();
    let known = [
        "altered",
        "announcement_seq",
        "announcement_skips_epoch",
        "announcement_too_late",
        "before_first_term",
        "chain_broken",
        "future_epoch",
        "key_forbidden",
        "key_missing",
        "malformed_body",
        "malformed_length",
        "malformed_magic",
        "malformed_range",
        "malformed_text",
        "malformed_truncated",
        "malformed_varint",
        "newer_rule",
        "null_key",
        "null_value",
        "offset_went_back",
        "other_term",
        "seq_gap",
        "seq_repeated",
        "term_unknown",
    ];
    assert_eq!(shown, known.map(String::from).into());
}

/// Readers in other languages have the README only: it names every file and every reason, and marks
/// nothing else in the same way.
#[test]
fn the_readme_names_every_vector_and_every_reason() {
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    let (words, corners) = readme.split_once("## The corners").unwrap();
    let in_code = |text: &str| -> BTreeSet<String> {
        let spans = text.split('`').skip(1).step_by(2);
        spans.map(String::from).collect()
    };
    let vectors = stored();
    let names = vectors.iter().map(|vector| vector.name.clone()).collect();
    assert_eq!(in_code(corners), names);
    let named = in_code(words);
    for record in vectors.iter().flat_map(|vector| &vector.records) {
        if let Some(reason) = &record.reason {
            assert!(named.contains(reason), "no {reason:?} in {named:?}");
        }
    }
}

/// The frame is read by position; a reader with the schema finds the same fields, and our serializer
/// writes the same bytes.
#[test]
fn frames_are_read_as_the_schema_says() {
    for vector in stored() {
        if NOT_OF_TODAYS_SCHEMA.contains(&vector.name.as_str()) {
            continue;
        }
        let context = Context::of_topic(&vector.topic).unwrap();
        let schema: serde_avro_fast::Schema = context.schema().parse().unwrap();
        let valid = vector
            .records
            .iter()
            .filter(|record| record.expect == Expect::Valid);
        for record in valid {
            let value = bytes(&record.value).unwrap();
            let frame = Frame::read(&value).unwrap();
            // No vector has an event, so the event type of any context serves.
            let commit: Commit<orders::Event> =
                serde_avro_fast::from_datum_slice(&value[5..], &schema).unwrap();
            let read = (commit.prev, commit.term, commit.epoch, commit.seq);
            assert_eq!(read, (frame.prev, frame.term, frame.epoch, frame.seq));
            assert_eq!(commit.recorded_at, frame.recorded_at);
            assert_eq!(value[1..5], frame.schema_id.to_be_bytes());
            let mut config = serde_avro_fast::ser::SerializerConfig::new(&schema);
            let written = serde_avro_fast::to_datum_vec(&commit, &mut config).unwrap();
            assert_eq!(written, &value[5..], "{} {}", vector.name, record.offset);
        }
    }
}
