//! The golden file of the state store's layout, one per layout version. A changed entry needs a raised
//! `LAYOUT_VERSION`: `UPDATE_GOLDEN=1 cargo test -p journal` writes the file of a new version, and never
//! overwrites an existing one.

use super::{
    bloom_filter::BloomFilter,
    entries::{Aggregate, StoredAnswer, Unsaved},
    request::Machine,
    store_layout::{self, LAYOUT_VERSION},
};
use crate::{
    checkpoint::Checkpoint,
    probe::Event,
    store::{Change, Entries, Memory, StateStore, Table},
};
use schemas::{Origin, Outcome, OutcomeKind, Timestamp, ids::CommandId};
use std::{fs, path::PathBuf, sync::Arc};

/// Counters. Only the encoding of their state matters here.
struct Counters;

impl Machine for Counters {
    const FOLD_VERSION: u32 = 7;
    type Event = Event;
    type State = Option<i64>;
    type Command = ();

    fn blank(&self, _: &str) -> Option<Option<i64>> {
        Some(None)
    }

    fn decide(&self, _: &Option<i64>, (): &()) -> Result<Vec<Event>, Outcome> {
        Ok(Vec::new())
    }

    fn evolve(&self, state: Option<i64>, _: &Event) -> Option<i64> {
        state
    }
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join(format!("golden/state_store/v{LAYOUT_VERSION}/{name}"))
}

fn checkpoint() -> Checkpoint {
    Checkpoint {
        log_id: Some([0x11; 32]),
        next_offset: 42,
        epoch: 3,
        term: *b"term of 16 bytes",
        seq: 8,
        prev_hash: [0x22; 32],
        hash: [0x33; 32],
        probe_offset: Some(40),
        log_time: Timestamp(1_291_191_960_000_000),
        ..Checkpoint::start("journal.probe", 2)
    }
}

/// One answer per origin; one of them with an outcome.
fn answers() -> Vec<(CommandId, StoredAnswer)> {
    let origins = [
        Origin::Unknown,
        Origin::Keyed,
        Origin::Server,
        Origin::Policy,
        Origin::Timer,
    ];
    let answer = |(number, origin): (u8, Origin)| {
        let stored = StoredAnswer {
            hash: [number + 0xa0; 16],
            recorded_at: Timestamp(1_291_191_960_000_000 - i64::from(number)),
            origin,
            offset: 35 + i64::from(number),
            version: i64::from(number),
            events: usize::from(number) % 3,
            outcome: (origin == Origin::Keyed).then(|| {
                Box::new(Outcome {
                    kind: OutcomeKind::Conflict,
                    code: "TOO_HIGH".into(),
                    detail: b"{}".to_vec(),
                })
            }),
        };
        (CommandId([number; 16]), stored)
    };
    (1..).zip(origins).map(answer).collect()
}

fn unsaved() -> Unsaved<Option<i64>> {
    let aggregate = |version, state| Arc::new(Aggregate { version, state });
    Unsaved {
        aggregates: [
            ("counter_A".into(), aggregate(300, Some(-5))),
            ("counter_B".into(), aggregate(0, None)),
        ]
        .into_iter()
        .collect(),
        answers: answers(),
    }
}

/// The changes of one write, sorted by table and key.
fn changes(hash_key: Option<&str>) -> Vec<Change> {
    let store = Memory::default();
    let mut changes =
        store_layout::changes::<Counters>(&unsaved(), &checkpoint(), hash_key, &store);
    changes.sort_by(|one, other| (one.table, &one.key).cmp(&(other.table, &other.key)));
    changes
}

/// A line per entry: table, key and value; text where the layout has text, otherwise hex.
fn text(changes: &[Change]) -> String {
    let line = |change: &Change| {
        let value = change.value.as_deref().expect("this write removes nothing");
        let plain = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (key, value) = match change.table {
            Table::Meta => (plain(&change.key), plain(value)),
            Table::Aggregates => (plain(&change.key), hex::encode(value)),
            Table::Answers | Table::Expiry => (hex::encode(&change.key), hex::encode(value)),
        };
        format!("{:?} {key} {value}\n", change.table)
    };
    changes.iter().map(line).collect()
}

fn check(name: &str, content: &str) {
    let path = path(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    assert_eq!(
        golden, content,
        "{path:?} differs: raise LAYOUT_VERSION, then UPDATE_GOLDEN=1 writes the new version's file"
    );
}

#[test]
fn a_changed_entry_needs_a_raised_layout_version() {
    check("entries.txt", &text(&changes(None)));
}

/// The fingerprint is an optional part of the stamp: earlier releases of this layout version ignore it.
#[test]
fn the_fingerprint_of_the_hash_key_changes_only_the_stamp() {
    let with_key = changes(Some("8899aabbccddeeff"));
    let (stamp, entries): (Vec<_>, Vec<_>) = with_key
        .into_iter()
        .partition(|change| change.table == Table::Meta);
    check("stamp_with_hash_key.txt", &text(&stamp));
    let mut without_key = changes(None);
    without_key.retain(|change| change.table != Table::Meta);
    assert_eq!(entries, without_key);
}

#[tokio::test]
async fn written_entries_are_read_back() {
    let store = Arc::new(Memory::default());
    store.apply(changes(None));
    let port: Arc<dyn StateStore> = store.clone();
    let restored = store_layout::checkpoint::<Counters>(&port, "journal.probe", 2, None).await;
    let restored = restored.unwrap();
    assert_eq!(restored, Some(checkpoint()));
    for (key, expected) in &unsaved().aggregates {
        let bytes = store
            .get(Table::Aggregates, key.as_bytes())
            .unwrap()
            .unwrap();
        let read: Aggregate<Option<i64>> = store_layout::read(key, &bytes).unwrap();
        assert_eq!(
            (read.version, read.state),
            (expected.version, expected.state)
        );
    }
    let mut ids = BloomFilter::default();
    let added = store_layout::add_ids(&port, checkpoint().log_time, &mut ids).await;
    added.unwrap();
    for (id, expected) in answers() {
        let bytes = store.get(Table::Answers, &id.0).unwrap().unwrap();
        let read: StoredAnswer = store_layout::read("an answer", &bytes).unwrap();
        assert_eq!(read, expected);
        assert!(ids.may_contain(id), "{id:?} has no expiry entry");
    }
}
