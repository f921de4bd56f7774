//! Requests that can't be taken: each is refused with a status, a stable code and the name of what is
//! wrong; and the same command sent twice.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{
    Answer, Client, World, audit_log,
    http::{check_problem, send},
};

/// Bytes of a body that is far too large.
const HUGE_BODY_BYTES: usize = 10 << 20;
/// One byte more than a line of a batch may have.
const LONG_LINE_BYTES: usize = (1 << 20) + 1;
const JSON: &str = "application/json";

/// Method, path, content type, body; then status, code, and a part of the detail.
type Case<'a> = (Method, &'a str, &'a str, String, u16, &'a str, &'a str);

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_by_name_and_cost_nothing() -> Result<()> {
    let world = World::wiped("bad_requests").await?;
    let daybook = world.serve().await?;
    let client = daybook.client();
    let product = json!({"sku": "GOOD", "description": "a product"});
    client
        .post("/api/v1/products", &product, None)
        .await?
        .expect(201)?;

    for case in bodies().into_iter().chain(routes()) {
        check(client, case).await?;
    }
    for (query, code, detail) in QUERIES {
        let answer = client.get(query).await?;
        let problem = answer
            .problem(400, code)
            .with_context(|| query.to_owned())?;
        ensure!(
            says(&problem, detail),
            "{query}: it does not say {detail:?}: {problem}"
        );
    }
    check_headers(client, &product).await?;
    check_batch(client).await?;

    client.get("/health/ready").await?.expect(200)?;
    let keys = audit_log::decisions(&world, &["--event", "ProductCreated"]).await?;
    let keys: Vec<&str> = keys.iter().map(|decision| decision.key.as_str()).collect();
    ensure!(keys.len() == 3, "something else was created: {keys:?}");
    audit_log::verify(&world).await.map(drop)
}

/// Bodies of commands.
fn bodies<'a>() -> Vec<Case<'a>> {
    let create = |body: Value, status, code, detail| -> Case {
        (
            Method::POST,
            "/api/v1/products",
            JSON,
            body.to_string(),
            status,
            code,
            detail,
        )
    };
    let raw = |content_type, body: &str, status, code, detail| -> Case {
        let body = body.to_owned();
        (
            Method::POST,
            "/api/v1/products",
            content_type,
            body,
            status,
            code,
            detail,
        )
    };
    let price = |price: Value, status, code, detail| -> Case {
        let body = json!({"price": price}).to_string();
        (
            Method::PUT,
            "/api/v1/products/GOOD/price",
            JSON,
            body,
            status,
            code,
            detail,
        )
    };
    let gbp = |amount: Value| json!({"amount": amount, "currency": "GBP"});
    let huge = format!(
        "{{\"sku\":\"A\",\"description\":\"{}\"}}",
        "x".repeat(HUGE_BODY_BYTES)
    );
    vec![
        raw(JSON, "", 400, "BODY_MALFORMED", "EOF"),
        raw(JSON, "{\"sku\":", 400, "BODY_MALFORMED", "column"),
        raw(JSON, "{\"sku\":\"\u{1}\"}", 400, "BODY_MALFORMED", "column"),
        raw(JSON, "[]", 422, "BODY_INVALID", "ProductBody"),
        raw(JSON, &huge, 413, "BODY_TOO_LARGE", ""),
        raw(
            "text/plain",
            "{}",
            415,
            "CONTENT_TYPE_NOT_JSON",
            "application/json",
        ),
        create(json!({"sku": "A"}), 422, "BODY_INVALID", "description"),
        create(
            json!({"sku": 7, "description": ""}),
            422,
            "BODY_INVALID",
            "sku",
        ),
        create(
            json!({"sku": null, "description": ""}),
            422,
            "BODY_INVALID",
            "sku",
        ),
        create(
            json!({"sku": "A", "description": "", "colour": 1}),
            422,
            "BODY_INVALID",
            "colour",
        ),
        create(
            json!({"sku": "", "description": ""}),
            422,
            "FIELD_INVALID",
            "sku",
        ),
        create(
            json!({"sku": " A", "description": ""}),
            422,
            "FIELD_INVALID",
            "sku",
        ),
        create(
            json!({"sku": "\u{e9}", "description": ""}),
            422,
            "FIELD_INVALID",
            "sku",
        ),
        create(
            json!({"sku": "A".repeat(65), "description": ""}),
            422,
            "FIELD_INVALID",
            "sku",
        ),
        create(
            json!({"sku": "A", "description": "x".repeat(501)}),
            422,
            "FIELD_INVALID",
            "description",
        ),
        create(
            json!({"sku": "A", "description": "\n"}),
            422,
            "FIELD_INVALID",
            "description",
        ),
        create(
            json!({"sku": "GOOD", "description": "other"}),
            409,
            "PRODUCT_EXISTS",
            "a product",
        ),
        price(gbp(json!(-1)), 422, "PRICE_NOT_POSITIVE", "above zero"),
        price(gbp(json!(0)), 422, "PRICE_NOT_POSITIVE", "above zero"),
        price(gbp(json!(1.5)), 422, "BODY_INVALID", "price.amount"),
        price(gbp(json!(1e30)), 422, "BODY_INVALID", "price.amount"),
        price(gbp(json!(u64::MAX)), 422, "BODY_INVALID", "price.amount"),
        price(gbp(json!("1999")), 422, "BODY_INVALID", "price.amount"),
        price(json!({"amount": 1}), 422, "BODY_INVALID", "currency"),
        price(
            json!({"amount": 1, "currency": "PND"}),
            422,
            "FIELD_INVALID",
            "price.currency",
        ),
        price(
            json!({"amount": 1, "currency": "gbp"}),
            422,
            "FIELD_INVALID",
            "price.currency",
        ),
        price(
            json!({"amount": 1, "currency": "XAU"}),
            422,
            "FIELD_INVALID",
            "price.currency",
        ),
    ]
}

/// Paths and methods.
fn routes<'a>() -> Vec<Case<'a>> {
    let price = json!({"price": {"amount": 1, "currency": "GBP"}}).to_string();
    let case = |method, path, status, code, detail| -> Case {
        (method, path, JSON, String::new(), status, code, detail)
    };
    let unknown = "/api/v1/products/NONE/price";
    vec![
        (
            Method::PUT,
            unknown,
            JSON,
            price,
            404,
            "PRODUCT_NOT_FOUND",
            "no such product",
        ),
        case(
            Method::GET,
            "/api/v1/nothing",
            404,
            "NOT_FOUND",
            "/api/v1/nothing",
        ),
        case(Method::GET, "/", 404, "NOT_FOUND", "/"),
        case(
            Method::GET,
            "/api/v1/orders/order_00000000000000000000000000",
            404,
            "ORDER_NOT_FOUND",
            "",
        ),
        case(
            Method::DELETE,
            "/api/v1/products",
            405,
            "METHOD_NOT_ALLOWED",
            "DELETE",
        ),
        case(
            Method::POST,
            "/health/live",
            405,
            "METHOD_NOT_ALLOWED",
            "POST",
        ),
        case(
            Method::POST,
            "/api/v1/admin/commands",
            415,
            "CONTENT_TYPE_NOT_NDJSON",
            "application/x-ndjson",
        ),
    ]
}

/// Queries that are a 400; code, and what the detail names.
const QUERIES: &[(&str, &str, &str)] = &[
    ("/api/v1/orders?limit=0", "INVALID_LIMIT", "limit is 0"),
    ("/api/v1/orders?limit=101", "INVALID_LIMIT", "limit is 101"),
    (
        "/api/v1/orders?limit=-1",
        "UNKNOWN_OR_INVALID_PARAMETER",
        "limit",
    ),
    (
        "/api/v1/orders?limit=x",
        "UNKNOWN_OR_INVALID_PARAMETER",
        "limit",
    ),
    (
        "/api/v1/orders?colour=red",
        "UNKNOWN_OR_INVALID_PARAMETER",
        "colour",
    ),
    (
        "/api/v1/orders?kind=GIFT",
        "UNKNOWN_OR_INVALID_PARAMETER",
        "kind",
    ),
    ("/api/v1/orders?cursor=zz", "INVALID_CURSOR", "cursor"),
    (
        "/api/v1/orders?cursor=017fffffffffffffff61",
        "INVALID_CURSOR",
        "cursor",
    ),
    ("/api/v1/orders?from=yesterday", "INVALID_TIME", "from"),
    (
        "/api/v1/orders?to=2010-13-01T00:00:00Z",
        "INVALID_TIME",
        "to",
    ),
    ("/api/v1/orders?customer=%00", "INVALID_TEXT", "customer"),
    ("/api/v1/orders/7", "INVALID_ORDER_ID", "order_"),
    (
        "/api/v1/orders/order_01H455VB4PEX5VSKNK084SN02Q",
        "INVALID_ORDER_ID",
        "order_",
    ),
    (
        "/api/v1/customers/17850/orders?limit=1000",
        "INVALID_LIMIT",
        "limit",
    ),
    (
        "/api/v1/customers/17850/orders?cursor=%20",
        "INVALID_CURSOR",
        "cursor",
    ),
    ("/api/v1/customers/%FF/orders", "PATH_INVALID", ""),
    (
        "/api/v1/analytics/series",
        "UNKNOWN_OR_INVALID_PARAMETER",
        "job",
    ),
    (
        "/api/v1/analytics/series?job=x&window=day",
        "UNKNOWN_JOB",
        "\"x\"",
    ),
    (
        "/api/v1/analytics/series?job=revenue_by_country&window=year",
        "UNKNOWN_WINDOW",
        "\"year\"",
    ),
    (
        "/api/v1/analytics/series?job=revenue_by_country&window=day&limit=1001",
        "INVALID_LIMIT",
        "1001",
    ),
    (
        "/api/v1/analytics/series?job=revenue_by_country&window=day&cursor=00",
        "INVALID_CURSOR",
        "cursor",
    ),
    (
        "/api/v1/analytics/series?job=revenue_by_country&window=day&from=now",
        "INVALID_TIME",
        "now",
    ),
];

async fn check(client: &Client, case: Case<'_>) -> Result<()> {
    let (method, path, content_type, body, status, code, detail) = case;
    let shown: String = body.chars().take(80).collect();
    let request = client.request(method.clone(), path);
    let answer = send(request.header("content-type", content_type).body(body)).await;
    let checked = answer.and_then(|answer| answer.problem(status, code));
    let problem = checked.with_context(|| format!("{method} {path} {shown}"))?;
    ensure!(
        says(&problem, detail),
        "{path} {shown}: it does not say {detail:?}: {problem}"
    );
    Ok(())
}

/// Whether the detail, or the member that names a field, holds a text.
fn says(problem: &Value, part: &str) -> bool {
    problem["detail"]
        .as_str()
        .is_some_and(|detail| detail.contains(part))
}

async fn check_headers(client: &Client, product: &Value) -> Result<()> {
    for key in [String::new(), "k".repeat(256), "a\tb".into()] {
        let answer = client.post("/api/v1/products", product, Some(&key)).await?;
        answer
            .problem(400, "IDEMPOTENCY_KEY_INVALID")
            .with_context(|| format!("key {key:?}"))?;
    }
    let price = json!({"price": {"amount": 1, "currency": "GBP"}});
    for if_match in ["1", "*", "\"x\""] {
        let answer = change_price(client, &price, if_match).await?;
        answer
            .problem(400, "IF_MATCH_INVALID")
            .with_context(|| if_match.to_owned())?;
    }
    let problem = change_price(client, &price, "\"7\"")
        .await?
        .problem(412, "VERSION_MISMATCH")?;
    ensure!(
        problem["version"] == 1,
        "the version it has is not told: {problem}"
    );
    let done = change_price(client, &price, "\"1\"").await?;
    ensure!(
        done.expect(201)?.header("etag") == "\"2\"",
        "{:?}",
        done.headers
    );
    Ok(())
}

async fn change_price(client: &Client, price: &Value, if_match: &str) -> Result<Answer> {
    let request = client.request(Method::PUT, "/api/v1/products/GOOD/price");
    send(request.header("if-match", if_match).json(price)).await
}

/// Bad lines among good ones cost only themselves.
async fn check_batch(client: &Client) -> Result<()> {
    let sale = |changes: &[(&str, Value)]| {
        let mut body = json!({"invoice": "1", "country": "EIRE", "currency": "GBP",
            "ordered_at": "2010-12-01T08:26:00Z",
            "lines": [{"sku": "A", "quantity": 1, "unit_price": 1_000_000}]});
        for (pointer, value) in changes {
            match body.pointer_mut(pointer) {
                Some(place) => *place = value.clone(),
                None => body[pointer.trim_start_matches('/')] = value.clone(),
            }
        }
        json!({"key": "sale/1", "command": "ImportSale", "body": body}).to_string()
    };
    let product = |sku: &str| {
        let body = json!({"sku": sku, "description": "a product"});
        json!({"key": sku, "command": "CreateProduct", "body": body}).to_string()
    };
    let (invalid, malformed, field) = ("BODY_INVALID", "BODY_MALFORMED", "FIELD_INVALID");
    let lines: Vec<(String, u16, &str, &str)> = vec![
        (product("B1"), 201, "", ""),
        (String::new(), 400, malformed, "EOF"),
        ("{".into(), 400, malformed, "EOF"),
        ("\u{0}".into(), 400, malformed, "expected value"),
        ("x".repeat(LONG_LINE_BYTES), 413, "LINE_TOO_LONG", "1048576"),
        ("{}".into(), 422, invalid, "key"),
        (
            "{\"key\":\"k\",\"command\":\"Burn\",\"body\":{}}".into(),
            422,
            invalid,
            "Burn",
        ),
        (
            product("B1").replace("\"sku\"", "\"skew\""),
            422,
            invalid,
            "skew",
        ),
        (product(&"B".repeat(65)), 422, field, "sku"),
        (sale(&[("/colour", json!(1))]), 422, invalid, "colour"),
        (
            sale(&[("/lines", json!("none"))]),
            422,
            invalid,
            "a sequence",
        ),
        (
            sale(&[("/lines", json!([]))]),
            422,
            "SALE_WITHOUT_LINES",
            "no lines",
        ),
        (sale(&[("/currency", json!("PND"))]), 422, field, "currency"),
        (
            sale(&[("/ordered_at", json!("12/1/2010 8:26"))]),
            422,
            field,
            "ordered_at",
        ),
        (
            sale(&[("/country", json!("x".repeat(65)))]),
            422,
            field,
            "country",
        ),
        (
            sale(&[("/lines/0/quantity", json!(1.5))]),
            422,
            invalid,
            "i64",
        ),
        (
            sale(&[("/lines/0/quantity", json!(1e30))]),
            422,
            invalid,
            "i64",
        ),
        (
            sale(&[("/lines/0/quantity", json!(i64::MAX))]),
            422,
            field,
            "lines[0].quantity",
        ),
        (
            sale(&[("/lines/0/unit_price", json!(i64::MIN))]),
            422,
            field,
            "lines[0].unit_price",
        ),
        (product("B2"), 201, "", ""),
    ];
    let body: Vec<&str> = lines.iter().map(|(line, ..)| line.as_str()).collect();
    let answers = client.post_lines(body.join("\n")).await?;
    ensure!(answers.len() == lines.len(), "{} answers", answers.len());
    for (index, (answer, (line, status, code, detail))) in answers.iter().zip(&lines).enumerate() {
        let shown: String = line.chars().take(80).collect();
        ensure!(answer["line"] == index + 1, "line {}: {answer}", index + 1);
        if *status < 300 {
            ensure!(answer["status"] == *status, "{shown}: {answer}");
            continue;
        }
        check_problem(answer, *status, code).with_context(|| shown.clone())?;
        ensure!(
            says(answer, detail),
            "{shown}: it does not say {detail:?}: {answer}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_command_twice_gets_the_same_answer() -> Result<()> {
    let world = World::wiped("retries").await?;
    let daybook = world.serve().await?;
    let product = json!({"sku": "A", "description": "a product"});
    let first = daybook
        .client()
        .post("/api/v1/products", &product, Some("k"))
        .await?;
    first.expect(201)?;
    ensure!(
        first.header("idempotent-replayed").is_empty(),
        "{:?}",
        first.headers
    );
    let other = json!({"sku": "A", "description": "another"});
    let refused = daybook
        .client()
        .post("/api/v1/products", &other, Some("refused"))
        .await?;
    refused.problem(409, "PRODUCT_EXISTS")?;
    check_retries(daybook.client(), &first, &refused).await?;

    daybook.kill().await?;
    let daybook = world.serve().await?;
    check_retries(daybook.client(), &first, &refused)
        .await
        .context("after a restart")?;
    let client = daybook.client();
    client
        .post("/api/v1/products", &product, Some("another"))
        .await?
        .expect(200)?;
    let decisions = audit_log::decisions(&world, &["--event", "ProductCreated"]).await?;
    ensure!(decisions.len() == 1, "{decisions:?}");
    audit_log::verify(&world).await.map(drop)
}

async fn check_retries(client: &Client, first: &Answer, refused: &Answer) -> Result<()> {
    let product = json!({"sku": "A", "description": "a product"});
    let other = json!({"sku": "A", "description": "another"});
    let again = client.post("/api/v1/products", &product, Some("k")).await?;
    again.expect(201)?;
    ensure!(
        again.header("idempotent-replayed") == "true",
        "{:?}",
        again.headers
    );
    ensure!(
        again.text == first.text,
        "{} is not {}",
        again.text,
        first.text
    );
    for name in ["etag", "daybook-position"] {
        let (now, then) = (again.header(name), first.header(name));
        ensure!(
            !now.is_empty() && now == then,
            "{name}: {now:?}, before {then:?}"
        );
    }
    let stolen = client.post("/api/v1/products", &other, Some("k")).await?;
    stolen.problem(422, "IDEMPOTENCY_KEY_REUSED")?;
    let again = client
        .post("/api/v1/products", &other, Some("refused"))
        .await?;
    let problem = again.problem(409, "PRODUCT_EXISTS")?;
    ensure!(problem["replayed"] == true, "{problem}");
    ensure!(
        problem["detail"] == refused.json()?["detail"],
        "{problem} is not {}",
        refused.text
    );
    Ok(())
}
