//! The language-neutral vectors of the void rule: the verdict on each record, and the state at the end.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use audit::model::{Entry, Model, Verdict};
use serde::Deserialize;
use std::{fs, path::PathBuf};

#[derive(Deserialize)]
struct Vector {
    name: String,
    topic: String,
    partition: i32,
    records: Vec<VectorRecord>,
    checkpoint: Checkpoint,
}

#[derive(Deserialize)]
struct VectorRecord {
    offset: i64,
    key: Option<String>,
    value: Option<String>,
    expect: String,
    reason: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Checkpoint {
    log_id: Option<String>,
    next_offset: i64,
    epoch: i64,
    term: String,
    seq: i64,
    prev_hash: String,
    hash: String,
    probe_offset: Option<i64>,
    log_time: i64,
}

fn vectors() -> Vec<Vector> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas/golden/journal");
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let paths = files.map(|file| file.unwrap().path());
    paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"))
        })
        .collect()
}

fn checkpoint(model: &Model) -> Checkpoint {
    let term = model.term();
    Checkpoint {
        log_id: model.log_id().map(hex::encode),
        next_offset: model.next_offset(),
        epoch: model.epoch(),
        term: hex::encode(term.map_or([0; 16], |term| term.id)),
        seq: term.map_or(0, |term| term.seq),
        prev_hash: hex::encode(model.previous_hash()),
        hash: hex::encode(model.hash()),
        probe_offset: model.last_valid(),
        log_time: model.log_time().0,
    }
}

#[test]
fn this_reader_agrees_with_every_vector() {
    let vectors = vectors();
    assert!(!vectors.is_empty(), "no vectors found");
    for vector in vectors {
        let mut model = Model::new(&vector.topic, vector.partition);
        for record in &vector.records {
            let bytes = |digits: &String| hex::decode(digits).unwrap();
            let (key, value) = (
                record.key.as_ref().map(bytes),
                record.value.as_ref().map(bytes),
            );
            let entry = Entry {
                offset: record.offset,
                timestamp_ms: -1,
                key: key.as_deref(),
                value: value.as_deref(),
            };
            let (expect, reason) = match model.judge(entry) {
                Ok(Verdict::Valid(_)) => ("valid", None),
                Ok(Verdict::Void(void)) => ("void", Some(void.reason.name().to_owned())),
                Err(alarm) => ("halt", Some(alarm.reason.name().to_owned())),
            };
            let position = format!("{} offset {}", vector.name, record.offset);
            assert_eq!(
                (expect, &reason),
                (record.expect.as_str(), &record.reason),
                "{position}"
            );
        }
        assert_eq!(checkpoint(&model), vector.checkpoint, "{}", vector.name);
    }
}
