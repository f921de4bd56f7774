//! `orders_by_customer_v2`: the history of each customer, in the CQL store.

mod query;
mod tables;
#[cfg(test)]
mod tests;

pub use tables::{OrderRow, Orders, OrdersByCustomer, partition_of};

use crate::registration::Registration;

/// This view in the registry.
pub(super) const REGISTRATION: Registration = Registration::cql::<OrdersByCustomer>(query::queries)
    .with_totals(|databases, partitions| {
        Box::pin(async move { query::totals(&databases, partitions).await })
    });
