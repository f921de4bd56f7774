//! The golden files of a checkpoint's text form: `golden/checkpoint/v<n>/`. Consumers store checkpoints
//! beside their results, so every version stays readable. `UPDATE_GOLDEN=1 cargo test -p journal` writes
//! the files of a new version, and never overwrites an existing one.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use journal::Checkpoint;
use schemas::Timestamp;
use std::{fs, path::PathBuf};

/// The newest version of the text form. Raise it with every change.
const NEWEST: usize = 1;

fn path(version: usize, name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join(format!("golden/checkpoint/v{version}/{name}.json"))
}

fn cases() -> [(&'static str, Checkpoint); 2] {
    let start = Checkpoint::start("journal.probe", 2);
    let in_mid_log = Checkpoint {
        log_id: Some([0x11; 32]),
        next_offset: 42,
        epoch: 3,
        term: *b"term of 16 bytes",
        seq: 8,
        prev_hash: [0x22; 32],
        hash: [0x33; 32],
        probe_offset: Some(40),
        log_time: Timestamp(1_291_191_960_000_000),
        ..start.clone()
    };
    [("start", start), ("in_mid_log", in_mid_log)]
}

#[test]
fn the_text_form_of_a_checkpoint_matches_its_golden_files() {
    for (name, checkpoint) in cases() {
        let path = path(NEWEST, name);
        let content = serde_json::to_string(&checkpoint).unwrap() + "\n";
        if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &content).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        assert_eq!(
            golden, content,
            "{path:?} differs: raise NEWEST, then UPDATE_GOLDEN=1 writes the new version's files"
        );
    }
}

#[test]
fn every_version_stays_readable() {
    // This writes the files of a new version if UPDATE_GOLDEN is set.
    the_text_form_of_a_checkpoint_matches_its_golden_files();
    for version in 1..=NEWEST {
        for (name, checkpoint) in cases() {
            let path = path(version, name);
            let golden =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            let read: Checkpoint = serde_json::from_str(&golden).unwrap();
            assert_eq!(read, checkpoint, "{path:?}");
        }
    }
}
