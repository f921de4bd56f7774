//! Faults of the tables in the CQL store, and values that it refuses: the store calls a statement invalid in each case.
//! Also the order in which a build is read from both databases.

use crate::{
    backends::{CqlBackend, StoreBackend, is_locked_out, run},
    log::{PARTITION, apply_batch, batch, commit, open, partitions, start},
    products::ProductsView,
    stores::{created, priced, product, rows},
};
use journal::Batch;
use projections::{Failure, Store, StoreError, View, cql::CqlStore, view::ViewEvent};
use schemas::{
    Sku,
    catalog::{Event, ProductCreated, ProductEvent},
};

/// Longest key of a partition in the CQL store, in bytes.
const KEY_BYTES_MAX: usize = u16::MAX as usize;

/// A build with one row, and the next batch, which changes the row.
async fn with_row(backend: &CqlBackend) -> (CqlStore<ProductsView>, Batch<Event>) {
    let store = backend.store();
    open(&store).await;
    apply_batch(&store, &batch(0, 1, vec![created(0, "A")]))
        .await
        .unwrap();
    (store, batch(1, 2, vec![priced(1, "A", 2, 255)]))
}

/// The kind and the text of the failure to apply a batch.
async fn failure(store: &CqlStore<ProductsView>, batch: &Batch<Event>) -> (Failure, String) {
    let applied = apply_batch(store, batch).await;
    let error = applied.expect_err("the batch was applied");
    let failure = error.failure().unwrap_or_else(|| panic!("{error}"));
    (failure, error.to_string())
}

/// A batch with a product of this key.
fn with_key(key: &str) -> Batch<Event> {
    let event = ProductCreated {
        sku: Sku::parse("B").unwrap(),
        description: String::new(),
    };
    let event = Event::Product(ProductEvent::ProductCreated(event));
    batch(1, 2, vec![commit(1, key, 1, event)])
}

/// The names of the tables in the test's keyspace.
async fn tables(backend: &CqlBackend) -> Vec<String> {
    let select = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
    let of_test = (backend.keyspace(),);
    let found = backend.session().fetch::<(String,)>(select, of_test).await;
    found.unwrap().into_iter().map(|(name,)| name).collect()
}

/// Applies a product of this key, which the key of its row's partition can't have.
async fn check_refused(key: &str) {
    run(async |backend: &CqlBackend| {
        let (store, _) = with_row(backend).await;
        let before = rows(backend).await;
        let (kind, error) = failure(&store, &with_key(key)).await;
        assert_eq!(kind, Failure::Value, "{error}");
        assert_eq!(rows(backend).await, before);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_key_is_the_events_fault() {
    check_refused("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_more_than_64_kib_is_the_events_fault() {
    check_refused(&"x".repeat(KEY_BYTES_MAX + 1)).await;
}

/// No build would replace the table of checkpoints, which all builds share.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_value_is_the_events_fault_also_after_a_drop_in_the_table_of_checkpoints() {
    run(async |backend: &CqlBackend| {
        let (store, next) = with_row(backend).await;
        for change in ["DROP checkpoint", "ADD checkpoint text"] {
            let table = "{keyspace}.view_build_checkpoints";
            backend
                .change(&format!("ALTER TABLE {table} {change}"))
                .await;
        }
        let (kind, error) = failure(&store, &with_key("")).await;
        assert_eq!(kind, Failure::Value, "{error}");
        // The table takes checkpoints again.
        apply_batch(&store, &next).await.unwrap();
    })
    .await;
}

/// The stored checkpoints then have no offset, and an operator resets the view.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_can_be_dropped_after_the_offsets_of_its_checkpoints_were_dropped() {
    run(async |backend: &CqlBackend| {
        let (store, _) = with_row(backend).await;
        for change in ["DROP next_offset", "ADD next_offset bigint"] {
            let table = "{keyspace}.view_build_checkpoints";
            backend
                .change(&format!("ALTER TABLE {table} {change}"))
                .await;
        }
        store.drop_tables().await.unwrap();
        let tables = tables(backend).await;
        let of_build = tables.iter().filter(|name| name.ends_with("_b1"));
        assert_eq!(of_build.count(), 0, "tables of build 1 in {tables:?}");
        let select = "SELECT partition FROM {keyspace}.view_build_checkpoints";
        let left = backend.session().fetch::<(i32,)>(select, ()).await.unwrap();
        assert_eq!(left, [], "partitions with a checkpoint");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_of_checkpoints_is_created_again() {
    run(async |backend: &CqlBackend| {
        let (store, next) = with_row(backend).await;
        backend
            .change("DROP TABLE {keyspace}.view_build_checkpoints")
            .await;
        let (kind, error) = failure(&store, &next).await;
        assert_eq!(kind, Failure::TableMissing, "{error}");
        // The rows are complete, and a replay changes nothing.
        assert_eq!(open(&store).await, start::<Event>());
    })
    .await;
}

/// The deletion has the time of a clock. It would hide later writes whose timestamps are offsets, so checkpoints are
/// written with times, by lightweight transactions.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_an_operator_deleted_is_stored_again() {
    run(async |backend: &CqlBackend| {
        let (store, next) = with_row(backend).await;
        apply_batch(&store, &next).await.unwrap();
        let (view, topic) = (ProductsView::NAME, Event::TOPICS[0]);
        let delete = format!(
            "DELETE FROM {{keyspace}}.view_build_checkpoints WHERE view_name = '{view}' \
             AND build = 1 AND topic = '{topic}' AND partition = {PARTITION}"
        );
        backend.change(&delete).await;
        assert_eq!(open(&store).await, start::<Event>());
        for batch in [&batch(0, 1, vec![created(0, "A")]), &next] {
            apply_batch(&store, batch).await.unwrap();
        }
        assert_eq!(open(&store).await, next.checkpoint);
        assert_eq!(rows(backend).await, [product("A", 1)]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_keyspace_is_created_again_and_its_builds_are_replaced() {
    run(async |backend: &CqlBackend| {
        let (store, next) = with_row(backend).await;
        backend.change("DROP KEYSPACE {keyspace}").await;
        let (kind, error) = failure(&store, &next).await;
        assert_eq!(kind, Failure::TableMissing, "{error}");
        let opened = store.open(&partitions::<Event>()).await;
        assert!(
            matches!(opened, Err(StoreError::Dropped { .. })),
            "{opened:?}"
        );
        assert_eq!(open(&backend.store_of(2)).await, start::<Event>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_of_the_shared_tables_is_stored() {
    run(async |backend: &CqlBackend| {
        open(&backend.store()).await;
        let select = "SELECT component, version FROM {keyspace}.schema_versions";
        let found = backend.session().fetch::<(String, i32)>(select, ()).await;
        assert_eq!(found.unwrap(), [("views".to_owned(), 1)]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_tables_of_a_newer_program_are_refused_and_not_changed() {
    run(async |backend: &CqlBackend| {
        let (store, _) = with_row(backend).await;
        let newer = "INSERT INTO {keyspace}.schema_versions (component, version) \
            VALUES ('views', 1000)";
        backend.change(newer).await;
        // An older program would create this table again.
        backend
            .change("DROP TABLE {keyspace}.view_build_checkpoints")
            .await;
        let opened = store.open(&partitions::<Event>()).await;
        let error = opened.expect_err("the build was opened").to_string();
        let reason = "have version 1000, and this program knows version 1: use a newer program";
        assert!(error.contains(reason), "no {reason:?} in: {error}");
        let tables = tables(backend).await;
        let checkpoints = "view_build_checkpoints".to_owned();
        assert!(
            !tables.contains(&checkpoints),
            "{checkpoints} in {tables:?}"
        );
    })
    .await;
}

/// Another projector may park an aggregate and move the checkpoint at any time. An aggregate is recorded before the
/// checkpoint that covers it, so a reading in this order finds it.
#[tokio::test(flavor = "multi_thread")]
async fn the_parked_aggregates_are_read_after_the_checkpoints() {
    run(async |backend: &CqlBackend| {
        let (store, next) = with_row(backend).await;
        let mut transaction = backend.list().begin().await.unwrap();
        sqlx::query("LOCK TABLE view_parked_keys IN ACCESS EXCLUSIVE MODE")
            .execute(&mut *transaction)
            .await
            .unwrap();
        let other = backend.store();
        let wanted = partitions::<Event>();
        let moving = async {
            is_locked_out(backend.list()).await;
            apply_batch(&store, &next).await.unwrap();
            transaction.rollback().await.unwrap();
        };
        let (opened, ()) = tokio::join!(other.open(&wanted), moving);
        let opened = opened.unwrap().checkpoints.into_iter();
        let offsets: Vec<_> = opened
            .filter(|checkpoint| checkpoint.partition == PARTITION)
            .map(|checkpoint| checkpoint.next_offset)
            .collect();
        assert_eq!(offsets, [1]);
    })
    .await;
}
