//! Routes of queries that several versions of a view can answer: each request goes to the version that answers then.
//!
//! The versions may have other parameters, answers and paths. The OpenAPI document has the queries of the newest version.

use crate::{
    builds::Serving, problems::version_missing, registration::Registration, versions::Versions,
};
use axum::{
    extract::{Request, State},
    handler::Handler,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use service::problem::Problem;
use std::{collections::BTreeMap, sync::Arc};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

/// The handlers of a path, by the version that they belong to.
type Handlers = BTreeMap<&'static str, MethodRouter>;

/// A path of a view's queries. Cheap to clone.
#[derive(Clone)]
struct Path {
    view: Arc<Versions>,
    serving: Serving,
    handlers: Arc<Handlers>,
}

/// The routes of a view. `queries` returns the queries of one version.
pub fn routes(
    view: Versions,
    serving: &Serving,
    queries: impl Fn(&'static Registration) -> Vec<UtoipaMethodRouter>,
) -> OpenApiRouter {
    let mut documented = Vec::new();
    let mut paths: BTreeMap<String, Handlers> = BTreeMap::new();
    for &version in view.all() {
        documented.clear();
        for (schemas, description, handler) in queries(version) {
            for path in description.paths.keys() {
                let handlers = paths.entry(path.clone()).or_default();
                handlers.insert(version.name, handler.clone());
            }
            documented.push((schemas, description));
        }
    }
    let view = Arc::new(view);
    let picked = |handlers: Handlers| -> MethodRouter {
        get(pick).with_state(Path {
            view: view.clone(),
            serving: serving.clone(),
            handlers: Arc::new(handlers),
        })
    };
    let mut router = OpenApiRouter::new();
    for (schemas, description) in documented {
        let path = description.paths.keys().next().cloned().unwrap_or_default();
        let handlers = paths.remove(&path).unwrap_or_default();
        router = router.routes((schemas, description, picked(handlers)));
    }
    for (path, handlers) in paths {
        router = router.route(&path, picked(handlers));
    }
    router
}

/// Passes a request to the version that answers. The handler finds the parameters of the path in the request, because all
/// versions have the same path.
async fn pick(State(path): State<Path>, request: Request) -> Response {
    let version = match path.view.answering(&path.serving) {
        Ok(version) => version,
        Err(missing) => return version_missing(&missing).into_response(),
    };
    match path.handlers.get(version.name) {
        Some(handler) => {
            <MethodRouter as Handler<(), ()>>::call(handler.clone(), request, ()).await
        }
        None => not_in_version(version, request.uri().path()).into_response(),
    }
}

/// The 404 of a path that only other versions have.
fn not_in_version(version: &Registration, path: &str) -> Problem {
    let detail = format!(
        "there is no resource at {path} while {} answers; /docs has the resources of the newest version",
        version.name
    );
    Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", detail)
}
