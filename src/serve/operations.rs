//! The HTTP interface of a process without queries and commands: health, metrics, progress.

use super::progress::{self, Sources};
use axum::{Router, extract::Request, http::StatusCode, middleware, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use service::{
    health::{self, Health},
    hosts::{Hosts, check_host},
    problem::Problem,
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
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(hosts, check_host))
}

async fn not_found(request: Request) -> Problem {
    let detail = format!(
        "there is no resource at {}; this process has /health/live, /health/ready, /metrics and \
         /api/v1/admin/progress, and a node of `daybook serve` answers queries",
        request.uri().path()
    );
    Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::unreachable;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use serde_json::Value;
    use service::progress::Progress;
    use std::net::Ipv4Addr;
    use tokio::net::TcpListener;

    /// A name that is resolved to this machine.
    const LOCAL: &str = "localhost";

    /// The status and the code of the answer to a request for a path at a host. The other servers are unreachable.
    async fn code_of(path: &str, host: &str) -> (u16, String) {
        let sources = Sources {
            progress: Progress::default(),
            admin: unreachable::admin(),
            databases: unreachable::databases(),
        };
        let localhost = Ipv4Addr::LOCALHOST;
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let hosts = Hosts::new(localhost.into(), "").unwrap();
        let router = router(Health::default(), metrics, hosts, sources);
        let listener = TcpListener::bind((localhost, 0)).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let request = reqwest::Client::new().get(format!("{base}{path}"));
        let answer = request.header("host", host).send().await.unwrap();
        let status = answer.status().as_u16();
        let problem: Value = answer.json().await.unwrap();
        (status, problem["code"].as_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn an_unknown_path_is_a_problem() {
        let found = code_of("/api/v1/orders", LOCAL).await;
        assert_eq!(found, (404, "NOT_FOUND".to_owned()));
    }

    #[tokio::test]
    async fn an_unknown_parameter_of_the_progress_is_refused() {
        let found = code_of("/api/v1/admin/progress?colour=red", LOCAL).await;
        assert_eq!(found, (400, "UNKNOWN_OR_INVALID_PARAMETER".to_owned()));
    }

    /// A web page sends such a request after its host name was pointed at this machine.
    #[tokio::test]
    async fn a_request_to_a_host_name_that_is_not_served_is_refused() {
        for path in [
            "/health/live",
            "/health/ready",
            "/metrics",
            "/api/v1/admin/progress",
            "/nothing",
        ] {
            let found = code_of(path, "page.example").await;
            assert_eq!(found, (421, "HOST_NOT_SERVED".to_owned()), "{path}");
        }
    }
}
