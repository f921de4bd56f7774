//! The HTTP interface of a process without queries and commands: health, metrics, progress.

use super::progress::{self, Sources};
use axum::{Router, middleware, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use service::{
    health::{self, Health},
    hosts::{Hosts, check_host},
};

/// The routes.
pub fn router(health: Health, metrics: PrometheusHandle, hosts: Hosts, sources: Sources) -> Router {
    let of_health = Router::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .with_state(health);
    let (progress, _) = progress::routes(sources).split_for_parts();
    Router::new()
        .nest("/api/v1", progress)
        .merge(of_health)
        .route("/metrics", get(move || async move { metrics.render() }))
        .layer(middleware::from_fn_with_state(hosts, check_host))
}
