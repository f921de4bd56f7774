//! Invalid requests to the queries, and their answers while the databases are unavailable. Needs no server.

#![allow(
    clippy::unwrap_used,
    reason = "a test program; clippy knows only its test functions"
)]

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode, header},
};
use projections::{CqlSettings, Databases, PostgresSettings, Waits};
use serde_json::Value;
use tower::ServiceExt;

/// The queries with unreachable databases: nothing listens on port 1.
fn router() -> Router {
    let postgres = PostgresSettings {
        url: "postgres://daybook@127.0.0.1:1/daybook".into(),
        ..PostgresSettings::default()
    };
    let cql = CqlSettings {
        nodes: "127.0.0.1:1".into(),
        ..CqlSettings::default()
    };
    let databases = Databases::connect_lazily(&postgres, &cql).unwrap();
    projections::routes(&databases, &Waits::default())
        .split_for_parts()
        .0
}

async fn get(router: &Router, path: &str) -> (StatusCode, bool, Value) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let has_retry_after = response.headers().contains_key(header::RETRY_AFTER);
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (
        status,
        has_retry_after,
        serde_json::from_slice(&body).unwrap(),
    )
}

#[tokio::test]
async fn bad_input_is_refused_before_a_database_is_queried() {
    let router = router();
    let long = "a".repeat(1_025);
    for (path, code) in [
        ("/orders?limit=0", "INVALID_LIMIT"),
        ("/orders?limit=101", "INVALID_LIMIT"),
        ("/orders?limit=-1", "UNKNOWN_OR_INVALID_PARAMETER"),
        ("/orders?limit=many", "UNKNOWN_OR_INVALID_PARAMETER"),
        ("/orders?colour=red", "UNKNOWN_OR_INVALID_PARAMETER"),
        ("/orders?kind=LOAN", "UNKNOWN_OR_INVALID_PARAMETER"),
        (
            "/orders/order_01h455vb4pex5vsknk084sn02q?limit=1",
            "UNKNOWN_OR_INVALID_PARAMETER",
        ),
        (
            "/products/85123A?currency=GBP",
            "UNKNOWN_OR_INVALID_PARAMETER",
        ),
        (
            "/customers/17850?currency=GBP",
            "UNKNOWN_OR_INVALID_PARAMETER",
        ),
        ("/orders?from=yesterday", "INVALID_TIME"),
        ("/orders?to=99999-01-01T00:00:00Z", "INVALID_TIME"),
        ("/orders?cursor=", "INVALID_CURSOR"),
        ("/orders?cursor=zz", "INVALID_CURSOR"),
        ("/orders?customer=a%00b", "INVALID_TEXT"),
        (&format!("/orders?country={long}"), "INVALID_TEXT"),
        ("/orders/order_1", "INVALID_ORDER_ID"),
        ("/orders/product_85123A", "INVALID_ORDER_ID"),
        ("/customers/a%00b/orders", "INVALID_TEXT"),
        (&format!("/customers/{long}/orders"), "INVALID_TEXT"),
        ("/customers/1/orders?limit=0", "INVALID_LIMIT"),
        ("/customers/1/orders?cursor=01", "INVALID_CURSOR"),
        (
            "/customers/1/orders?kind=SALE",
            "UNKNOWN_OR_INVALID_PARAMETER",
        ),
    ] {
        let (status, _, problem) = get(&router, path).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {problem}");
        assert_eq!(problem["code"], code, "{path}: {problem}");
    }
}

#[tokio::test]
async fn clients_are_told_to_retry_while_the_databases_are_unavailable() {
    let router = router();
    for path in [
        "/orders",
        "/orders/order_01h455vb4pex5vsknk084sn02q",
        "/customers/17850/orders",
    ] {
        let (status, has_retry_after, problem) = get(&router, path).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}: {problem}");
        assert_eq!(problem["code"], "DATABASE_UNAVAILABLE", "{path}");
        assert!(has_retry_after, "{path}: no Retry-After");
    }
}
