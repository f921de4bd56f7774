//! Tests the applier with a store that refuses events or does not answer.

use super::*;
use crate::{
    parking::ParkedKey,
    recorded::{FoldError, Recorded},
    store::Opened,
    view::Partition,
};
use journal::Valid;
use schemas::{
    Body, Commit, Decision, NoOp, Origin, Sku, Timestamp,
    catalog::{Event, ProductCreated, ProductEvent},
};
use service::health::Health;
use std::sync::Mutex;
use tokio::time::timeout;

pub(crate) const TOPIC: &str = "journal.catalog";
const BUILD: Build = Build::first("slow_v1");

/// A store that never answers a step of more than `commits_max` offsets, and that refuses some keys.
#[derive(Default)]
pub(crate) struct FakeStore {
    commits_max: Option<i64>,
    /// Keys whose values the database refuses.
    refused: Vec<&'static str>,
    /// Key whose events the view can't apply.
    pub(crate) unfolded: Mutex<Option<&'static str>>,
    is_table_missing: bool,
    /// Whether a table is missing once a step was refused.
    is_table_missing_later: bool,
    /// First and next offset of each applied step.
    applied: Mutex<Vec<(i64, i64)>>,
    /// Keys and offsets of the applied events.
    pub(crate) events: Mutex<Vec<(String, i64)>>,
    /// Keys and offsets of the parked commits, and whether each can't be applied itself.
    parked: Mutex<Vec<(String, i64, bool)>>,
    /// Number of offsets of each step that timed out.
    timed_out: Mutex<Vec<i64>>,
    attempts: Mutex<usize>,
}

fn database(failure: Failure) -> StoreError {
    StoreError::Database {
        database: "fake",
        failure,
        source: "refused".into(),
    }
}

impl FakeStore {
    /// A store whose view can't apply the events of a key.
    pub(crate) fn without_fold(key: &'static str) -> Arc<Self> {
        Arc::new(Self {
            unfolded: Mutex::new(Some(key)),
            ..Self::default()
        })
    }

    fn check(&self, events: &[Recorded<'_, Event>]) -> Result<(), StoreError> {
        *self.attempts.lock().unwrap() += 1;
        if self.is_table_missing {
            return Err(database(Failure::TableMissing));
        }
        for event in events {
            if *self.unfolded.lock().unwrap() == Some(event.key) {
                return Err(event.missing_row().into());
            }
        }
        let is_refused = |event: &Recorded<'_, Event>| self.refused.contains(&event.key);
        match events.iter().any(is_refused) {
            true => Err(database(Failure::Value)),
            false => Ok(()),
        }
    }
}

impl Store for FakeStore {
    type Event = Event;

    fn build(&self) -> Build {
        BUILD
    }

    async fn open(&self, _: &[Partition]) -> Result<Opened, StoreError> {
        Ok(Opened::default())
    }

    async fn apply(&self, step: &Step<'_, Event>) -> Result<(), StoreError> {
        let next_offset = step.checkpoint.next_offset;
        let length = next_offset - step.from;
        if self.commits_max.is_some_and(|max| length > max) {
            self.timed_out.lock().unwrap().push(length);
            std::future::pending::<()>().await;
        }
        self.check(step.events)?;
        self.applied.lock().unwrap().push((step.from, next_offset));
        let applied = step.events.iter();
        let applied = applied.map(|event| (event.key.to_owned(), event.offset));
        self.events.lock().unwrap().extend(applied);
        let parked = step.parked.iter();
        let parked = parked.map(|one| (one.key.clone(), one.offset, one.error.is_some()));
        self.parked.lock().unwrap().extend(parked);
        Ok(())
    }

    async fn try_apply(&self, events: &[Recorded<'_, Event>]) -> Result<(), StoreError> {
        match self.is_table_missing_later {
            true => Err(database(Failure::TableMissing)),
            false => self.check(events),
        }
    }

    async fn release(
        &self,
        _: &ParkedKey,
        _: &[i64],
        events: &[Recorded<'_, Event>],
    ) -> Result<(), StoreError> {
        self.check(events)
    }
}

fn applier(store: FakeStore) -> (Applier<FakeStore>, Arc<FakeStore>) {
    let store = Arc::new(store);
    let applier = applier_of(&store, 0, ParkedKeys::default());
    (applier, store)
}

/// The applier of a partition.
pub(crate) fn applier_of(
    store: &Arc<FakeStore>,
    partition: i32,
    parked: ParkedKeys,
) -> Applier<FakeStore> {
    let reports = Reports {
        status: Arc::new(Status::new(Some(
            Health::default().component("view.slow_v1"),
        ))),
        progress: Progress::default(),
        reader: "slow_v1".into(),
        lags: Lags::default(),
        marks: Marks::default(),
    };
    let start = Checkpoint::start(TOPIC, partition);
    Applier::new(store.clone(), reports, start, parked)
}

fn commit(offset: i64, body: Body<Event>, key: &str) -> Valid<Event> {
    Valid {
        offset,
        key: key.to_owned().into(),
        commit: Commit {
            prev: [0; 32],
            term: [0; 16],
            epoch: 1,
            seq: offset + 1,
            recorded_at: Timestamp(offset),
            body,
        },
    }
}

fn batch_of(from: i64, commits: Vec<Valid<Event>>) -> Batch<Event> {
    let next_offset = from + i64::try_from(commits.len()).unwrap();
    Batch {
        partition: 0,
        from,
        commits: commits.into(),
        bytes: 0,
        void: 0,
        checkpoint: Checkpoint {
            next_offset,
            ..Checkpoint::start(TOPIC, 0)
        },
    }
}

fn batch(from: i64, next_offset: i64) -> Batch<Event> {
    let no_op = |offset| commit(offset, Body::NoOp(NoOp {}), "");
    batch_of(from, (from..next_offset).map(no_op).collect())
}

/// A batch with a decision of one event for each key.
pub(crate) fn decisions(from: i64, keys: &[&str]) -> Batch<Event> {
    let decision = |(offset, key): (i64, &&str)| {
        let event = ProductEvent::ProductCreated(ProductCreated {
            sku: Sku::parse(key).unwrap(),
            description: String::new(),
        });
        let decision = Decision {
            aggregate_type: "product".into(),
            version: 0,
            command_id: [0; 16],
            command_hash: [0; 16],
            origin: Origin::Keyed,
            actor: "service:test".into(),
            correlation_id: [0; 16],
            causation_id: None,
            traceparent: None,
            outcome: None,
            events: vec![Event::Product(event)],
        };
        commit(offset, Body::Decision(decision), key)
    };
    batch_of(from, (from..).zip(keys).map(decision).collect())
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_takes_too_long_is_applied_in_parts() {
    let (mut applier, store) = applier(FakeStore {
        commits_max: Some(3),
        ..FakeStore::default()
    });
    applier.apply(batch(0, 14)).await.unwrap();
    assert_eq!(*store.timed_out.lock().unwrap(), [14, 7]);
    let expected = [(0, 3), (3, 6), (6, 7), (7, 10), (10, 13), (13, 14)];
    assert_eq!(*store.applied.lock().unwrap(), expected);

    // Later batches start with the length that succeeded; longer parts are attempted after some successes.
    for from in (14..200).step_by(6) {
        applier.apply(batch(from, from + 6)).await.unwrap();
    }
    assert_eq!(*store.timed_out.lock().unwrap(), [14, 7, 6, 6, 6, 6]);
    assert_eq!(store.applied.lock().unwrap().last(), Some(&(197, 200)));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_the_view_refuses_parks_its_aggregate_and_no_other() {
    let (mut applier, store) = applier(FakeStore {
        unfolded: Mutex::new(Some("B")),
        ..FakeStore::default()
    });
    applier.apply(decisions(0, &["A", "B", "C"])).await.unwrap();
    applier.apply(decisions(3, &["B", "A"])).await.unwrap();
    let applied = [("A", 0), ("C", 2), ("A", 4)].map(|(key, at)| (key.to_owned(), at));
    assert_eq!(*store.events.lock().unwrap(), applied);
    let parked = [("B", 1, true), ("B", 3, false)];
    let parked = parked.map(|(key, at, cause)| (key.to_owned(), at, cause));
    assert_eq!(*store.parked.lock().unwrap(), parked);
    assert_eq!(*store.applied.lock().unwrap(), [(0, 3), (3, 5)]);
}

#[tokio::test(start_paused = true)]
async fn aggregates_whose_values_the_database_refuses_are_parked() {
    let (mut applier, store) = applier(FakeStore {
        refused: vec!["B", "E"],
        ..FakeStore::default()
    });
    let keys = ["A", "B", "C", "D", "E", "F", "G"];
    applier.apply(decisions(0, &keys)).await.unwrap();
    let parked = [("B", 1, true), ("E", 4, true)];
    let parked = parked.map(|(key, at, cause)| (key.to_owned(), at, cause));
    assert_eq!(*store.parked.lock().unwrap(), parked);
    assert_eq!(store.events.lock().unwrap().len(), keys.len() - 2);
}

#[tokio::test(start_paused = true)]
async fn a_table_that_refuses_every_aggregate_parks_none() {
    let keys: Vec<String> = (0..20).map(|number| format!("K{number}")).collect();
    let keys: Vec<&'static str> = keys.iter().map(|key| &*key.clone().leak()).collect();
    let (mut applier, store) = applier(FakeStore {
        refused: keys.clone(),
        ..FakeStore::default()
    });
    let mut applied = applier.apply(decisions(0, &keys)).await.unwrap();
    for attempt in 1..=3 {
        let Applied::Held(batch) = applied else {
            panic!("attempt {attempt} applied the batch");
        };
        applied = applier.resume(batch).await.unwrap();
    }
    assert_eq!(*store.parked.lock().unwrap(), []);
    let attempts = *store.attempts.lock().unwrap();
    assert!(attempts > 20, "{attempts} attempts instead of more than 20");
}

#[tokio::test(start_paused = true)]
async fn a_missing_table_is_returned_without_a_retry() {
    let (mut applier, store) = applier(FakeStore {
        is_table_missing: true,
        ..FakeStore::default()
    });
    let applied = applier.apply(decisions(0, &["A"])).await;
    let error = applied.err().expect("the table is missing");
    assert_eq!(error.failure(), Some(Failure::TableMissing), "{error}");
    assert_eq!(*store.attempts.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_found_missing_after_a_refusal_is_returned() {
    let (mut applier, store) = applier(FakeStore {
        refused: vec!["A"],
        is_table_missing_later: true,
        ..FakeStore::default()
    });
    let applied = timeout(APPLY_TIMEOUT, applier.apply(decisions(0, &["A"]))).await;
    let error = applied.expect("the applier retries").err();
    let error = error.expect("the table is missing");
    assert_eq!(error.failure(), Some(Failure::TableMissing), "{error}");
    assert_eq!(*store.parked.lock().unwrap(), []);
}

/// Another process may have parked them, and its position then ends the waits of queries here.
#[test]
fn the_parked_aggregates_of_an_opened_build_are_marked() {
    let keys = ParkedKeys::new(["product_B".to_owned()]);
    let applier = applier_of(&Arc::default(), 0, keys);
    let found = applier.reports.marks.find(BUILD, ["product_B"].into_iter());
    assert_eq!(found, Some((1, true)));
}

#[tokio::test(start_paused = true)]
async fn a_partition_counts_as_held_until_its_batch_is_applied() {
    let keys: Vec<String> = (0..20).map(|number| format!("K{number}")).collect();
    let keys: Vec<&'static str> = keys.iter().map(|key| &*key.clone().leak()).collect();
    let (mut applier, _) = applier(FakeStore {
        refused: keys.clone(),
        ..FakeStore::default()
    });
    let lags = applier.reports.lags.clone();
    let held = applier.apply(decisions(0, &keys)).await.unwrap();
    assert!(matches!(held, Applied::Held(_)), "the batch was applied");
    let stopped = std::collections::BTreeMap::from([((TOPIC.to_owned(), 0), Stop::Held)]);
    assert_eq!(lags.stopped(BUILD), stopped);
    applier.apply(batch(0, 1)).await.unwrap();
    assert_eq!(lags.stopped(BUILD).len(), 0);
}

#[test]
fn an_error_names_its_aggregate() {
    let error = FoldError::KeyNotText { offset: 7 };
    assert_eq!(error.aggregate(), None);
    let (key, offset, version) = ("A".to_owned(), 7, 2);
    let error = FoldError::MissingRow {
        key,
        offset,
        version,
    };
    assert_eq!(error.aggregate(), Some(("A", 7)));
}
