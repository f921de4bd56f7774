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
use utoipa::openapi::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

/// The queries of a view, each with its description. All of them are GET requests, each with a path of its own.
pub type Queries = Vec<UtoipaMethodRouter<Databases>>;

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
    pub(crate) queries: fn() -> Queries,
    /// The query of its totals, if it contains all orders.
    pub totals: Option<TotalsQuery>,
}

impl Registration {
    /// A view in Postgres.
    pub const fn postgres<V: PostgresView>(queries: fn() -> Queries) -> Self {
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
            queries,
            totals: None,
        }
    }

    /// A view in the CQL store.
    pub const fn cql<V: CqlView>(queries: fn() -> Queries) -> Self {
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
            queries,
            totals: None,
        }
    }

    /// The OpenAPI description of its queries.
    pub fn document(&self) -> OpenApi {
        let queries = (self.queries)().into_iter();
        let routes = queries.fold(OpenApiRouter::new(), OpenApiRouter::routes);
        routes.into_openapi()
    }

    /// Adds a query for the totals over all orders.
    pub const fn with_totals(self, totals: TotalsQuery) -> Self {
        Self {
            totals: Some(totals),
            ..self
        }
    }
}
