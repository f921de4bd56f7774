//! `orders_by_customer_v1`: the history of each customer, in the CQL store.

mod project;
mod query;
#[cfg(test)]
mod tests;

pub use project::{Row, View, partition_of};
pub use query::totals;

use super::Registration;
use crate::cql::CqlStore;

/// This view's line in the registry.
pub(super) const REGISTRATION: Registration = Registration {
    project: |runtime, databases| {
        runtime.project(CqlStore::<View>::new(databases.cql.clone()));
    },
    routes: |databases| query::routes().with_state(databases.cql.clone()),
};
