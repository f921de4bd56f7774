//! The promises of every store to the projector, for each database.
//!
//! In a product's history, version 1 creates the product, and each later version is a price. Its key is its SKU.

use crate::{
    backends::{CqlBackend, PostgresBackend, StoreBackend, is_locked_out, run},
    log::{PARTITIONS, apply_batch, batch, commit, open, partitions, start},
    products::{ProductRow, ProductsView},
};
use futures_util::future::join_all;
use journal::{Batch, Valid};
use projections::{
    Failure, FoldError, Store, StoreError, View,
    builds::{State, registry},
};
use schemas::{
    Currency, Money, Sku,
    catalog::{Event, ProductCreated, ProductEvent, ProductPriceChanged},
};

/// Runs each of these tests on each store.
macro_rules! on_every_store {
    ($($test:ident),+ $(,)?) => {
        mod postgres {
            use super::{PostgresBackend, run};
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    run::<PostgresBackend>(super::$test::<PostgresBackend>).await;
                }
            )+
        }

        mod cql {
            use super::{CqlBackend, run};
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    run::<CqlBackend>(super::$test::<CqlBackend>).await;
                }
            )+
        }
    };
}

pub(crate) use on_every_store;

on_every_store!(
    a_new_view_starts_at_the_beginning_of_every_partition,
    several_nodes_can_open_a_view_at_once,
    a_batch_stores_its_rows_and_its_checkpoint,
    a_batch_without_events_moves_the_checkpoint,
    a_row_continues_from_the_batch_before,
    many_rows_fit_in_one_batch,
    a_replay_changes_nothing,
    a_zombie_does_not_overwrite,
    a_deleted_row_is_gone,
    a_replay_from_before_a_deletion_does_not_restore_the_row,
    a_deleted_row_can_be_created_again,
    an_event_that_was_applied_before_is_skipped,
    a_gap_is_an_error,
    a_refused_batch_changes_neither_rows_nor_checkpoint,
    a_view_that_lost_a_table_starts_over_in_a_new_build,
    a_build_that_lost_a_table_locks_no_build_before_an_earlier_one,
    a_build_whose_column_was_dropped_is_replaced,
    a_build_whose_column_was_added_again_is_replaced,
    a_build_that_lost_a_column_of_an_operator_is_not_replaced,
    a_renamed_column_is_named_by_every_attempt,
);

pub fn created(offset: i64, sku: &str) -> Valid<Event> {
    let product = ProductCreated {
        sku: Sku::parse(sku).unwrap(),
        description: format!("{sku} of {offset}"),
    };
    commit(
        offset,
        sku,
        1,
        Event::Product(ProductEvent::ProductCreated(product)),
    )
}

pub fn priced(offset: i64, sku: &str, version: i64, amount: i64) -> Valid<Event> {
    commit(offset, sku, version, price_changed(amount))
}

/// The event that gives a product this price.
pub fn price_changed(amount: i64) -> Event {
    let price = ProductPriceChanged {
        old: None,
        new: Money {
            amount,
            currency: Currency::GBP,
        },
    };
    Event::Product(ProductEvent::ProductPriceChanged(price))
}

/// The product that `created` creates at offset 0, after this many price changes.
pub fn product(sku: &str, changes: i64) -> ProductRow {
    ProductRow {
        sku: sku.into(),
        description: format!("{sku} of 0"),
        changes,
        version: changes + 1,
    }
}

/// The rows of the first build.
pub async fn rows(backend: &impl StoreBackend) -> Vec<ProductRow> {
    let products = backend.products().await.into_iter();
    products.map(|(row, _)| row).collect()
}

/// A store may refuse a batch that it has applied before, or apply it again without an effect.
#[track_caller]
pub fn assert_without_effect(applied: &Result<(), StoreError>) {
    assert!(
        matches!(applied, Ok(()) | Err(StoreError::StaleCheckpoint { .. })),
        "{applied:?} instead of Ok(()) | Err(StoreError::StaleCheckpoint)"
    );
}

async fn a_new_view_starts_at_the_beginning_of_every_partition<B: StoreBackend>(backend: &B) {
    let wanted = partitions::<Event>();
    let opened = backend.store().open(&wanted).await.unwrap();
    let checkpoints = opened.checkpoints;
    let partitions: Vec<_> = checkpoints.iter().map(|one| one.partition).collect();
    assert_eq!(partitions, Vec::from_iter(0..PARTITIONS));
    let offsets: Vec<_> = checkpoints.iter().map(|one| one.next_offset).collect();
    assert_eq!(offsets, vec![0; checkpoints.len()]);
}

async fn several_nodes_can_open_a_view_at_once<B: StoreBackend>(backend: &B) {
    let stores: Vec<_> = (0..4).map(|_| backend.store()).collect();
    for checkpoint in join_all(stores.iter().map(open)).await {
        assert_eq!(checkpoint, start::<Event>());
    }
}

pub async fn a_batch_stores_its_rows_and_its_checkpoint<B: StoreBackend>(backend: &B) {
    let store = backend.store();
    open(&store).await;
    let commits = vec![created(0, "A"), priced(1, "A", 2, 255)];
    let batch = batch(0, 2, commits);
    apply_batch(&store, &batch).await.unwrap();
    assert_eq!(rows(backend).await, [product("A", 1)]);
    assert_eq!(backend.prices().await, [("A".into(), "GBP".into(), 255)]);
    assert_eq!(open(&store).await, batch.checkpoint);
}

async fn a_batch_without_events_moves_the_checkpoint<B: StoreBackend>(backend: &B) {
    let store = backend.store();
    open(&store).await;
    apply_batch(&store, &batch(0, 7, vec![])).await.unwrap();
    assert_eq!(rows(backend).await, []);
    assert_eq!(open(&store).await.next_offset, 7);
}

async fn a_row_continues_from_the_batch_before<B: StoreBackend>(backend: &B) {
    let store = backend.store();
    open(&store).await;
    apply_batch(&store, &batch(0, 1, vec![created(0, "A")]))
        .await
        .unwrap();
    for offset in 1..4 {
        let commits = vec![priced(offset, "A", offset + 1, 100 * offset)];
        apply_batch(&store, &batch(offset, offset + 1, commits))
            .await
            .unwrap();
    }
    assert_eq!(rows(backend).await, [product("A", 3)]);
    assert_eq!(backend.prices().await, [("A".into(), "GBP".into(), 300)]);
}

async fn many_rows_fit_in_one_batch<B: StoreBackend>(backend: &B) {
    let store = backend.store();
    open(&store).await;
    let sku = |number: i64| format!("P{number:03}");
    let created = (0..250).map(|number| created(number, &sku(number)));
    // The price 0 of every second product deletes it.
    let priced = (0..250).map(|number| priced(250 + number, &sku(number), 2, number % 2));
    apply_batch(&store, &batch(0, 250, created.collect()))
        .await
        .unwrap();
    apply_batch(&store, &batch(250, 500, priced.collect()))
        .await
        .unwrap();
    let rows = rows(backend).await;
    let seen: Vec<_> = rows
        .iter()
        .map(|row| (row.sku.clone(), row.changes))
        .collect();
    let odd = (0..250).filter(|number| number % 2 == 1);
    let expected: Vec<_> = odd.map(|number| (sku(number), 1)).collect();
    assert_eq!(seen, expected);
}

async fn a_replay_changes_nothing<B: StoreBackend>(backend: &B) {
    let store = backend.store();
    open(&store).await;
    let first = batch(0, 2, vec![created(0, "A"), created(1, "B")]);
    let second = batch(2, 4, vec![priced(2, "A", 2, 1), priced(3, "B", 2, 2)]);
    apply_batch(&store, &first).await.unwrap();
    apply_batch(&store, &second).await.unwrap();
    let before = backend.products().await;
    for replayed in [&first, &second] {
        assert_without_effect(&apply_batch(&store, replayed).await);
        assert_eq!(backend.products().await, before);
        assert_eq!(open(&store).await, second.checkpoint);
    }
}

async fn a_zombie_does_not_overwrite<B: StoreBackend>(backend: &B) {
    let (store, zombie) = (backend.store(), backend.store());
    open(&store).await;
    open(&zombie).await;
    let first = vec![created(0, "A"), priced(1, "A", 2, 1)];
    apply_batch(&store, &batch(0, 2, first)).await.unwrap();
    let second = vec![priced(2, "A", 3, 2), priced(3, "A", 4, 3)];
    apply_batch(&store, &batch(2, 4, second)).await.unwrap();
    let before = backend.products().await;
    // The zombie's batches have other bounds.
    let late = [created(0, "A"), priced(1, "A", 2, 1), priced(2, "A", 3, 2)];
    for (from, to) in [(0, 1), (0, 3), (1, 3)] {
        let commits = late
            .iter()
            .filter(|commit| (from..to).contains(&commit.offset));
        let commits = commits.cloned().collect();
        assert_without_effect(&apply_batch(&zombie, &batch(from, to, commits)).await);
        assert_eq!(backend.products().await, before);
        assert_eq!(open(&store).await.next_offset, 4);
    }
}

async fn a_deleted_row_is_gone<B: StoreBackend>(backend: &B) {
    let store = backend.store();
    open(&store).await;
    let commits = vec![created(0, "A"), priced(1, "A", 2, 255)];
    apply_batch(&store, &batch(0, 2, commits)).await.unwrap();
    apply_batch(&store, &batch(2, 3, vec![priced(2, "A", 3, 0)]))
        .await
        .unwrap();
    assert_eq!(rows(backend).await, []);
    assert_eq!(backend.prices().await, [("A".into(), "GBP".into(), 0)]);
}

async fn a_replay_from_before_a_deletion_does_not_restore_the_row<B: StoreBackend>(backend: &B) {
    let store = backend.store();
    open(&store).await;
    let created = batch(0, 1, vec![created(0, "A")]);
    let priced_once = batch(1, 2, vec![priced(1, "A", 2, 255)]);
    let deleted = batch(2, 3, vec![priced(2, "A", 3, 0)]);
    for batch in [&created, &priced_once, &deleted] {
        apply_batch(&store, batch).await.unwrap();
    }
    for batch in [&priced_once, &created, &deleted] {
        assert_without_effect(&apply_batch(&store, batch).await);
        assert_eq!(rows(backend).await, []);
    }
}

async fn a_deleted_row_can_be_created_again<B: StoreBackend>(backend: &B) {
    let store = backend.store();
    open(&store).await;
    apply_batch(&store, &batch(0, 1, vec![created(0, "A")]))
        .await
        .unwrap();
    apply_batch(&store, &batch(1, 2, vec![priced(1, "A", 2, 0)]))
        .await
        .unwrap();
    let again = ProductCreated {
        sku: Sku::parse("A").unwrap(),
        description: "again".into(),
    };
    let again = commit(
        2,
        "A",
        3,
        Event::Product(ProductEvent::ProductCreated(again)),
    );
    apply_batch(&store, &batch(2, 3, vec![again]))
        .await
        .unwrap();
    let row = ProductRow {
        sku: "A".into(),
        description: "again".into(),
        changes: 0,
        version: 3,
    };
    assert_eq!(rows(backend).await, [row]);
}

async fn an_event_that_was_applied_before_is_skipped<B: StoreBackend>(backend: &B) {
    let store = backend.store();
    open(&store).await;
    let commits = vec![created(0, "A"), priced(1, "A", 2, 255)];
    apply_batch(&store, &batch(0, 2, commits)).await.unwrap();
    let again_and_next = vec![priced(2, "A", 2, 999), priced(3, "A", 3, 300)];
    apply_batch(&store, &batch(2, 4, again_and_next))
        .await
        .unwrap();
    assert_eq!(rows(backend).await, [product("A", 2)]);
    assert_eq!(open(&store).await.next_offset, 4);
}

async fn a_gap_is_an_error<B: StoreBackend>(backend: &B) {
    let store = backend.store();
    open(&store).await;
    apply_batch(&store, &batch(0, 1, vec![created(0, "A")]))
        .await
        .unwrap();
    let applied = apply_batch(&store, &batch(1, 2, vec![priced(1, "A", 3, 1)])).await;
    let Err(StoreError::Fold(error)) = applied else {
        panic!("{applied:?} instead of an error of the fold");
    };
    let gap = FoldError::Gap {
        key: "A".into(),
        offset: 1,
        version: 3,
        stored: 1,
    };
    assert_eq!(error, gap);
}

async fn a_refused_batch_changes_neither_rows_nor_checkpoint<B: StoreBackend>(backend: &B) {
    let store = backend.store();
    open(&store).await;
    apply_batch(&store, &batch(0, 1, vec![created(0, "A")]))
        .await
        .unwrap();
    let before = backend.products().await;
    let commits = vec![created(1, "B"), priced(2, "A", 2, 1), priced(3, "C", 2, 1)];
    let applied = apply_batch(&store, &batch(1, 4, commits)).await;
    assert!(
        matches!(&applied, Err(StoreError::Fold(FoldError::MissingRow { key, .. })) if key == "C"),
        "{applied:?} instead of MissingRow with the key C"
    );
    assert_eq!(backend.products().await, before);
    assert_eq!(open(&store).await.next_offset, 1);
}

async fn a_view_that_lost_a_table_starts_over_in_a_new_build<B: StoreBackend>(backend: &B) {
    let first = batch(0, 2, vec![created(0, "A"), priced(1, "A", 2, 255)]);
    let second = batch(2, 3, vec![priced(2, "A", 3, 300)]);
    let tables = ["products_v1", "products_v1_prices"];
    for (build, lost) in (1..).zip([None, Some(tables[0]), Some(tables[1])]) {
        if let Some(table) = lost {
            let (before, zombie) = (backend.store_of(build - 1), backend.store_of(build - 1));
            backend.drop_table(build - 1, table).await;
            let opened = before.open(&partitions::<Event>()).await;
            assert!(
                matches!(opened, Err(StoreError::Dropped { .. })),
                "{opened:?} instead of Err(StoreError::Dropped)"
            );
            // A projector that has not noticed the loss changes nothing.
            let third = batch(3, 4, vec![created(3, "B")]);
            let applied = apply_batch(&zombie, &third).await;
            assert!(applied.is_err(), "{table}: {applied:?} instead of an error");
        }
        let store = backend.store_of(build);
        assert_eq!(open(&store).await, start::<Event>(), "{lost:?}");
        for batch in [&first, &second] {
            apply_batch(&store, batch).await.unwrap();
        }
        let rows = backend.products_of(build).await.into_iter();
        let rows: Vec<ProductRow> = rows.map(|(row, _)| row).collect();
        assert_eq!(rows, [product("A", 2)], "{lost:?}");
        let price = ("A".into(), "GBP".into(), 300);
        assert_eq!(backend.prices_of(build).await, [price], "{lost:?}");
    }
    let builds = registry::all(backend.list()).await.unwrap();
    let builds: Vec<_> = builds.iter().map(|one| (one.build, one.state)).collect();
    assert_eq!(builds, [(3, State::Serving)]);
    let store = backend.store_of(3);
    let third = batch(3, 4, vec![priced(3, "A", 4, 400)]);
    apply_batch(&store, &third).await.unwrap();
    assert_eq!(open(&store).await.next_offset, 4);
}

/// A switch locks all builds of the view in the order of their numbers. The replacement of a build must use the same
/// order; otherwise the two operations could deadlock.
async fn a_build_that_lost_a_table_locks_no_build_before_an_earlier_one<B: StoreBackend>(
    backend: &B,
) {
    let list = backend.list();
    open(&backend.store()).await;
    let second = registry::create(list, ProductsView::NAME).await.unwrap();
    let store = backend.store_of(second);
    open(&store).await;
    backend.drop_table(second, "products_v1").await;
    let lock = "SELECT build FROM view_builds WHERE build = $1 FOR UPDATE NOWAIT";
    let mut transaction = list.begin().await.unwrap();
    let first = sqlx::query_scalar::<_, i32>(lock).bind(1);
    assert_eq!(first.fetch_one(&mut *transaction).await.unwrap(), 1);
    let switching = async {
        is_locked_out(list).await;
        let next = sqlx::query_scalar::<_, i32>(lock).bind(second);
        let locked = next.fetch_one(&mut *transaction).await;
        transaction.rollback().await.unwrap();
        locked.map_err(|error| error.to_string())
    };
    let wanted = partitions::<Event>();
    let (opened, locked) = tokio::join!(store.open(&wanted), switching);
    assert_eq!(locked, Ok(second));
    assert!(
        matches!(opened, Err(StoreError::Dropped { .. })),
        "{opened:?} instead of Err(StoreError::Dropped)"
    );
}

/// The values of a dropped column are lost. Waiting for the column would not bring them back.
async fn a_build_whose_column_was_dropped_is_replaced<B: StoreBackend>(backend: &B) {
    let store = backend.store();
    open(&store).await;
    let first = batch(0, 1, vec![created(0, "A")]);
    apply_batch(&store, &first).await.unwrap();
    backend
        .alter_table(1, "products_v1", "DROP description")
        .await;
    let next = batch(1, 2, vec![priced(1, "A", 2, 255)]);
    let error = apply_batch(&store, &next).await.unwrap_err();
    assert_eq!(error.failure(), Some(Failure::TableMissing), "{error}");
    check_replaced(backend, &store, &first).await;
}

/// The column is back before a batch fails, so only opening the build finds the loss.
async fn a_build_whose_column_was_added_again_is_replaced<B: StoreBackend>(backend: &B) {
    let store = backend.store();
    open(&store).await;
    let first = batch(0, 1, vec![created(0, "A")]);
    apply_batch(&store, &first).await.unwrap();
    for change in ["DROP description", "ADD description text"] {
        backend.alter_table(1, "products_v1", change).await;
    }
    check_replaced(backend, &store, &first).await;
}

/// The view does not need the column, so the build has lost nothing.
async fn a_build_that_lost_a_column_of_an_operator_is_not_replaced<B: StoreBackend>(backend: &B) {
    let store = backend.store();
    open(&store).await;
    let first = batch(0, 1, vec![created(0, "A")]);
    apply_batch(&store, &first).await.unwrap();
    for change in ["ADD note text", "DROP note"] {
        backend.alter_table(1, "products_v1", change).await;
    }
    assert_eq!(open(&store).await.next_offset, 1);
    let next = batch(1, 2, vec![priced(1, "A", 2, 255)]);
    apply_batch(&store, &next).await.unwrap();
    let rows = backend.products().await.into_iter();
    let rows: Vec<ProductRow> = rows.map(|(row, _)| row).collect();
    assert_eq!(rows, [product("A", 1)]);
}

/// Opens a build that lost values, and applies the first batch to its successor.
async fn check_replaced<B: StoreBackend>(backend: &B, store: &B::Store, first: &Batch<Event>) {
    let opened = store.open(&partitions::<Event>()).await;
    assert!(
        matches!(opened, Err(StoreError::Dropped { .. })),
        "{opened:?} instead of Err(StoreError::Dropped)"
    );
    let successor = backend.store_of(2);
    assert_eq!(open(&successor).await, start::<Event>());
    apply_batch(&successor, first).await.unwrap();
    let rows = backend.products_of(2).await.into_iter();
    let rows: Vec<ProductRow> = rows.map(|(row, _)| row).collect();
    assert_eq!(rows, [product("A", 0)]);
}

/// A renamed column has kept its values, so the build waits until the column has its name again. The key is renamed,
/// because the CQL store renames no other column.
async fn a_renamed_column_is_named_by_every_attempt<B: StoreBackend>(backend: &B) {
    let store = backend.store();
    open(&store).await;
    let first = batch(0, 1, vec![created(0, "A")]);
    apply_batch(&store, &first).await.unwrap();
    backend
        .alter_table(1, "products_v1", "RENAME sku TO stock_unit")
        .await;
    let next = batch(1, 2, vec![priced(1, "A", 2, 255)]);
    for _ in 0..2 {
        let error = apply_batch(&store, &next).await.unwrap_err();
        assert_eq!(error.failure(), Some(Failure::Transient), "{error}");
        assert!(error.to_string().contains("sku"), "{error}");
    }
    backend
        .alter_table(1, "products_v1", "RENAME stock_unit TO sku")
        .await;
    apply_batch(&store, &next).await.unwrap();
    let rows = backend.products().await.into_iter();
    let rows: Vec<ProductRow> = rows.map(|(row, _)| row).collect();
    assert_eq!(rows, [product("A", 1)]);
}
