//! The promises of every store about parked aggregates, for each database: commits wait in order, are released from the
//! first one on, and stay recorded after an operator has discarded them.
//!
//! The events are those of [`crate::stores`].

use crate::{
    backends::{CqlBackend, PostgresBackend, StoreBackend, run},
    log::{PARTITION, apply_batch, batch, commit_of, open, partitions, start},
    products::{ProductRow, ProductsView},
    stores::{
        assert_without_effect, created, on_every_store, price_changed, priced, product, rows,
    },
};
use journal::{Batch, Valid};
use projections::{
    Failure, FoldError, Step, Store, StoreError, View,
    builds::{Build, registry},
    parking::{
        ParkedCommit, ParkedKey,
        decisions::{self, Decision},
        table,
    },
    recorded::recorded_events,
    view::ViewEvent,
};
use schemas::catalog::Event;

on_every_store!(
    a_parked_commit_is_recorded_with_the_checkpoint,
    waiting_commits_are_in_the_order_of_their_offsets,
    a_repeated_step_parks_no_commit_twice,
    a_release_applies_the_first_commits_and_the_others_still_wait,
    an_aggregate_without_waiting_commits_is_no_longer_parked,
    a_later_commit_is_not_released_before_an_earlier_one,
    a_second_release_of_the_same_commits_has_no_effect,
    commits_of_several_events_are_released_in_order,
    a_retry_of_one_commit_after_the_other_gives_the_same_rows,
    a_discarded_aggregate_stays_parked_and_its_later_commits_wait,
    a_discarded_aggregate_is_released_after_a_retry,
    the_decisions_about_an_aggregate_are_kept_after_it_was_applied_and_its_build_reset,
    the_decisions_about_an_aggregate_are_kept_after_its_build_was_dropped,
    a_reset_build_has_no_parked_aggregates,
    the_fingerprint_changes_when_an_aggregate_is_parked_again,
    a_release_finds_a_dropped_column,
    an_attempt_without_a_checkpoint_finds_a_dropped_column,
);

/// The aggregate that is parked.
const KEY: &str = "A";

fn key() -> ParkedKey {
    ParkedKey {
        topic: Event::TOPICS[0].to_owned(),
        partition: PARTITION,
        key: KEY.to_owned(),
    }
}

/// Applies a batch, but parks the commits of [`KEY`]. The commit at `first` can't be applied.
async fn park<S: Store<Event = Event>>(
    store: &S,
    batch: &Batch<Event>,
    first: Option<i64>,
) -> Result<(), StoreError> {
    let events = recorded_events(&batch.commits)?;
    let mut parked: Vec<ParkedCommit> = Vec::new();
    for event in events.iter().filter(|event| event.key == KEY) {
        match parked.last_mut() {
            Some(last) if last.offset == event.offset => last.events += 1,
            Some(_) | None => parked.push(ParkedCommit {
                key: KEY.to_owned(),
                offset: event.offset,
                version: event.version - 1,
                events: 1,
                error: (first == Some(event.offset)).then(|| "refused".to_owned()),
            }),
        }
    }
    let applied = events.iter().filter(|event| event.key != KEY);
    let applied: Vec<_> = applied.copied().collect();
    let step = Step {
        from: batch.from,
        checkpoint: &batch.checkpoint,
        events: &applied,
        parked: &parked,
    };
    store.apply(&step).await
}

/// Releases commits, as a retry does.
async fn release<S: Store<Event = Event>>(
    store: &S,
    commits: &[Valid<Event>],
) -> Result<(), StoreError> {
    let offsets: Vec<i64> = commits.iter().map(|commit| commit.offset).collect();
    let events = recorded_events(commits)?;
    store.release(&key(), &offsets, &events).await
}

/// The offsets of the waiting commits, with the version before each and the number of its events.
async fn waiting(backend: &impl StoreBackend) -> Vec<(i64, i64, i32)> {
    let key = key();
    let waiting = table::waiting(ProductsView::NAME, 1, &key, 100, backend.list());
    let waiting = waiting.await.unwrap().into_iter();
    waiting
        .map(|one| (one.offset, one.version, one.events))
        .collect()
}

/// The keys that a projector finds parked when it opens the build.
async fn parked(store: &impl Store<Event = Event>) -> Vec<ParkedKey> {
    let opened = store.open(&partitions::<Event>()).await.unwrap();
    opened.parked
}

/// Two commits of [`KEY`] with two events each, and one with a single event, from version 2 on.
fn several() -> Vec<Valid<Event>> {
    let commit = |offset, version, amounts: &[i64]| {
        let prices = amounts.iter().map(|amount| price_changed(*amount));
        commit_of(offset, KEY, version, prices.collect())
    };
    vec![
        commit(1, 2, &[100, 200]),
        commit(3, 4, &[300, 400]),
        commit(4, 6, &[500]),
    ]
}

/// A build with the row of [`KEY`], whose commits of [`several`] are parked in two steps. `B` is applied.
async fn with_parked_commits<B: StoreBackend>(backend: &B) -> B::Store {
    let store = backend.store();
    park_commits(&store).await;
    store
}

/// Parks the commits of [`several`] in an empty build, as [`with_parked_commits`] says.
async fn park_commits<S: Store<Event = Event>>(store: &S) {
    open(store).await;
    apply_batch(store, &batch(0, 1, vec![created(0, KEY)]))
        .await
        .unwrap();
    let [first, second, third] = <[_; 3]>::try_from(several()).unwrap();
    let one = batch(1, 3, vec![first, created(2, "B")]);
    park(store, &one, Some(1)).await.unwrap();
    let other = batch(3, 5, vec![second, third]);
    park(store, &other, None).await.unwrap();
}

/// The row of `B`.
fn other_product() -> ProductRow {
    ProductRow {
        description: "B of 2".to_owned(),
        ..product("B", 0)
    }
}

async fn a_parked_commit_is_recorded_with_the_checkpoint<B: StoreBackend>(backend: &B) {
    let store = with_parked_commits(backend).await;
    assert_eq!(parked(&store).await, [key()]);
    assert_eq!(open(&store).await.next_offset, 5);
    assert_eq!(rows(backend).await, [product(KEY, 0), other_product()]);
}

async fn waiting_commits_are_in_the_order_of_their_offsets<B: StoreBackend>(backend: &B) {
    with_parked_commits(backend).await;
    assert_eq!(waiting(backend).await, [(1, 1, 2), (3, 3, 2), (4, 5, 1)]);
    let key = key();
    let first = table::waiting(ProductsView::NAME, 1, &key, 1, backend.list());
    let first: Vec<i64> = first.await.unwrap().iter().map(|one| one.offset).collect();
    assert_eq!(first, [1]);
}

async fn a_repeated_step_parks_no_commit_twice<B: StoreBackend>(backend: &B) {
    let store = with_parked_commits(backend).await;
    let before = waiting(backend).await;
    let [first, ..] = <[_; 3]>::try_from(several()).unwrap();
    let one = batch(1, 3, vec![first, created(2, "B")]);
    assert_without_effect(&park(&store, &one, Some(1)).await);
    assert_eq!(waiting(backend).await, before);
    assert_eq!(open(&store).await.next_offset, 5);
}

async fn a_release_applies_the_first_commits_and_the_others_still_wait<B: StoreBackend>(
    backend: &B,
) {
    let store = with_parked_commits(backend).await;
    release(&store, &several()[..1]).await.unwrap();
    assert_eq!(rows(backend).await, [product(KEY, 2), other_product()]);
    assert_eq!(waiting(backend).await, [(3, 3, 2), (4, 5, 1)]);
    assert_eq!(parked(&store).await, [key()]);
}

async fn an_aggregate_without_waiting_commits_is_no_longer_parked<B: StoreBackend>(backend: &B) {
    let store = with_parked_commits(backend).await;
    release(&store, &several()).await.unwrap();
    assert_eq!(parked(&store).await, []);
    let next = batch(5, 6, vec![priced(5, KEY, 7, 600)]);
    apply_batch(&store, &next).await.unwrap();
    assert_eq!(rows(backend).await, [product(KEY, 6), other_product()]);
}

async fn a_later_commit_is_not_released_before_an_earlier_one<B: StoreBackend>(backend: &B) {
    let store = with_parked_commits(backend).await;
    let (rows_before, waiting_before) = (backend.products().await, waiting(backend).await);
    let released = release(&store, &several()[1..2]).await;
    assert!(
        matches!(&released, Err(StoreError::Fold(FoldError::Gap { .. }))),
        "{released:?}"
    );
    assert_eq!(backend.products().await, rows_before);
    assert_eq!(waiting(backend).await, waiting_before);
}

async fn a_second_release_of_the_same_commits_has_no_effect<B: StoreBackend>(backend: &B) {
    let store = with_parked_commits(backend).await;
    release(&store, &several()[..2]).await.unwrap();
    let before = backend.products().await;
    // Another process may release the same commits.
    assert_without_effect(&release(&backend.store(), &several()[..2]).await);
    assert_eq!(backend.products().await, before);
    assert_eq!(waiting(backend).await, [(4, 5, 1)]);
}

async fn commits_of_several_events_are_released_in_order<B: StoreBackend>(backend: &B) {
    let store = with_parked_commits(backend).await;
    release(&store, &several()).await.unwrap();
    assert_eq!(rows(backend).await, [product(KEY, 5), other_product()]);
    assert_eq!(backend.prices().await, [(KEY.into(), "GBP".into(), 500)]);
}

async fn a_retry_of_one_commit_after_the_other_gives_the_same_rows<B: StoreBackend>(backend: &B) {
    let store = with_parked_commits(backend).await;
    for (commit, price) in several().iter().zip([200, 400, 500]) {
        release(&store, std::slice::from_ref(commit)).await.unwrap();
        assert_eq!(backend.prices().await, [(KEY.into(), "GBP".into(), price)]);
    }
    assert_eq!(rows(backend).await, [product(KEY, 5), other_product()]);
    assert_eq!(parked(&store).await, []);
}

/// All decisions about [`KEY`], the newest first.
async fn all_decisions(backend: &impl StoreBackend) -> Vec<Decision> {
    let view = Some(ProductsView::NAME);
    let found = decisions::decisions(view, Some(KEY), 100, backend.list());
    found.await.unwrap()
}

/// Discards [`KEY`], as an operator.
async fn discard(backend: &impl StoreBackend) {
    let reason = "not needed";
    let discarded = decisions::discard(ProductsView::NAME, KEY, "tester", reason, backend.list());
    assert_eq!(discarded.await.unwrap(), 1);
}

/// The states of all parked aggregates, with the reasons why they were discarded.
async fn states(backend: &impl StoreBackend) -> Vec<(String, Option<String>)> {
    let listed = table::list(Some(ProductsView::NAME), backend.list());
    let listed = listed.await.unwrap().into_iter();
    listed.map(|one| (one.state, one.reason)).collect()
}

async fn a_discarded_aggregate_stays_parked_and_its_later_commits_wait<B: StoreBackend>(
    backend: &B,
) {
    let store = with_parked_commits(backend).await;
    discard(backend).await;
    let discarded = ("DISCARDED".to_owned(), Some("not needed".to_owned()));
    assert_eq!(states(backend).await, [discarded]);
    assert_eq!(parked(&store).await, [key()]);
    let next = batch(5, 6, vec![priced(5, KEY, 7, 600)]);
    park(&store, &next, None).await.unwrap();
    let offsets: Vec<i64> = waiting(backend).await.iter().map(|one| one.0).collect();
    assert_eq!(offsets, [1, 3, 4, 5]);
}

async fn a_discarded_aggregate_is_released_after_a_retry<B: StoreBackend>(backend: &B) {
    let store = with_parked_commits(backend).await;
    discard(backend).await;
    // Only a request that names the aggregate includes it.
    let all = decisions::request_retry(ProductsView::NAME, None, None, backend.list());
    assert_eq!(all.await.unwrap(), 0);
    let one = decisions::request_retry(
        ProductsView::NAME,
        Some(KEY),
        Some("tester"),
        backend.list(),
    );
    assert_eq!(one.await.unwrap(), 1);
    release(&store, &several()).await.unwrap();
    assert_eq!(states(backend).await, []);
    assert_eq!(rows(backend).await, [product(KEY, 5), other_product()]);
}

async fn the_decisions_about_an_aggregate_are_kept_after_it_was_applied_and_its_build_reset<
    B: StoreBackend,
>(
    backend: &B,
) {
    let store = with_parked_commits(backend).await;
    discard(backend).await;
    let retried = decisions::request_retry(ProductsView::NAME, Some(KEY), None, backend.list());
    assert_eq!(retried.await.unwrap(), 1);
    release(&store, &several()).await.unwrap();
    let found = all_decisions(backend).await;
    let reasons: Vec<_> = found
        .iter()
        .map(|one| {
            let (by, reason) = (one.decided_by.as_deref(), one.reason.as_deref());
            (one.decision.as_str(), by, reason)
        })
        .collect();
    let discarded = ("DISCARD", Some("tester"), Some("not needed"));
    assert_eq!(reasons, [("RETRY", None, None), discarded]);
    for one in &found {
        let waiting = (one.first_offset, one.last_offset, one.commits, one.events);
        assert_eq!(waiting, (1, 4, 3, 5), "{one:?}");
        assert_eq!((one.build, &*one.error), (1, "refused"), "{one:?}");
    }
    backend.drop_table(1, "products_v1").await;
    let opened = store.open(&partitions::<Event>()).await;
    assert!(
        matches!(opened, Err(StoreError::Dropped { .. })),
        "{opened:?}"
    );
    assert_eq!(all_decisions(backend).await, found);
}

async fn the_decisions_about_an_aggregate_are_kept_after_its_build_was_dropped<B: StoreBackend>(
    backend: &B,
) {
    let created = registry::create(backend.list(), ProductsView::NAME);
    let number = created.await.unwrap();
    park_commits(&backend.store_of(number)).await;
    discard(backend).await;
    let before = all_decisions(backend).await;
    let builds: Vec<i32> = before.iter().map(|one| one.build).collect();
    assert_eq!(builds, [number]);
    let mut connection = backend.list().acquire().await.unwrap();
    let dropped = registry::drop(ProductsView::NAME, number, &mut connection);
    dropped.await.unwrap();
    drop(connection);
    assert_eq!(states(backend).await, []);
    assert_eq!(all_decisions(backend).await, before);
}

async fn a_reset_build_has_no_parked_aggregates<B: StoreBackend>(backend: &B) {
    let store = with_parked_commits(backend).await;
    backend.drop_table(1, "products_v1").await;
    let opened = store.open(&partitions::<Event>()).await;
    assert!(
        matches!(opened, Err(StoreError::Dropped { .. })),
        "{opened:?}"
    );
    let successor = backend.store_of(2);
    assert_eq!(open(&successor).await, start::<Event>());
    assert_eq!(parked(&successor).await, []);
    assert_eq!(states(backend).await, []);
}

async fn the_fingerprint_changes_when_an_aggregate_is_parked_again<B: StoreBackend>(backend: &B) {
    let build = Build::first(ProductsView::NAME);
    let fingerprint = async || table::fingerprint(build, backend.list()).await.unwrap();
    let nothing_parked = fingerprint().await;
    let store = with_parked_commits(backend).await;
    let parked = fingerprint().await;
    assert_ne!(parked, nothing_parked);
    assert_eq!(fingerprint().await, parked);
    release(&store, &several()).await.unwrap();
    assert_eq!(fingerprint().await, nothing_parked);
    let next = batch(5, 6, vec![priced(5, KEY, 7, 600)]);
    park(&store, &next, Some(5)).await.unwrap();
    assert_ne!(fingerprint().await, parked);
}

async fn a_release_finds_a_dropped_column<B: StoreBackend>(backend: &B) {
    let store = with_parked_commits(backend).await;
    backend
        .alter_table(1, "products_v1", "DROP description")
        .await;
    let error = release(&store, &several()).await.unwrap_err();
    assert_eq!(error.failure(), Some(Failure::TableMissing), "{error}");
}

async fn an_attempt_without_a_checkpoint_finds_a_dropped_column<B: StoreBackend>(backend: &B) {
    let store = with_parked_commits(backend).await;
    backend
        .alter_table(1, "products_v1", "DROP description")
        .await;
    let commits = several();
    let events = recorded_events(&commits).unwrap();
    let error = store.try_apply(&events).await.unwrap_err();
    assert_eq!(error.failure(), Some(Failure::TableMissing), "{error}");
}
