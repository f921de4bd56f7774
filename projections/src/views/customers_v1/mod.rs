//! `customers_v1`: the figures of each customer in each currency, in Postgres.

mod query;
mod tables;
#[cfg(test)]
mod tests;

pub use query::{CustomerDetail, CustomerFigures, CustomerPage, CustomerProblems};
pub use tables::{CustomerRow, Customers, CustomersView};

use crate::{postgres::PostgresStore, registration::Registration, view::View};

/// This view in the registry.
pub(super) const REGISTRATION: Registration = Registration {
    name: CustomersView::NAME,
    database: "Postgres",
    project: |runtime, databases| {
        runtime.project(PostgresStore::<CustomersView>::new(
            databases.postgres.clone(),
        ));
    },
    routes: |databases| query::routes().with_state(databases.postgres.clone()),
    // Orders without a customer are not in this view.
    totals: None,
};
