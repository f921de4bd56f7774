//! Operations on all views.

use crate::{
    builds::{RegistryError, registry},
    conditional::conditional,
    consistency::Waits,
    databases::Databases,
    live::{self, Live},
    parking::{mark_parked, table as parked},
    problems::QueryError,
    projector::Runtime,
    supervisor::{Assignment, Supervisor},
    views::VIEWS,
};
use schemas::TotalsAt;
use tokio::sync::watch;
use utoipa_axum::router::OpenApiRouter;

/// The totals of the views can't be computed.
#[derive(Debug, thiserror::Error)]
pub enum TotalsError {
    /// The list of builds can't be read.
    #[error("failed to read the list of builds: {0}")]
    Builds(#[from] RegistryError),
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
/// parked aggregates concern them.
pub fn routes(databases: &Databases, waits: &Waits) -> OpenApiRouter {
    VIEWS.iter().fold(OpenApiRouter::new(), |router, view| {
        let routes = conditional((view.routes)(databases));
        let routes = mark_parked(view.name, &databases.serving, &databases.marks, routes);
        router.merge(waits.wrap(view, databases, routes))
    })
}

/// The routes of the live updates. A client may pass the position of an order that it has just created.
pub fn live_routes(live: Live, databases: &Databases, waits: &Waits) -> OpenApiRouter {
    let routes = live::routes(live);
    match VIEWS.iter().find(|view| view.name == live::VIEW) {
        Some(view) => waits.wrap(view, databases, routes),
        None => routes,
    }
}

/// The totals of every view that holds all orders, each with the names of its database and its view.
/// `partitions` is the number of partitions of the journal of orders. Projectors may write meanwhile, so a
/// view's totals belong to the position that is returned with them.
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
    for view in VIEWS {
        let Some(query) = view.totals else {
            continue;
        };
        let totals = query(databases.clone(), partitions)
            .await
            .map_err(|source| TotalsError::Query {
                view: view.name,
                source,
            })?;
        all.push((format!("{} {}", view.database, view.name), totals));
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
    let of_view = with_totals.filter_map(|view| {
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
    fn the_view_that_knows_the_orders_of_live_clients_is_registered() {
        let found = VIEWS.iter().any(|view| view.name == live::VIEW);
        assert!(found, "{} is not in VIEWS", live::VIEW);
    }

    #[test]
    fn no_two_views_have_the_same_name() {
        let names: BTreeSet<_> = VIEWS.iter().map(|view| view.name).collect();
        assert_eq!(names.len(), VIEWS.len(), "{names:?}");
    }
}
