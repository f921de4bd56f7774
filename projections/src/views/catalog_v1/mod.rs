//! `catalog_v1`: products with their current prices, in Postgres, for full-text search and suggestions.
//!
//! `query` has the HTTP handlers, `filter` checks their parameters, `sort` has the orders of the list with their
//! cursors, and `statements` the SQL.

mod filter;
mod query;
mod sort;
mod statements;
mod tables;
#[cfg(test)]
mod tests;

pub use query::{Product, ProductPage, Suggestions};
pub use tables::{CatalogView, ProductRow, Products};

use crate::registration::Registration;

/// This view in the registry.
pub(super) const REGISTRATION: Registration = Registration::postgres::<CatalogView>(query::queries);
