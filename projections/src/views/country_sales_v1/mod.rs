//! `country_sales_v1`: the totals of each country in each currency, in Postgres.

mod query;
mod tables;
#[cfg(test)]
mod tests;

pub use query::{CountryPage, CountrySales};
pub use tables::{Countries, CountryRow, CountrySalesView};

use crate::registration::Registration;

/// This view in the registry.
pub(super) const REGISTRATION: Registration =
    Registration::postgres::<CountrySalesView>(query::queries)
        .with_totals(|databases, _| Box::pin(async move { query::totals(&databases).await }));
