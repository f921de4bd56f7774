//! Invalid requests: each is refused with a status, a stable code and a detail that names the error, and
//! changes nothing. One node refuses them all.

use crate::shared_deployment::Shared;
use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{Answer, Client, Deployment, Node, audit_log, expect_eq, http::send};
use tokio::sync::RwLockReadGuard;

/// Bytes of a body that is far too large.
const HUGE_BODY_BYTES: usize = 10 << 20;

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
const BATCH: &str = "/api/v1/admin/commands";
const INTERNAL: &str = "/internal/v1/commands";
const INTERNAL_OWNERS: &str = "/internal/v1/owners";
const PRODUCTS: &str = "/api/v1/products";
/// This product exists, and no request changes it.
const PRICE: &str = "/api/v1/products/GOOD/price";
/// One test gives this product its first price.
const OTHER_PRICE: &str = "/api/v1/products/PRICED/price";
/// The products of the shared deployment.
const SKUS: [&str; 2] = ["GOOD", "PRICED"];

/// The node that refuses the requests.
pub static REFUSING: Shared<Refusing> = Shared::new();

pub struct Refusing {
    deployment: Deployment,
    node: Node,
}

async fn refusing() -> Result<RwLockReadGuard<'static, Refusing>> {
    REFUSING.read(Refusing::make()).await
}

impl Refusing {
    async fn make() -> Result<Self> {
        let deployment = Deployment::new("requests")?;
        let node = deployment.serve().await?;
        for sku in SKUS {
            let product = json!({"sku": sku, "description": "a product"});
            let created = node.client().post(PRODUCTS, &product, None).await?;
            created.expect(201)?;
        }
        Ok(Self { deployment, node })
    }

    fn client(&self) -> &Client {
        self.node.client()
    }

    /// The node is still ready, and only its own products were created.
    async fn check_unchanged(&self) -> Result<()> {
        self.client().get("/health/ready").await?.expect(200)?;
        let arguments = ["--event", "ProductCreated"];
        let created = audit_log::decisions(&self.deployment, &arguments).await?;
        ensure!(
            created.len() == SKUS.len(),
            "{} products instead of {SKUS:?}: {created:?}",
            created.len()
        );
        Ok(())
    }
}

pub async fn a_body_that_is_not_a_product_is_refused() -> Result<()> {
    let refusing = refusing().await?;
    let client = refusing.client();
    for (body, status, code, part) in BAD_PRODUCTS {
        refused(client, Method::POST, PRODUCTS, body, (*status, code, part)).await?;
    }
    let (long_sku, long_text) = ("A".repeat(65), "x".repeat(501));
    for (field, product) in [
        ("sku", json!({"sku": long_sku, "description": ""})),
        ("description", json!({"sku": "A", "description": long_text})),
    ] {
        let body = product.to_string();
        let expected = (422, "FIELD_INVALID", field);
        refused(client, Method::POST, PRODUCTS, &body, expected).await?;
    }
    refusing.check_unchanged().await
}

pub async fn a_body_over_the_limit_is_refused() -> Result<()> {
    let refusing = refusing().await?;
    let huge = json!({"sku": "A", "description": "x".repeat(HUGE_BODY_BYTES)}).to_string();
    let expected = (413, "BODY_TOO_LARGE", "limit");
    refused(refusing.client(), Method::POST, PRODUCTS, &huge, expected).await?;
    refusing.check_unchanged().await
}

pub async fn a_price_that_no_product_can_have_is_refused() -> Result<()> {
    let refusing = refusing().await?;
    for (price, status, code, part) in BAD_PRICES {
        let body = format!("{{\"price\":{price}}}");
        let expected = (*status, *code, *part);
        refused(refusing.client(), Method::PUT, PRICE, &body, expected).await?;
    }
    refusing.check_unchanged().await
}

pub async fn an_unknown_path_method_or_resource_is_refused() -> Result<()> {
    let refusing = refusing().await?;
    let client = refusing.client();
    let unknown = "/api/v1/orders/order_00000000000000000000000000";
    for (method, path, status, code, part) in [
        (
            Method::GET,
            "/api/v1/nothing",
            404,
            "NOT_FOUND",
            "/api/v1/nothing",
        ),
        (Method::GET, "/", 404, "NOT_FOUND", "/"),
        (Method::GET, unknown, 404, "ORDER_NOT_FOUND", "order_0"),
        (
            Method::DELETE,
            PRODUCTS,
            405,
            "METHOD_NOT_ALLOWED",
            "DELETE",
        ),
        (
            Method::POST,
            "/health/live",
            405,
            "METHOD_NOT_ALLOWED",
            "POST",
        ),
    ] {
        refused(client, method, path, "", (status, code, part)).await?;
    }
    let price = r#"{"price":{"amount":1,"currency":"GBP"}}"#;
    let unknown = "/api/v1/products/NONE/price";
    let expected = (404, "PRODUCT_NOT_FOUND", "create it before");
    refused(client, Method::PUT, unknown, price, expected).await?;
    refusing.check_unchanged().await
}

pub async fn another_media_type_charset_or_encoding_is_refused() -> Result<()> {
    let refusing = refusing().await?;
    for (path, media_type, code) in [
        (PRODUCTS, JSON, "CONTENT_TYPE_NOT_JSON"),
        (BATCH, NDJSON, "CONTENT_TYPE_NOT_NDJSON"),
    ] {
        let request = |content_type: &str| {
            let request = refusing.client().request(Method::POST, path).body("{}");
            request.header("content-type", content_type)
        };
        send(request("text/plain")).await?.problem(415, code)?;
        let other_charset = request(&format!("{media_type}; charset=utf-16"));
        send(other_charset)
            .await?
            .problem(415, "CHARSET_NOT_UTF_8")?;
        let encoded = send(request(media_type).header("content-encoding", "gzip")).await?;
        encoded.problem(415, "CONTENT_ENCODING_NOT_IDENTITY")?;
        let accepted = encoded.header("accept-encoding");
        expect_eq("Accept-Encoding", &accepted, &"identity")?;
    }
    refusing.check_unchanged().await
}

pub async fn a_request_to_a_host_name_that_is_not_served_is_refused() -> Result<()> {
    let refusing = refusing().await?;
    let client = refusing.client();
    let port = refusing.deployment.listen().port();
    for path in [
        "/api/v1/orders",
        "/health/ready",
        "/metrics",
        "/docs/",
        "/openapi.json",
        INTERNAL,
        "/nothing",
    ] {
        // A web page sends such a request after its host name was pointed at this machine.
        let of_page = client.request(Method::GET, path);
        let answer = send(of_page.header("host", format!("page.example:{port}"))).await?;
        check_detail(&answer.problem(421, "HOST_NOT_SERVED")?, "http.hosts")?;
    }
    let product = json!({"sku": "REBOUND", "description": ""});
    let request = client.request(Method::POST, PRODUCTS).json(&product);
    let answer = send(request.header("host", "page.example")).await?;
    answer.problem(421, "HOST_NOT_SERVED")?;
    for host in ["localhost".to_owned(), format!("127.0.0.1:{port}")] {
        let request = client.request(Method::GET, "/health/live");
        send(request.header("host", host)).await?.expect(200)?;
    }
    refusing.check_unchanged().await
}

pub async fn a_browser_can_not_use_the_routes_between_nodes() -> Result<()> {
    let refusing = refusing().await?;
    let own_page = refusing.client().base().to_owned();
    for (name, value) in [("origin", own_page.as_str()), ("sec-fetch-site", "none")] {
        let request = refusing.client().request(Method::POST, INTERNAL);
        let request = request.header("content-type", NDJSON).header(name, value);
        send(request).await?.problem(403, "NODES_ONLY")?;
        let request = refusing.client().request(Method::GET, INTERNAL_OWNERS);
        let request = request.header(name, value);
        send(request).await?.problem(403, "NODES_ONLY")?;
    }
    let owners = refusing.client().get(INTERNAL_OWNERS).await?;
    owners.expect(200)?;
    refusing.check_unchanged().await
}

pub async fn a_query_with_an_invalid_parameter_is_refused() -> Result<()> {
    let refusing = refusing().await?;
    let client = refusing.client();
    for (query, code, part) in BAD_QUERIES {
        let path = format!("/api/v1/{query}");
        let problem = client.get(&path).await?.problem(400, code);
        check_detail(&problem.context(*query)?, part).context(*query)?;
    }
    let path = format!("/api/v1/orders?country={}", "x".repeat(2_000));
    let problem = client.get(&path).await?.problem(400, "INVALID_TEXT")?;
    check_detail(&problem, "country")
}

pub async fn an_invalid_idempotency_key_is_refused() -> Result<()> {
    let refusing = refusing().await?;
    let product = json!({"sku": "A", "description": "a product"});
    for key in [String::new(), "k".repeat(256), "a\tb".into()] {
        let answer = refusing.client().post(PRODUCTS, &product, Some(&key));
        let problem = answer.await?.problem(400, "IDEMPOTENCY_KEY_INVALID");
        check_detail(&problem?, "Idempotency-Key").with_context(|| format!("key {key:?}"))?;
    }
    refusing.check_unchanged().await
}

pub async fn an_invalid_if_match_is_refused() -> Result<()> {
    let refusing = refusing().await?;
    for if_match in ["1", "*", "\"x\"", "\"+1\"", "\"01\"", "\"0\""] {
        let answer = price_if_match(refusing.client(), if_match).await?;
        let problem = answer.problem(400, "IF_MATCH_INVALID");
        check_detail(&problem?, "If-Match").context(if_match)?;
    }
    refusing.check_unchanged().await
}

pub async fn if_match_must_be_the_current_version() -> Result<()> {
    let refusing = refusing().await?;
    let client = refusing.client();
    let answer = price_if_match(client, "\"7\"").await?;
    let problem = answer.problem(412, "VERSION_MISMATCH")?;
    ensure!(problem["version"] == 1, "version is not 1: {problem}");
    let answer = price_if_match(client, "\"1\"").await?;
    expect_eq("ETag", &answer.expect(201)?.header("etag"), &"\"2\"")?;
    refusing.check_unchanged().await
}

pub async fn a_repeated_header_is_refused() -> Result<()> {
    let refusing = refusing().await?;
    let product = json!({"sku": "TWICE", "description": "a product"});
    for (name, values, code) in [
        ("idempotency-key", ["a", "b"], "IDEMPOTENCY_KEY_INVALID"),
        ("if-match", ["\"1\"", "\"1\""], "IF_MATCH_INVALID"),
    ] {
        let request = refusing.client().request(Method::POST, PRODUCTS);
        let request = request.json(&product);
        let request = values
            .iter()
            .fold(request, |request, value| request.header(name, *value));
        check_detail(&send(request).await?.problem(400, code)?, name)?;
    }
    refusing.check_unchanged().await
}

async fn price_if_match(client: &Client, if_match: &str) -> Result<Answer> {
    let price = json!({"price": {"amount": 1, "currency": "GBP"}});
    let request = client.request(Method::PUT, OTHER_PRICE).json(&price);
    send(request.header("if-match", if_match)).await
}

/// Sends JSON that must be refused with this status and code, and with this part of the detail.
async fn refused(
    client: &Client,
    method: Method,
    path: &str,
    body: &str,
    (status, code, part): (u16, &str, &str),
) -> Result<()> {
    let shown: String = body.chars().take(80).collect();
    let name = format!("{method} {path} {shown}");
    let request = client.request(method, path).header("content-type", JSON);
    let answer = send(request.body(body.to_owned())).await;
    let problem = answer.and_then(|answer| answer.problem(status, code));
    check_detail(&problem.with_context(|| name.clone())?, part).with_context(|| name)
}

fn check_detail(problem: &Value, part: &str) -> Result<()> {
    let detail = problem["detail"].as_str().unwrap_or_default();
    ensure!(
        detail.contains(part),
        "no {part:?} in the detail: {problem}"
    );
    Ok(())
}

/// Bodies that create no product; the status, the code and a part of the detail.
const BAD_PRODUCTS: &[(&str, u16, &str, &str)] = &[
    ("", 400, "BODY_MALFORMED", "EOF"),
    (r#"{"sku":"#, 400, "BODY_MALFORMED", "column"),
    ("{\"sku\":\"\u{1}\"}", 400, "BODY_MALFORMED", "column"),
    ("[]", 422, "BODY_INVALID", "CreateProduct"),
    (r#"{"sku":"A"}"#, 422, "BODY_INVALID", "description"),
    (r#"{"sku":7,"description":""}"#, 422, "FIELD_INVALID", "sku"),
    (
        r#"{"sku":null,"description":""}"#,
        422,
        "FIELD_INVALID",
        "sku",
    ),
    (
        r#"{"sku":"A","description":"","colour":1}"#,
        422,
        "FIELD_INVALID",
        "colour",
    ),
    (
        r#"{"sku":"","description":""}"#,
        422,
        "FIELD_INVALID",
        "sku",
    ),
    (
        r#"{"sku":" A","description":""}"#,
        422,
        "FIELD_INVALID",
        "sku",
    ),
    (
        r#"{"sku":"É","description":""}"#,
        422,
        "FIELD_INVALID",
        "sku",
    ),
    (
        r#"{"sku":"..","description":""}"#,
        422,
        "FIELD_INVALID",
        "sku",
    ),
    (
        r#"{"sku":"A","description":"a\nb"}"#,
        422,
        "FIELD_INVALID",
        "description",
    ),
    (
        r#"{"sku":"GOOD","description":"other"}"#,
        409,
        "PRODUCT_EXISTS",
        "a product",
    ),
];

/// Prices that no product can have; the status, the code and a part of the detail.
const BAD_PRICES: &[(&str, u16, &str, &str)] = &[
    (
        r#"{"amount":-1,"currency":"GBP"}"#,
        422,
        "PRICE_NOT_POSITIVE",
        "above zero",
    ),
    (
        r#"{"amount":0,"currency":"GBP"}"#,
        422,
        "PRICE_NOT_POSITIVE",
        "above zero",
    ),
    (
        r#"{"amount":1.5,"currency":"GBP"}"#,
        422,
        "FIELD_INVALID",
        "price.amount",
    ),
    (
        r#"{"amount":1e30,"currency":"GBP"}"#,
        422,
        "FIELD_INVALID",
        "price.amount",
    ),
    (
        r#"{"amount":9223372036854775808,"currency":"GBP"}"#,
        422,
        "FIELD_INVALID",
        "price.amount",
    ),
    (
        r#"{"amount":"1999","currency":"GBP"}"#,
        422,
        "FIELD_INVALID",
        "price.amount",
    ),
    (r#"{"amount":1}"#, 422, "FIELD_INVALID", "currency"),
    (
        r#"{"amount":1,"currency":"PND"}"#,
        422,
        "FIELD_INVALID",
        "price.currency",
    ),
    (
        r#"{"amount":1,"currency":"gbp"}"#,
        422,
        "FIELD_INVALID",
        "price.currency",
    ),
    (
        r#"{"amount":1,"currency":"XAU"}"#,
        422,
        "FIELD_INVALID",
        "price.currency",
    ),
];

/// Queries with an invalid parameter; the code and a part of the detail.
const BAD_QUERIES: &[(&str, &str, &str)] = &[
    ("orders?limit=0", "INVALID_LIMIT", "limit is 0"),
    ("orders?limit=101", "INVALID_LIMIT", "limit is 101"),
    ("orders?limit=-1", "UNKNOWN_OR_INVALID_PARAMETER", "limit"),
    ("orders?limit=x", "UNKNOWN_OR_INVALID_PARAMETER", "limit"),
    (
        "orders?colour=red",
        "UNKNOWN_OR_INVALID_PARAMETER",
        "colour",
    ),
    ("orders?kind=GIFT", "UNKNOWN_OR_INVALID_PARAMETER", "kind"),
    ("orders?cursor=zz", "INVALID_CURSOR", "cursor"),
    (
        "orders?cursor=017fffffffffffffff61",
        "INVALID_CURSOR",
        "cursor",
    ),
    ("orders?from=yesterday", "INVALID_TIME", "from"),
    ("orders?to=2010-13-01T00:00:00Z", "INVALID_TIME", "to"),
    ("orders?customer=%00", "INVALID_TEXT", "customer"),
    ("orders/7", "INVALID_ORDER_ID", "order_"),
    (
        "orders/order_01H455VB4PEX5VSKNK084SN02Q",
        "INVALID_ORDER_ID",
        "order_",
    ),
    (
        "customers/17850/orders?limit=1000",
        "INVALID_LIMIT",
        "limit",
    ),
    (
        "customers/17850/orders?cursor=%20",
        "INVALID_CURSOR",
        "cursor",
    ),
    ("customers/%FF/orders", "PATH_INVALID", "id"),
    ("analytics/series", "UNKNOWN_OR_INVALID_PARAMETER", "job"),
    ("analytics/series?job=x&window=day", "UNKNOWN_JOB", "\"x\""),
    (
        "analytics/series?job=revenue_by_country&window=year",
        "UNKNOWN_WINDOW",
        "\"year\"",
    ),
    (
        "analytics/series?job=revenue_by_country&window=day&limit=101",
        "INVALID_LIMIT",
        "101",
    ),
    (
        "analytics/series?job=revenue_by_country&window=day&cursor=00",
        "INVALID_CURSOR",
        "cursor",
    ),
    (
        "analytics/series?job=revenue_by_country&window=day&from=now",
        "INVALID_TIME",
        "now",
    ),
];
