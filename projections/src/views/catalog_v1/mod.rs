//! `catalog_v1`: the products with their prices, with full-text search and suggestions, in Postgres.

mod facets;
mod query;
mod search;
mod sort_keys;
mod suggestions;
mod tables;
#[cfg(test)]
mod tests;

pub use facets::{CatalogFacets, CurrencyFacet, PriceRange};
pub use query::{ProductDetail, ProductPage, ProductProblems};
pub use suggestions::{Suggestion, Suggestions};
pub use tables::{CatalogView, ProductRow, Products};

use crate::{postgres::PostgresStore, registration::Registration, view::View};

/// This view in the registry.
pub(super) const REGISTRATION: Registration = Registration {
    name: CatalogView::NAME,
    database: "Postgres",
    project: |runtime, databases| {
        runtime.project(PostgresStore::<CatalogView>::new(
            databases.postgres.clone(),
        ));
    },
    routes: |databases| query::routes().with_state(databases.postgres.clone()),
    // It holds products, not orders.
    totals: None,
};
