//! `orders_v1`: orders and credit notes with their lines, in Postgres.

mod project;
mod query;
#[cfg(test)]
mod tests;

pub use project::{Changes, Line, Order, View};
pub use query::{OrderDetail, OrderLine, totals};

use super::Registration;
use crate::postgres::PostgresStore;

/// This view's line in the registry.
pub(super) const REGISTRATION: Registration = Registration {
    project: |runtime, databases| {
        runtime.project(PostgresStore::<View>::new(databases.postgres.clone()));
    },
    routes: |databases| query::routes().with_state(databases.postgres.clone()),
};
