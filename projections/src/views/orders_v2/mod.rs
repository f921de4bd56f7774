//! `orders_v2`: orders and credit notes with their lines, in Postgres.

mod query;
mod tables;
#[cfg(test)]
mod tests;

pub use query::{OrderDetail, OrderLine, explain_page};
pub use tables::{LineRow, Lines, OrderRow, Orders, OrdersView};

use crate::{postgres::PostgresStore, registration::Registration, view::View};

/// This view in the registry.
pub(super) const REGISTRATION: Registration = Registration {
    name: OrdersView::NAME,
    database: "Postgres",
    project: |runtime, databases| {
        runtime.project(PostgresStore::<OrdersView>::new(databases.postgres.clone()));
    },
    routes: |databases| query::routes().with_state(databases.postgres.clone()),
    totals: Some(|databases, _| Box::pin(async move { query::totals(&databases.postgres).await })),
};
