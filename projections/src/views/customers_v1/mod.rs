//! `customers_v1`: the totals of each customer in each currency, in Postgres.

mod query;
mod tables;
#[cfg(test)]
mod tests;

pub use query::{Customer, CustomerPage};
pub use tables::{CustomerRow, Customers, CustomersView};

use crate::registration::Registration;

/// This view in the registry. It provides no totals of all orders, because it leaves out orders without a customer.
pub(super) const REGISTRATION: Registration =
    Registration::postgres::<CustomersView>(query::queries);
