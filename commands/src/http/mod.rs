//! The write side's HTTP interface.

mod answer_counters;
pub mod batch;
pub mod batch_stream;
pub mod forwarded;
mod owners;
mod single;

use crate::{
    contexts,
    handle::WriteSideHandle,
    request::{CommandProblems, Executor},
    routing::node_protocol,
};
use axum::{
    Router,
    middleware::from_fn,
    routing::{get, post},
};
use service::{extract::refuse_parameters, problem::add_problems};
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes under `/api/v1`: the batch, and each command's own route.
pub fn routes(handle: WriteSideHandle) -> OpenApiRouter {
    let executor = Executor::new(handle.clone());
    let batch = OpenApiRouter::new()
        .routes(routes!(batch::commands))
        .with_state(handle);
    let mut all = contexts::all_commands().fold(batch, |routes, command| {
        let mut own = (command.routes)();
        add_problems::<CommandProblems>(own.get_openapi_mut());
        routes.merge(own.with_state(executor.clone()))
    });
    let mut schemas = Vec::new();
    for command in contexts::all_commands() {
        (command.schemas)(&mut schemas);
    }
    // Commands without a route of their own are sent in batches; the document must have their bodies, too.
    let components = all.get_openapi_mut().components.get_or_insert_default();
    components.schemas.extend(schemas);
    all.layer(from_fn(refuse_parameters))
}

/// The routes for other nodes of the deployment. They trust their callers to name the principal, so serve
/// them only where no other client can reach them.
pub fn internal_routes(handle: WriteSideHandle) -> Router {
    Router::new()
        .route(node_protocol::PATH, post(forwarded::commands))
        .route(node_protocol::OWNERS_PATH, get(owners::owners))
        .with_state(handle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_command_that_accepts_if_match_documents_412() {
        let routes = routes(WriteSideHandle::default());
        let document = serde_json::to_value(routes.get_openapi()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let operations = paths
            .values()
            .flat_map(|path| path.as_object().unwrap().values());
        let takes_condition = |operation: &&Value| {
            let parameters = operation["parameters"].as_array();
            let mut names = parameters
                .into_iter()
                .flatten()
                .map(|parameter| &parameter["name"]);
            names.any(|name| name == "If-Match")
        };
        let conditional: Vec<&Value> = operations.filter(takes_condition).collect();
        assert!(
            conditional.len() >= 2,
            "{} operations with If-Match instead of at least 2: {paths:?}",
            conditional.len()
        );
        for operation in conditional {
            let (responses, id) = (&operation["responses"], &operation["operationId"]);
            assert!(
                responses.get("412").is_some(),
                "{id}: no 412 in {responses}"
            );
        }
    }
}
