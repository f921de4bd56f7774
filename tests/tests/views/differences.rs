//! Comparisons of two builds in Postgres.

use crate::{
    backends::{PostgresBackend, StoreBackend, run},
    log::{apply_batch, batch, open},
    products::ProductsView,
    stores::created,
};
use projections::{
    View,
    builds::{Build, registry},
    postgres::{PostgresTables, PostgresView},
};
use schemas::catalog::Event;

type Tables = <ProductsView as PostgresView>::Tables;

/// A locale that sorts `a` before `B`, unlike the order of code points.
const LOCALE: &str = "en-x-icu";

/// The first build has both rows, and the other build has only `B`, with other values.
#[tokio::test(flavor = "multi_thread")]
async fn a_difference_has_the_row_of_each_build_in_any_locale() {
    run::<PostgresBackend>(async |backend: &PostgresBackend| {
        let list = backend.list();
        let other = registry::create(list, ProductsView::NAME).await.unwrap();
        for (build, commits) in [
            (1, vec![created(0, "a"), created(1, "B")]),
            (other, vec![created(0, "B")]),
        ] {
            let store = backend.store_of(build);
            open(&store).await;
            let collate = format!("ALTER sku TYPE text COLLATE \"{LOCALE}\"");
            backend.alter_table(build, "products_v1", &collate).await;
            apply_batch(&store, &batch(0, 2, commits)).await.unwrap();
        }
        let [first, other] = [1, other].map(|number| Build {
            view: ProductsView::NAME,
            number,
        });
        let mut connection = list.acquire().await.unwrap();
        let compared = <Tables as PostgresTables<Event>>::compare(first, other, 1, &mut connection);
        let (_, different, explained) = compared.await.unwrap();
        assert_eq!(different, 2);
        let differences = explained.into_iter().flat_map(|table| table.finish());
        let shown: Vec<_> = differences
            .map(|one| (one.key, one.left.is_some(), one.right.is_some()))
            .collect();
        assert_eq!(shown, [("(\"a\",)".to_owned(), true, false)]);
    })
    .await;
}
