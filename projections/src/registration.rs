//! The entry of a view in the registry.

use crate::{
    cql::{CqlStore, CqlView},
    databases::Databases,
    lag::Lags,
    operations::{BuildOperations, ViewAdmin},
    postgres::{PostgresStore, PostgresView},
    problems::QueryError,
    projector::{Running, Runtime, Share},
    view::ViewEvent,
};
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
    /// The journals that it reads.
    pub topics: &'static [&'static str],
    /// Starts the projector of one of its builds.
    pub(crate) project: fn(&Runtime, &Databases, i32, Share, &Lags) -> Running,
    /// Operations of an operator on one of its builds.
    pub operations: fn(&Databases, i32) -> Box<dyn BuildOperations>,
    /// Its queries.
    pub routes: fn(&Databases) -> OpenApiRouter,
    /// The query of its totals, if it contains all orders.
    pub totals: Option<TotalsQuery>,
}

impl Registration {
    /// A view in Postgres.
    pub const fn postgres<V: PostgresView>(routes: fn(&Databases) -> OpenApiRouter) -> Self {
        Self {
            name: V::NAME,
            database: "Postgres",
            topics: <V::Event as ViewEvent>::TOPICS,
            project: |runtime, databases, number, share, lags| {
                let pool = databases.projectors.clone();
                let store = PostgresStore::<V>::new(pool.clone(), number);
                runtime.project(store, share, pool, &databases.marks, lags)
            },
            operations: |databases, number| {
                let pool = databases.postgres.clone();
                Box::new(ViewAdmin(PostgresStore::<V>::new(pool, number)))
            },
            routes,
            totals: None,
        }
    }

    /// A view in the CQL store.
    pub const fn cql<V: CqlView>(routes: fn(&Databases) -> OpenApiRouter) -> Self {
        Self {
            name: V::NAME,
            database: "CQL",
            topics: <V::Event as ViewEvent>::TOPICS,
            project: |runtime, databases, number, share, lags| {
                let (cql, pool) = (databases.cql.clone(), databases.projectors.clone());
                let store = CqlStore::<V>::new(cql, pool.clone(), number);
                runtime.project(store, share, pool, &databases.marks, lags)
            },
            operations: |databases, number| {
                let (cql, pool) = (databases.cql.clone(), databases.postgres.clone());
                Box::new(ViewAdmin(CqlStore::<V>::new(cql, pool, number)))
            },
            routes,
            totals: None,
        }
    }

    /// Adds a query for the totals over all orders.
    pub const fn with_totals(self, totals: TotalsQuery) -> Self {
        Self {
            totals: Some(totals),
            ..self
        }
    }
}
