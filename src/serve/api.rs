//! The HTTP interface as a whole: every part's routes, one OpenAPI document, metrics, fallbacks.

use super::{linger::linger, progress};
use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderValue, Method, StatusCode, Version, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use commands::Slot;
use kafka::Admin;
use metrics_exporter_prometheus::PrometheusHandle;
use projections::Databases;
use service::{health::Health, problem::Problem, progress::Progress, trace};
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    trace::TraceLayer,
};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::SwaggerUi;

/// Largest body of a request that is not streamed, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Counter by method, path and status.
const REQUESTS: &str = "daybook_http_requests_total";
/// Histogram by method and path.
const REQUEST_SECONDS: &str = "daybook_http_request_seconds";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Daybook",
        description = "Event-sourced commerce on plain Kafka topics. Every error is a problem detail (RFC 9457) with a stable `code`."
    ),
    components(schemas(Problem))
)]
struct Document;

/// What the routes work on.
pub struct Parts {
    pub slot: Slot,
    /// Only where there is a read side.
    pub reading: Option<Reading>,
    pub health: Health,
    pub metrics: PrometheusHandle,
    /// Cancelled once clients should go elsewhere.
    pub stop: CancellationToken,
}

/// What queries work on.
pub struct Reading {
    pub databases: Databases,
    pub series: streams::Series,
    pub progress: Progress,
    pub admin: Admin,
}

/// All routes.
pub fn router(parts: Parts) -> Router {
    let internal = commands::http::internal_routes(parts.slot.clone());
    let mut api = OpenApiRouter::new().merge(commands::http::routes(parts.slot));
    if let Some(reading) = parts.reading {
        let progress_sources = progress::Sources {
            progress: reading.progress,
            admin: reading.admin,
        };
        api = api
            .merge(projections::routes(&reading.databases))
            .merge(streams::routes(reading.series))
            .merge(
                OpenApiRouter::new()
                    .routes(routes!(progress::progress))
                    .with_state(progress_sources),
            );
    }
    let health = OpenApiRouter::new()
        .routes(routes!(service::health::live))
        .routes(routes!(service::health::ready))
        .with_state(parts.health);
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .nest("/api/v1", api)
        .merge(health)
        .split_for_parts();
    let metrics = parts.metrics;
    router
        .merge(internal)
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document))
        .route("/metrics", get(move || async move { metrics.render() }))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(measure))
        .layer(middleware::from_fn(linger))
        .layer(middleware::from_fn_with_state(parts.stop, part))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(PropagateRequestIdLayer::x_request_id())
        // Refusals are answers; what fails logs its own reason.
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(|request: &Request| trace::span(request))
                .on_failure(()),
        )
        .layer(middleware::from_fn(trace::begin))
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
}

/// Asks clients to take their next requests elsewhere, once the service stops: it closes its
/// connections soon, and a request that meets that has no answer.
async fn part(State(stop): State<CancellationToken>, request: Request, next: Next) -> Response {
    // HTTP/2 has words of its own for it.
    let has_header = request.version() <= Version::HTTP_11;
    let mut response = next.run(request).await;
    if has_header && stop.is_cancelled() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

async fn not_found(request: Request) -> Problem {
    let detail = format!("there is nothing at {}", request.uri().path());
    Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", detail)
}

async fn method_not_allowed(request: Request) -> Problem {
    let detail = format!(
        "{} does not take {}",
        request.uri().path(),
        request.method()
    );
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", detail)
}

/// The panic's own words are for the log; the client only learns that it was not its fault.
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = words.unwrap_or("no words"), "a handler panicked");
    let detail = "the service made a mistake; it was logged";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", detail).into_response()
}

/// Clients may make methods up; metrics have no room for that.
fn method_name(method: &Method) -> &'static str {
    let known = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
    ];
    let names = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"];
    known
        .iter()
        .position(|known| known == method)
        .map_or("other", |index| names[index])
}

async fn measure(matched: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let arrived = Instant::now();
    let method = method_name(request.method());
    let path = matched.map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::counter!(REQUESTS, "method" => method, "path" => path.clone(), "status" => status)
        .increment(1);
    metrics::histogram!(REQUEST_SECONDS, "method" => method, "path" => path)
        .record(arrived.elapsed());
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;
    use serde_json::Value;

    #[tokio::test]
    async fn a_panic_is_a_problem_that_keeps_its_words_to_itself() {
        let response = panicked(Box::new("the password is 7"));
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = to_bytes(response.into_body(), 1 << 10).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["code"], "INTERNAL_ERROR");
        assert!(!body.to_string().contains("password"), "{body}");
    }
}
