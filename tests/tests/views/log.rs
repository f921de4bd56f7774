//! Batches like those of a journal's reader, without a journal.

use journal::{Batch, Checkpoint, Valid};
use projections::{
    Databases, Step, Store, StoreError,
    builds::{Entry, State, registry},
    recorded::recorded_events,
    versions::Versions,
    view::{Partition, ViewEvent},
    views::VIEWS,
};
use schemas::{Body, Commit, Decision, Origin, Timestamp};
use std::time::Duration;

/// The partition of a [`batch`].
pub const PARTITION: i32 = 2;
/// Partitions of each journal.
pub const PARTITIONS: i32 = 4;
/// Maximum number of attempts to open a store.
const OPEN_ATTEMPTS_MAX: usize = 20;
/// Time between two attempts to open a store.
const OPEN_INTERVAL: Duration = Duration::from_millis(500);

/// A commit of one event that gives its aggregate this version.
pub fn commit<E>(offset: i64, key: &str, version: i64, event: E) -> Valid<E> {
    commit_of(offset, key, version, vec![event])
}

/// A commit whose first event gives its aggregate this version.
pub fn commit_of<E>(offset: i64, key: &str, version: i64, events: Vec<E>) -> Valid<E> {
    let decision = Decision {
        aggregate_type: "order".into(),
        version: version - 1,
        command_id: [0; 16],
        command_hash: [0; 16],
        origin: Origin::Keyed,
        actor: "service:test".into(),
        correlation_id: [0; 16],
        causation_id: None,
        traceparent: None,
        outcome: None,
        events,
    };
    let commit = Commit {
        prev: [0; 32],
        term: [0; 16],
        epoch: 1,
        seq: offset,
        recorded_at: Timestamp(0),
        body: Body::Decision(decision),
    };
    Valid {
        offset,
        key: key.to_owned().into(),
        commit,
    }
}

/// A batch that leads from one checkpoint to another.
pub fn batch<E: ViewEvent>(from: i64, next_offset: i64, commits: Vec<Valid<E>>) -> Batch<E> {
    batch_of(PARTITION, from, next_offset, commits)
}

/// A batch of any partition.
pub fn batch_of<E: ViewEvent>(
    partition: i32,
    from: i64,
    next_offset: i64,
    commits: Vec<Valid<E>>,
) -> Batch<E> {
    let checkpoint = Checkpoint {
        next_offset,
        ..Checkpoint::start(E::TOPICS[0], partition)
    };
    Batch {
        partition,
        from,
        commits: commits.into(),
        bytes: 0,
        void: 0,
        checkpoint,
    }
}

/// The checkpoint before the first batch.
pub fn start<E: ViewEvent>() -> Checkpoint {
    Checkpoint::start(E::TOPICS[0], PARTITION)
}

/// Every partition of a view's first journal.
pub fn partitions<E: ViewEvent>() -> Vec<Partition> {
    (0..PARTITIONS)
        .map(|partition| (E::TOPICS[0], partition))
        .collect()
}

/// Applies a batch to a view without parked aggregates.
pub async fn apply_batch<S: Store>(store: &S, batch: &Batch<S::Event>) -> Result<(), StoreError> {
    let events = recorded_events(&batch.commits)?;
    let step = Step {
        from: batch.from,
        checkpoint: &batch.checkpoint,
        events: &events,
        parked: &[],
    };
    store.apply(&step).await
}

/// Creates the first build of the newest version of every view, as the first start of a node does, and makes it answer
/// the view's queries.
pub async fn create_builds(databases: &Databases) {
    let names: Vec<&str> = VIEWS.iter().map(|view| view.name).collect();
    registry::create_first_builds(&databases.postgres, &names)
        .await
        .unwrap();
    // In these tests, no process checks whether the builds have caught up, and a build that has not answers no queries.
    sqlx::query("UPDATE view_builds SET caught_up = true")
        .execute(&databases.postgres)
        .await
        .unwrap();
    let entry = |name: &&str| Entry {
        view: (*name).to_owned(),
        build: 1,
        state: State::Serving,
        created_at: Timestamp(0),
        changed_at: Timestamp(0),
        has_tables: false,
        has_caught_up: true,
    };
    let views = Versions::of_all(VIEWS);
    let newest: Vec<&str> = views.iter().map(|view| view.newest().name).collect();
    let entries: Vec<Entry> = newest.iter().map(entry).collect();
    databases.serving.set(&entries);
}

/// Opens a store, which creates its missing tables; returns its checkpoint.
pub async fn open<S: Store>(store: &S) -> Checkpoint {
    let of_partition = |checkpoint: &Checkpoint| checkpoint.partition == PARTITION;
    let mut attempts = 0..OPEN_ATTEMPTS_MAX;
    loop {
        match store.open(&partitions::<S::Event>()).await {
            Ok(opened) => return opened.checkpoints.into_iter().find(of_partition).unwrap(),
            // Other tests change the schema at the same time, so an attempt may fail. The projector also makes another
            // attempt.
            Err(error) if error.failure().is_some() && attempts.next().is_some() => {
                tokio::time::sleep(OPEN_INTERVAL).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}
