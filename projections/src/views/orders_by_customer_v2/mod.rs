//! `orders_by_customer_v2`: the history of each customer, in the CQL store.

mod query;
mod tables;
#[cfg(test)]
mod tests;

pub use tables::{OrderRow, Orders, OrdersByCustomer, partition_of};

use crate::{cql::CqlStore, registration::Registration, view::View};

/// This view in the registry.
pub(super) const REGISTRATION: Registration = Registration {
    name: OrdersByCustomer::NAME,
    database: "CQL",
    project: |runtime, databases| {
        runtime.project(CqlStore::<OrdersByCustomer>::new(databases.cql.clone()));
    },
    routes: |databases| query::routes().with_state(databases.cql.clone()),
    totals: Some(|databases, partitions| {
        Box::pin(async move { query::totals(&databases.cql, partitions).await })
    }),
};
