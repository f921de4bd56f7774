//! The entry of a view in the registry.

use crate::{databases::Databases, problems::QueryError, projector::Runtime};
use futures_util::future::BoxFuture;
use schemas::TotalsAt;
use utoipa_axum::router::OpenApiRouter;

/// Computes the totals of a view. The argument is the number of partitions of the journal of orders.
pub type TotalsQuery = fn(Databases, i32) -> BoxFuture<'static, Result<TotalsAt, QueryError>>;

/// A view, as the registry lists it.
pub struct Registration {
    /// The view's name.
    pub name: &'static str,
    /// The database of its rows.
    pub database: &'static str,
    /// Starts its projector.
    pub project: fn(&Runtime, &Databases),
    /// Its queries.
    pub routes: fn(&Databases) -> OpenApiRouter,
    /// Its totals, if it holds all orders.
    pub totals: Option<TotalsQuery>,
}
