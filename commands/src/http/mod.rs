//! The write side's HTTP interface.

pub mod batch;
mod headers;
mod lines;
pub mod products;

use crate::write_side::Slot;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes under `/api/v1`.
pub fn routes(slot: Slot) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(products::create))
        .routes(routes!(products::change_price))
        .routes(routes!(batch::commands))
        .with_state(slot)
}
