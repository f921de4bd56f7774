//! Requests that can't be taken: each is refused with a status, a stable code and the name of what is
//! wrong, and changes nothing.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{Answer, Client, World, audit_log, http::send};

/// Bytes of a body that is far too large.
const HUGE_BODY_BYTES: usize = 10 << 20;

const JSON: &str = "application/json";
const PRODUCTS: &str = "/api/v1/products";
const PRICE: &str = "/api/v1/products/GOOD/price";

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_by_name_and_cost_nothing() -> Result<()> {
    let world = World::wiped("bad_requests").await?;
    let daybook = world.serve().await?;
    let client = daybook.client();
    let product = json!({"sku": "GOOD", "description": "a product"});
    let created = client.post(PRODUCTS, &product, None).await?;
    created.expect(201)?;

    for (body, status, code, part) in BAD_PRODUCTS {
        refused(client, Method::POST, PRODUCTS, body, (*status, code, part)).await?;
    }
    for (field, product) in [
        ("sku", json!({"sku": "A".repeat(65), "description": ""})),
        (
            "description",
            json!({"sku": "A", "description": "x".repeat(501)}),
        ),
    ] {
        let body = product.to_string();
        let expected = (422, "FIELD_INVALID", field);
        refused(client, Method::POST, PRODUCTS, &body, expected).await?;
    }
    let huge = json!({"sku": "A", "description": "x".repeat(HUGE_BODY_BYTES)}).to_string();
    let expected = (413, "BODY_TOO_LARGE", "limit");
    refused(client, Method::POST, PRODUCTS, &huge, expected).await?;
    for (price, status, code, part) in BAD_PRICES {
        let body = format!("{{\"price\":{price}}}");
        refused(client, Method::PUT, PRICE, &body, (*status, code, part)).await?;
    }
    check_routes(client).await?;
    check_queries(client).await?;
    check_headers(client, &product).await?;

    client.get("/health/ready").await?.expect(200)?;
    let created = audit_log::decisions(&world, &["--event", "ProductCreated"]).await?;
    ensure!(created.len() == 1, "something was created: {created:?}");
    audit_log::verify(&world).await.map(drop)
}

/// Bodies that are no new product; status, code, and a part of the detail.
const BAD_PRODUCTS: &[(&str, u16, &str, &str)] = &[
    ("", 400, "BODY_MALFORMED", "EOF"),
    (r#"{"sku":"#, 400, "BODY_MALFORMED", "column"),
    ("{\"sku\":\"\u{1}\"}", 400, "BODY_MALFORMED", "column"),
    ("[]", 422, "BODY_INVALID", "ProductBody"),
    (r#"{"sku":"A"}"#, 422, "BODY_INVALID", "description"),
    (r#"{"sku":7,"description":""}"#, 422, "BODY_INVALID", "sku"),
    (
        r#"{"sku":null,"description":""}"#,
        422,
        "BODY_INVALID",
        "sku",
    ),
    (
        r#"{"sku":"A","description":"","colour":1}"#,
        422,
        "BODY_INVALID",
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
        r#"{"sku":"A","description":"\n"}"#,
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

/// Prices that no product can have.
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
        "BODY_INVALID",
        "price.amount",
    ),
    (
        r#"{"amount":1e30,"currency":"GBP"}"#,
        422,
        "BODY_INVALID",
        "price.amount",
    ),
    (
        r#"{"amount":9223372036854775808,"currency":"GBP"}"#,
        422,
        "BODY_INVALID",
        "price.amount",
    ),
    (
        r#"{"amount":"1999","currency":"GBP"}"#,
        422,
        "BODY_INVALID",
        "price.amount",
    ),
    (r#"{"amount":1}"#, 422, "BODY_INVALID", "currency"),
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

/// Queries that are a 400; code, and a part of the detail.
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
        "analytics/series?job=revenue_by_country&window=day&limit=1001",
        "INVALID_LIMIT",
        "1001",
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

/// Sends JSON that must be refused with a status, a code, and a detail that names the part.
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
    ensure!(detail.contains(part), "it does not say {part:?}: {problem}");
    Ok(())
}

/// Paths and methods that are not there, and media types that are not taken.
async fn check_routes(client: &Client) -> Result<()> {
    let unknown_order = "/api/v1/orders/order_00000000000000000000000000";
    for (method, path, status, code, part) in [
        (
            Method::GET,
            "/api/v1/nothing",
            404,
            "NOT_FOUND",
            "/api/v1/nothing",
        ),
        (Method::GET, "/", 404, "NOT_FOUND", "/"),
        (
            Method::GET,
            unknown_order,
            404,
            "ORDER_NOT_FOUND",
            "order_0",
        ),
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
    let unknown_product = "/api/v1/products/NONE/price";
    let expected = (404, "PRODUCT_NOT_FOUND", "no such product");
    refused(client, Method::PUT, unknown_product, price, expected).await?;
    for (path, code) in [
        (PRODUCTS, "CONTENT_TYPE_NOT_JSON"),
        ("/api/v1/admin/commands", "CONTENT_TYPE_NOT_NDJSON"),
    ] {
        let request = client.request(Method::POST, path).body("{}");
        let answer = send(request.header("content-type", "text/plain")).await?;
        answer.problem(415, code)?;
    }
    Ok(())
}

async fn check_queries(client: &Client) -> Result<()> {
    for (query, code, part) in BAD_QUERIES {
        let path = format!("/api/v1/{query}");
        let problem = client.get(&path).await?.problem(400, code);
        check_detail(&problem.context(*query)?, part).context(*query)?;
    }
    let long = "x".repeat(2_000);
    let path = format!("/api/v1/orders?country={long}");
    let problem = client.get(&path).await?.problem(400, "INVALID_TEXT")?;
    check_detail(&problem, "country")
}

async fn check_headers(client: &Client, product: &Value) -> Result<()> {
    for key in [String::new(), "k".repeat(256), "a\tb".into()] {
        let answer = client.post(PRODUCTS, product, Some(&key)).await?;
        let problem = answer.problem(400, "IDEMPOTENCY_KEY_INVALID");
        check_detail(&problem?, "idempotency key").with_context(|| format!("key {key:?}"))?;
    }
    for if_match in ["1", "*", "\"x\""] {
        let problem = price_if_match(client, if_match).await?;
        let problem = problem.problem(400, "IF_MATCH_INVALID");
        check_detail(&problem?, "If-Match").context(if_match)?;
    }
    let problem = price_if_match(client, "\"7\"").await?;
    let problem = problem.problem(412, "VERSION_MISMATCH")?;
    ensure!(
        problem["version"] == 1,
        "its version is not told: {problem}"
    );
    let done = price_if_match(client, "\"1\"").await?;
    ensure!(
        done.expect(201)?.header("etag") == "\"2\"",
        "{:?}",
        done.headers
    );
    Ok(())
}

async fn price_if_match(client: &Client, if_match: &str) -> Result<Answer> {
    let price = json!({"price": {"amount": 1, "currency": "GBP"}});
    let request = client.request(Method::PUT, PRICE).json(&price);
    send(request.header("if-match", if_match)).await
}
