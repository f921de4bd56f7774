//! The HTTP interface after an import: lists with every filter, one order, one customer's history,
//! the series, and the pages for people and machines.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};
use system_tests::{
    Client, Daybook, Expectation,
    expectation::{Group, Windows},
    http::send,
    ledgers::compare_windows,
};

/// More pages than any list here has.
const PAGES_MAX: usize = 400;

/// All of it.
pub async fn check(daybook: &Daybook, expectation: &Expectation) -> Result<()> {
    let client = daybook.client();
    check_orders(client, expectation)
        .await
        .context("GET /api/v1/orders")?;
    check_history(client, expectation)
        .await
        .context("GET /api/v1/customers/{id}/orders")?;
    check_series(client, expectation)
        .await
        .context("GET /api/v1/analytics/series")?;
    check_pages(client).await
}

/// Each filter gives what it says, and only that, newest first.
async fn check_orders(client: &Client, expectation: &Expectation) -> Result<()> {
    let country = "France";
    let expected = expectation.countries.get(country).context("no France")?;
    let french = pages(
        client,
        &format!("/api/v1/orders?country={country}"),
        "orders",
        100,
    )
    .await?;
    check_list(&french, expected, |order| order["country"] == country)?;

    let customer = "17850";
    let expected = expectation
        .customers
        .get(customer)
        .context("no customer 17850")?;
    let theirs = format!("/api/v1/orders?customer={customer}");
    let theirs = pages(client, &theirs, "orders", 7).await?;
    check_list(&theirs, expected, |order| order["customer"] == customer)?;

    let expected = expectation.days.get("2010-12-01").context("no first day")?;
    let day = "/api/v1/orders?from=2010-12-01T00:00:00Z&to=2010-12-02T00:00:00Z";
    let day = pages(client, day, "orders", 100).await?;
    let on_day = |time: &Value| {
        time.as_str()
            .is_some_and(|time| time.starts_with("2010-12-01"))
    };
    check_list(&day, expected, |order| on_day(&order["ordered_at"]))?;

    let notes = pages(client, "/api/v1/orders?kind=CREDIT_NOTE", "orders", 100).await?;
    ensure!(
        i64::try_from(notes.len())? == expectation.totals.credit_notes,
        "{}",
        notes.len()
    );
    ensure!(
        notes.iter().all(|note| note["kind"] == "CREDIT_NOTE"),
        "a sale among credit notes"
    );

    let both = "/api/v1/orders?country=France&kind=SALE&from=2011-01-01T00:00:00Z";
    let both = pages(client, both, "orders", 100).await?;
    let expected = french.iter().filter(|order| {
        order["kind"] == "SALE" && order["ordered_at"].as_str() >= Some("2011-01-01T00:00:00Z")
    });
    ensure!(
        both.iter().eq(expected),
        "several filters together give something else"
    );
    for order in french.iter().take(5).chain(theirs.iter().take(5)) {
        check_order(client, order).await?;
    }
    Ok(())
}

/// One order's lines, and what they add up to.
async fn check_order(client: &Client, summary: &Value) -> Result<()> {
    let id = summary["id"].as_str().context("an order without an id")?;
    let order = client.get_json(&format!("/api/v1/orders/{id}")).await?;
    for (name, value) in summary.as_object().context("an order is no object")? {
        ensure!(
            order[name] == *value,
            "{id}: {name} is {} or {value}",
            order[name]
        );
    }
    let lines = order["lines"].as_array().context("no lines")?;
    ensure!(
        order["line_count"] == lines.len(),
        "{id}: {} lines",
        lines.len()
    );
    let mut total = 0;
    for line in lines {
        let number = |name: &str| line[name].as_i64().with_context(|| format!("{id}: {line}"));
        let product = number("quantity")? * number("unit_price_millionths")?;
        let amount = line["amount"]["amount"].as_i64().context("no amount")?;
        ensure!(amount == half_even(product, 10_000), "{id}: {line}");
        total += amount;
    }
    ensure!(
        order["total"]["amount"] == total,
        "{id}: the lines add up to {total}"
    );
    Ok(())
}

/// `number / divisor` as a whole number, a half to the even one; `divisor` is above zero and even.
fn half_even(number: i64, divisor: i64) -> i64 {
    let (quotient, rest) = (number.div_euclid(divisor), number.rem_euclid(divisor));
    let half = divisor / 2;
    let up = rest > half || (rest == half && quotient % 2 != 0);
    quotient + i64::from(up)
}

async fn check_history(client: &Client, expectation: &Expectation) -> Result<()> {
    for customer in ["17850", "14911"] {
        let expected = expectation.customers.get(customer).context(customer)?;
        let path = format!("/api/v1/customers/{customer}/orders");
        let history = pages(client, &path, "orders", 100).await?;
        check_list(&history, expected, |order| order["customer"] == customer)?;
        let path = format!("/api/v1/orders?customer={customer}");
        let listed = pages(client, &path, "orders", 100).await?;
        ensure!(
            history == listed,
            "{customer}: both views must show the same"
        );
    }
    let nobody = pages(client, "/api/v1/customers/nobody/orders", "orders", 100).await?;
    ensure!(nobody.is_empty(), "nobody has {} orders", nobody.len());
    Ok(())
}

async fn check_series(client: &Client, expectation: &Expectation) -> Result<()> {
    for size in ["day", "hour"] {
        let path = format!("/api/v1/analytics/series?job=revenue_by_country&window={size}");
        let found = windows(&pages(client, &path, "series", 1_000).await?)?;
        compare_windows(&path, &found, expectation.windows(size)?)?;
    }
    let path = "/api/v1/analytics/series?job=revenue_by_country&window=day&country=France\
                &from=2011-01-01T00:00:00Z&to=2011-02-01T00:00:00Z";
    let found = windows(&pages(client, path, "series", 10).await?)?;
    let mut expected = expectation.windows("day")?.clone();
    expected.retain(|start, countries| {
        countries.retain(|country, _| country == "France");
        start.starts_with("2011-01") && !countries.is_empty()
    });
    compare_windows(path, &found, &expected)
}

fn windows(series: &[Value]) -> Result<Windows> {
    let mut windows = Windows::new();
    for value in series {
        let number = |value: &Value| value.as_i64().with_context(|| format!("a window: {value}"));
        let text = |name: &str| {
            value[name]
                .as_str()
                .context("a window's text")
                .map(str::to_owned)
        };
        let group = Group {
            invoices: number(&value["orders"])? + number(&value["credit_notes"])?,
            lines: number(&value["lines"])?,
            total_minor: number(&value["revenue"]["amount"])?,
        };
        let window = windows.entry(text("window_start")?).or_default();
        ensure!(
            window.insert(text("country")?, group).is_none(),
            "a window twice: {value}"
        );
    }
    Ok(windows)
}

/// A list without doubles, newest first, that matches and adds up to what is expected.
fn check_list(orders: &[Value], expected: &Group, matches: impl Fn(&Value) -> bool) -> Result<()> {
    ensure!(
        i64::try_from(orders.len())? == expected.invoices,
        "{} orders",
        orders.len()
    );
    let stranger = orders.iter().find(|order| !matches(order));
    ensure!(stranger.is_none(), "it does not match: {stranger:?}");
    let ids: HashSet<&str> = orders
        .iter()
        .filter_map(|order| order["id"].as_str())
        .collect();
    ensure!(ids.len() == orders.len(), "an order twice");
    let times = orders.iter().map(|order| order["ordered_at"].as_str());
    ensure!(
        times.is_sorted_by(|newer, older| newer >= older),
        "not newest first"
    );
    let total: Option<i64> = orders
        .iter()
        .map(|order| order["total"]["amount"].as_i64())
        .sum();
    ensure!(
        total == Some(expected.total_minor),
        "they add up to {total:?}"
    );
    Ok(())
}

/// Walks a list from page to page; `member` holds a page's rows.
async fn pages(client: &Client, path: &str, member: &str, limit: usize) -> Result<Vec<Value>> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    for _ in 0..PAGES_MAX {
        let joint = if path.contains('?') { '&' } else { '?' };
        let page = client
            .get_json(&format!("{path}{joint}limit={limit}{cursor}"))
            .await?;
        let rows = page[member]
            .as_array()
            .with_context(|| format!("no {member}: {page}"))?;
        ensure!(
            rows.len() <= limit,
            "{} rows on a page of {limit}",
            rows.len()
        );
        all.extend_from_slice(rows);
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(all),
        }
    }
    anyhow::bail!("{path} has more than {PAGES_MAX} pages")
}

/// The description for machines and people, the metrics, and the request's id.
async fn check_pages(client: &Client) -> Result<()> {
    let document = client.get_json("/openapi.json").await?;
    let paths = document["paths"].as_object().context("no paths")?;
    let paths: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
    let expected = BTreeSet::from([
        "/api/v1/admin/commands",
        "/api/v1/admin/progress",
        "/api/v1/analytics/series",
        "/api/v1/customers/{id}/orders",
        "/api/v1/orders",
        "/api/v1/orders/{id}",
        "/api/v1/products",
        "/api/v1/products/{sku}/price",
        "/health/live",
        "/health/ready",
    ]);
    ensure!(
        paths.is_superset(&expected),
        "openapi.json lacks some: {paths:?}"
    );
    let docs = client.get("/docs").await?;
    ensure!(
        docs.expect(200)?.text.contains("swagger-ui"),
        "/docs: {}",
        docs.text
    );
    for metric in [
        "daybook_commands_answered_total",
        "daybook_http_requests_total",
    ] {
        ensure!(
            client.metric(metric).await? > 0.0,
            "/metrics has no {metric}"
        );
    }
    let request = client.request(reqwest::Method::GET, "/health/live");
    let answer = send(request.header("x-request-id", "of-the-client")).await?;
    ensure!(
        answer.header("x-request-id") == "of-the-client",
        "{:?}",
        answer.headers
    );
    let answer = client.get("/health/live").await?;
    ensure!(
        !answer.header("x-request-id").is_empty(),
        "{:?}",
        answer.headers
    );
    Ok(())
}
