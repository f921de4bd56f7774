//! Routes of queries that several versions of a view can answer: each request goes to the version that answers then.
//!
//! The versions may have other parameters, answers and paths. The OpenAPI document has the queries of the newest
//! version.

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
struct VersionedPath {
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
        get(pick).with_state(VersionedPath {
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

/// Passes a request to the version that answers. The handler finds the parameters of the path in the request, because
/// all versions have the same path.
async fn pick(State(path): State<VersionedPath>, request: Request) -> Response {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        builds::{Entry, State as BuildState},
        views::VIEWS,
    };
    use axum::{
        body::{Body, to_bytes},
        extract::Path,
    };
    use schemas::Timestamp;
    use tower::ServiceExt;
    use utoipa_axum::routes;

    const FORMER: &str = "orders_v2";
    const NEXT: &str = "orders_v3";

    #[utoipa::path(get, path = "/both/{id}", responses((status = 200, body = String)))]
    async fn former(Path(id): Path<String>) -> String {
        format!("former {id}")
    }

    #[utoipa::path(get, path = "/former", responses((status = 200, body = String)))]
    async fn only_former() -> &'static str {
        "former"
    }

    #[utoipa::path(get, path = "/both/{id}", responses((status = 200, body = String)))]
    async fn next(Path(id): Path<String>) -> String {
        format!("next {id}")
    }

    #[utoipa::path(get, path = "/next", responses((status = 200, body = String)))]
    async fn only_next() -> &'static str {
        "next"
    }

    /// The routes while a version answers.
    fn routes_with(answering: &str) -> OpenApiRouter {
        let serving = Serving::default();
        serving.set(&[Entry {
            view: answering.to_owned(),
            build: 1,
            state: BuildState::Serving,
            created_at: Timestamp(0),
            changed_at: Timestamp(0),
            has_tables: true,
            has_caught_up: true,
        }]);
        let view = Versions::of(NEXT, VIEWS).unwrap();
        super::routes(view, &serving, |version| match version.name {
            FORMER => vec![routes!(former), routes!(only_former)],
            _ => vec![routes!(next), routes!(only_next)],
        })
    }

    async fn answer(answering: &str, path: &str) -> (u16, String) {
        let (router, _) = routes_with(answering).split_for_parts();
        let request = axum::http::Request::get(path).body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_version_that_answers_gets_the_request_with_the_parameters_of_its_path() {
        for (answering, text) in [(FORMER, "former 7"), (NEXT, "next 7")] {
            let answered = answer(answering, "/both/7").await;
            assert_eq!(answered, (200, text.to_owned()), "{answering}");
        }
    }

    #[tokio::test]
    async fn a_path_of_another_version_is_not_found() {
        assert_eq!(answer(FORMER, "/former").await.0, 200);
        assert_eq!(answer(NEXT, "/next").await.0, 200);
        for (answering, path) in [(FORMER, "/next"), (NEXT, "/former")] {
            let (status, body) = answer(answering, path).await;
            assert_eq!(status, 404, "{path} of {answering}: {body}");
            assert!(body.contains(answering), "no {answering} in: {body}");
        }
    }

    #[tokio::test]
    async fn a_version_that_this_program_does_not_have_is_named() {
        let (status, body) = answer("orders_v9", "/both/7").await;
        assert_eq!(status, 503, "{body}");
        assert!(body.contains("orders_v9"), "no orders_v9 in: {body}");
    }

    #[test]
    fn the_document_has_the_queries_of_the_newest_version() {
        let document = routes_with(FORMER).into_openapi();
        let paths: Vec<&str> = document.paths.paths.keys().map(String::as_str).collect();
        assert_eq!(paths, ["/both/{id}", "/next"]);
    }

    #[test]
    fn every_query_is_a_get_request_with_a_path_of_its_own() {
        for view in VIEWS {
            for (_, description, _) in (view.queries)() {
                let paths = description.paths;
                assert_eq!(paths.len(), 1, "{}: {:?}", view.name, paths.keys());
                let others = paths.values().filter(|path| path.get.is_none());
                assert_eq!(others.count(), 0, "{}: {:?}", view.name, paths.keys());
            }
        }
    }
}
