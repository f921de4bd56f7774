//! Every view of the process.

use super::{orders_by_customer_v1, orders_v1};
use crate::{databases::Databases, projector::Runtime};
use utoipa_axum::router::OpenApiRouter;

/// What a view hands to the process that runs it.
pub struct Registration {
    /// Starts its projector.
    pub project: fn(&Runtime, &Databases),
    /// Its queries.
    pub routes: fn(&Databases) -> OpenApiRouter,
}

/// Every view; to add one, add its line.
const VIEWS: [Registration; 2] = [orders_v1::REGISTRATION, orders_by_customer_v1::REGISTRATION];

/// Starts the projector of every view.
pub fn run(runtime: &Runtime, databases: &Databases) {
    for view in VIEWS {
        (view.project)(runtime, databases);
    }
}

/// The queries of every view.
pub fn routes(databases: &Databases) -> OpenApiRouter {
    VIEWS.iter().fold(OpenApiRouter::new(), |router, view| {
        router.merge((view.routes)(databases))
    })
}
