//! `orders_v3`: orders and credit notes with their lines, in Postgres. Unlike `orders_v2`, it finds an order by its
//! invoice number.

mod query;
mod tables;
#[cfg(test)]
mod tests;

pub use query::explain_page;
pub use tables::{LineRow, Lines, OrderRow, Orders, OrdersView};

use crate::registration::Registration;

/// This view in the registry.
pub(super) const REGISTRATION: Registration = Registration::postgres::<OrdersView>(query::queries)
    .with_totals(|databases, _| Box::pin(async move { query::totals(&databases).await }));
