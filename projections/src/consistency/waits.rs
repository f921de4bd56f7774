//! Makes the queries of all views wait for positions.

use super::stored;
use crate::{databases::Databases, registration::Registration};
use axum::middleware::from_fn_with_state;
use schemas::CONTEXTS;
use service::{
    consistency::{PositionLayer, View, WAIT_MS_DEFAULT, document_positions, wait_for_positions},
    progress::Progress,
};
use std::time::Duration;
use utoipa_axum::router::OpenApiRouter;

/// The progress and the setting that queries of all views need to wait for positions.
#[derive(Clone)]
pub struct Waits {
    /// The progress of this process's projectors.
    pub progress: Progress,
    /// Longest wait of a query.
    pub wait_max: Duration,
}

impl Default for Waits {
    /// For a process without projectors.
    fn default() -> Self {
        Self {
            progress: Progress::default(),
            wait_max: Duration::from_millis(WAIT_MS_DEFAULT),
        }
    }
}

impl Waits {
    /// Makes the routes of a view wait for the positions in their requests.
    pub(crate) fn wrap(
        &self,
        view: &Registration,
        databases: &Databases,
        mut routes: OpenApiRouter,
    ) -> OpenApiRouter {
        let layer = PositionLayer::new(View {
            reader: view.name,
            progress: self.progress.clone(),
            journals: CONTEXTS.iter().map(|context| context.topic).collect(),
            stored: stored::reader(view, databases),
            wait_max: self.wait_max,
        });
        document_positions(routes.get_openapi_mut());
        routes.layer(from_fn_with_state(layer, wait_for_positions))
    }
}
