//! `country_sales_v1`: the totals of each country in each currency, in Postgres.

mod query;
mod tables;
#[cfg(test)]
mod tests;

pub use query::{CountryPage, CountrySales};
pub use tables::{Countries, CountryRow, CountrySalesView};

use crate::{postgres::PostgresStore, registration::Registration, view::View};

/// This view in the registry.
pub(super) const REGISTRATION: Registration = Registration {
    name: CountrySalesView::NAME,
    database: "Postgres",
    project: |runtime, databases| {
        runtime.project(PostgresStore::<CountrySalesView>::new(
            databases.postgres.clone(),
        ));
    },
    routes: |databases| query::routes().with_state(databases.postgres.clone()),
    totals: Some(|databases, _| Box::pin(async move { query::totals(&databases.postgres).await })),
};
