//! The HTTP interface: the routes of all crates, one OpenAPI document, metrics, fallbacks.

use super::{linger::linger, progress};
use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderValue, Method, StatusCode, Version, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use commands::WriteSideHandle;
use kafka::Admin;
use metrics_exporter_prometheus::PrometheusHandle;
use projections::{Databases, Live, Waits};
use service::{
    budget,
    health::Health,
    hosts::{Hosts, check_host},
    problem::{self, Problem},
    progress::Progress,
    trace,
};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    trace::TraceLayer,
};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::SwaggerUi;

/// Counter by `method`, `path` and `status`.
const REQUESTS: &str = "daybook_http_requests_total";
/// Histogram by `method` and `path`.
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

/// The state of the routes.
pub struct ApiState {
    pub write_side: WriteSideHandle,
    /// `None` without a read side.
    pub read_side: Option<ReadSide>,
    pub health: Health,
    pub metrics: PrometheusHandle,
    /// The names under which clients may call the service.
    pub hosts: Hosts,
    /// Cancelled once clients should use another node.
    pub stop: CancellationToken,
}

/// The state of queries.
pub struct ReadSide {
    pub databases: Databases,
    pub series: streams::Series,
    pub progress: Progress,
    pub admin: Admin,
    pub live: Live,
    /// Longest wait of a query for the positions in its request.
    pub position_wait_max: Duration,
}

/// All routes.
pub fn router(state: ApiState) -> Router {
    let internal = commands::http::internal_routes(state.write_side.clone());
    let admit = middleware::from_fn_with_state(state.write_side.budget().clone(), budget::admit);
    let mut api = OpenApiRouter::new().merge(commands::http::routes(state.write_side));
    if let Some(read_side) = state.read_side {
        let waits = Waits {
            progress: read_side.progress.clone(),
            wait_max: read_side.position_wait_max,
        };
        let progress_sources = progress::Sources {
            progress: read_side.progress,
            admin: read_side.admin,
            databases: read_side.databases.clone(),
        };
        api = api
            .merge(projections::routes(&read_side.databases, &waits))
            .merge(projections::live_routes(
                &read_side.live,
                &read_side.databases,
                &waits,
            ))
            .merge(projections::conditional(streams::routes(
                read_side.series,
                waits.wait_max,
            )))
            .merge(progress::routes(progress_sources));
    }
    // Health and metrics do not use the budget, because they must answer when nothing else does.
    let api = api.layer(admit);
    let health = OpenApiRouter::new()
        .routes(routes!(service::health::live))
        .routes(routes!(service::health::ready))
        .with_state(state.health);
    let (router, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .nest("/api/v1", api)
        .merge(health)
        .split_for_parts();
    problem::describe_problems(&mut document);
    let metrics = state.metrics;
    router
        .merge(internal)
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document))
        .route("/metrics", get(move || async move { metrics.render() }))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(state.hosts, check_host))
        .layer(middleware::from_fn(measure))
        .layer(middleware::from_fn(linger))
        .layer(middleware::from_fn_with_state(
            state.stop,
            close_when_stopping,
        ))
        .layer(DefaultBodyLimit::max(budget::BODY_BYTES_MAX))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(PropagateRequestIdLayer::x_request_id())
        // A failed response is not logged here: a rejection is an answer, and a failure logs its own reason.
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(|request: &Request| trace::span(request))
                .on_failure(()),
        )
        .layer(middleware::from_fn(trace::begin))
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
}

/// Makes clients close their connections once the process stops. The process closes these connections soon afterwards,
/// and a request that is on its way at that time gets no answer.
async fn close_when_stopping(
    State(stop): State<CancellationToken>,
    request: Request,
    next: Next,
) -> Response {
    // HTTP/2 has no such header; its GOAWAY frame does this.
    let has_header = request.version() <= Version::HTTP_11;
    let mut response = next.run(request).await;
    if has_header && stop.is_cancelled() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

async fn not_found(request: Request) -> Problem {
    let detail = format!(
        "there is no resource at {}; /docs lists the resources",
        request.uri().path()
    );
    Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", detail)
}

async fn method_not_allowed(request: Request) -> Problem {
    let detail = format!(
        "{} does not accept {}; /docs lists the methods",
        request.uri().path(),
        request.method()
    );
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", detail)
}

/// The panic's message goes to the log only; the client gets a 500.
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(
        panic = message.unwrap_or("no message"),
        "a handler panicked"
    );
    let detail = "the request failed: report it with the time; the service's log has the reason";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", detail).into_response()
}

/// The label of a method. Clients may invent methods, so an unknown method must not become a time series.
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
mod tests;
