//! Operations on all views.

use crate::{
    builds::{RegistryError, VersionMissing, registry},
    conditional::conditional,
    consistency::Waits,
    databases::Databases,
    live::{self, Live},
    parking::{document_marks, mark_parked, table as parked},
    problems::QueryError,
    projector::Runtime,
    supervisor::{Assignment, Supervisor},
    versioned_routes,
    versions::Versions,
    views::VIEWS,
};
use axum::{middleware::from_fn_with_state, routing::MethodRouter};
use schemas::TotalsAt;
use service::consistency::{PositionLayer, document_positions, wait_for_positions};
use tokio::sync::watch;
use utoipa_axum::router::OpenApiRouter;

/// The totals of the views can't be computed.
#[derive(Debug, thiserror::Error)]
pub enum TotalsError {
    /// The list of builds can't be read.
    #[error("failed to read the list of builds: {0}")]
    Builds(#[from] RegistryError),
    /// This program does not have the version of a view that answers.
    #[error(transparent)]
    VersionMissing(#[from] VersionMissing),
    /// The query of a view failed.
    #[error("failed to compute the totals of view {view}: {source}")]
    Query {
        /// The view.
        view: &'static str,
        /// The reason.
        source: QueryError,
    },
}

/// Starts the projectors of every view, for the assigned partitions.
pub fn run(runtime: &Runtime, databases: &Databases, assignment: watch::Receiver<Assignment>) {
    let supervisor = Supervisor::new(runtime.clone(), databases.clone(), VIEWS, assignment);
    let stop = runtime.shutdown.clone();
    runtime.tasks.spawn(service::shutdown::supervise(
        "views",
        stop,
        supervisor.run(),
    ));
}

/// The queries of every view. They wait for the positions of their requests. Their answers are conditional, and marked if
/// parked aggregates concern them. A view's version that the list of builds names answers.
pub fn routes(databases: &Databases, waits: &Waits) -> OpenApiRouter {
    let views = Versions::of_all(VIEWS).into_iter();
    let routes = views.map(|view| {
        versioned_routes::routes(view, &databases.serving, |version| {
            let layer = waits.layer(version, databases);
            let queries = (version.queries)().into_iter();
            let queries = queries.map(|(schemas, description, query)| {
                let query = query.with_state(databases.clone());
                let (serving, marks) = (&databases.serving, &databases.marks);
                let query = mark_parked(version.name, serving, marks, query);
                (schemas, description, waiting(&layer, query))
            });
            queries.collect()
        })
    });
    let routes = routes.fold(OpenApiRouter::new(), OpenApiRouter::merge);
    let mut routes = conditional(routes);
    let document = routes.get_openapi_mut();
    document_marks(document);
    document_positions(document);
    routes
}

/// The routes of the live updates. A client may pass the position of an order that it has just created.
pub fn live_routes(live: &Live, databases: &Databases, waits: &Waits) -> OpenApiRouter {
    let mut routes = versioned_routes::routes(live::view(), &databases.serving, |version| {
        let layer = waits.layer(version, databases);
        let queries = live::queries(live).into_iter();
        let queries = queries
            .map(|(schemas, description, query)| (schemas, description, waiting(&layer, query)));
        queries.collect()
    });
    document_positions(routes.get_openapi_mut());
    routes
}

/// Makes a query wait for the positions in its requests.
fn waiting(layer: &PositionLayer, query: MethodRouter) -> MethodRouter {
    query.layer(from_fn_with_state(layer.clone(), wait_for_positions))
}

/// The totals of every view that holds all orders, each with the names of its database and of the version that answers.
/// `partitions` is the number of partitions of the journal of orders. Projectors may write meanwhile, so a view's
/// totals belong to the position that is returned with them.
///
/// # Errors
/// [`TotalsError`] of the first view that fails.
pub async fn totals(
    databases: &Databases,
    partitions: i32,
) -> Result<Vec<(String, TotalsAt)>, TotalsError> {
    databases
        .serving
        .set(&registry::all(&databases.postgres).await?);
    let mut all = Vec::new();
    for view in Versions::of_all(VIEWS) {
        if view.newest().totals.is_none() {
            continue;
        }
        let version = view.answering(&databases.serving)?;
        let Some(query) = version.totals else {
            continue;
        };
        let totals = query(databases.clone(), partitions)
            .await
            .map_err(|source| TotalsError::Query {
                view: version.name,
                source,
            })?;
        all.push((format!("{} {}", version.database, version.name), totals));
    }
    Ok(all)
}

/// The number of parked events that a view's totals lack, for each view whose totals lack any. Counts the events of the
/// serving builds.
///
/// # Errors
/// The database's error.
pub async fn parked_events(databases: &Databases) -> Result<Vec<(&'static str, i64)>, sqlx::Error> {
    let counts = parked::counts(&databases.postgres).await?;
    let with_totals = VIEWS.iter().filter(|view| view.totals.is_some());
    let answering = with_totals.filter(|view| databases.serving.answers(view.name));
    let of_view = answering.filter_map(|view| {
        let build = databases.serving.build(view.name)?;
        let mut counts = counts.iter();
        let count =
            counts.find(|count| count.view_name == view.name && count.build == build.number)?;
        (count.events > 0).then_some((view.name, count.events))
    });
    Ok(of_view.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_views_have_the_same_name() {
        let names: BTreeSet<_> = VIEWS.iter().map(|view| view.name).collect();
        assert_eq!(names.len(), VIEWS.len(), "{names:?}");
    }
}
