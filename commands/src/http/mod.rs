//! The write side's HTTP interface.

mod answered;
pub mod batch;
pub mod forwarded;
mod headers;
pub(crate) mod lines;
pub mod products;

use crate::write_side::Slot;
use axum::{Router, routing::post};
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes under `/api/v1`.
pub fn routes(slot: Slot) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(products::create))
        .routes(routes!(products::change_price))
        .routes(routes!(batch::commands))
        .with_state(slot)
}

/// The route that other nodes of the deployment use, and nobody else. It believes what it is told of
/// principals, so it may be served only where nobody else can reach it.
pub fn internal_routes(slot: Slot) -> Router {
    Router::new()
        .route(forwarded::PATH, post(forwarded::commands))
        .with_state(slot)
}
