//! `customers_v1`: the totals of each customer in each currency, in Postgres.

mod query;
mod tables;
#[cfg(test)]
mod tests;

pub use query::{Customer, CustomerPage};
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
    // It leaves out the orders without a customer.
    totals: None,
};
