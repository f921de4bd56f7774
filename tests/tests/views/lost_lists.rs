//! The promises of every store after a loss of the list of builds, for each database: the tables of an earlier build
//! with the same number may still exist, with rows of a log that is lost, too.
//!
//! The events are those of [`crate::stores`].

use crate::{
    backends::{CqlBackend, PostgresBackend, StoreBackend, run},
    log::{apply_batch, batch, open, start},
    products::{ProductRow, ProductsView},
    stores::{created, on_every_store, priced, product, rows},
};
use futures_util::future::join_all;
use projections::{Store, View, builds::registry};
use schemas::catalog::Event;

on_every_store!(
    a_build_starts_over_without_the_rows_of_an_earlier_build_with_its_number,
    deletions_of_an_earlier_build_hide_no_rows,
    several_nodes_can_open_a_build_whose_number_an_earlier_build_had,
    a_lost_table_of_an_earlier_build_does_not_keep_its_other_rows,
);

/// Applies a log in which product B is deleted.
async fn apply_first_log(store: &impl Store<Event = Event>) {
    open(store).await;
    let commits = vec![created(0, "A"), priced(1, "A", 2, 255), created(2, "B")];
    apply_batch(store, &batch(0, 3, commits)).await.unwrap();
    apply_batch(store, &batch(3, 4, vec![priced(3, "B", 2, 0)]))
        .await
        .unwrap();
}

/// Loses the list of builds and the checkpoints in Postgres. The next list has a build with the same number.
async fn lose_list(backend: &impl StoreBackend) {
    let list = backend.list();
    sqlx::raw_sql("DELETE FROM view_builds; DELETE FROM view_build_checkpoints")
        .execute(list)
        .await
        .unwrap();
    registry::create_first_builds(list, &[ProductsView::NAME])
        .await
        .unwrap();
}

async fn a_build_starts_over_without_the_rows_of_an_earlier_build_with_its_number<
    B: StoreBackend,
>(
    backend: &B,
) {
    let store = backend.store();
    apply_first_log(&store).await;
    lose_list(backend).await;
    assert_eq!(open(&store).await, start::<Event>());
    assert_eq!(rows(backend).await, []);
    assert_eq!(backend.prices().await, []);
    // The stored version of this product was greater.
    let other = ProductRow {
        description: "A of 1".into(),
        ..product("A", 0)
    };
    apply_batch(&store, &batch(0, 2, vec![created(1, "A")]))
        .await
        .unwrap();
    assert_eq!(rows(backend).await, [other]);
}

async fn deletions_of_an_earlier_build_hide_no_rows<B: StoreBackend>(backend: &B) {
    let store = backend.store();
    apply_first_log(&store).await;
    lose_list(backend).await;
    open(&store).await;
    apply_batch(&store, &batch(0, 1, vec![created(0, "B")]))
        .await
        .unwrap();
    assert_eq!(rows(backend).await, [product("B", 0)]);
}

async fn several_nodes_can_open_a_build_whose_number_an_earlier_build_had<B: StoreBackend>(
    backend: &B,
) {
    apply_first_log(&backend.store()).await;
    lose_list(backend).await;
    let stores: Vec<_> = (0..4).map(|_| backend.store()).collect();
    for checkpoint in join_all(stores.iter().map(open)).await {
        assert_eq!(checkpoint, start::<Event>());
    }
    assert_eq!(rows(backend).await, []);
    apply_batch(&stores[0], &batch(0, 1, vec![created(0, "A")]))
        .await
        .unwrap();
    // No other node drops the tables afterwards.
    assert_eq!(open(&stores[1]).await.next_offset, 1);
    assert_eq!(rows(backend).await, [product("A", 0)]);
}

async fn a_lost_table_of_an_earlier_build_does_not_keep_its_other_rows<B: StoreBackend>(
    backend: &B,
) {
    let store = backend.store();
    apply_first_log(&store).await;
    lose_list(backend).await;
    backend.drop_table(1, "products_v1").await;
    open(&store).await;
    assert_eq!(backend.prices().await, []);
}
