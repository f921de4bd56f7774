//! The HTTP interface after an import: lists with every filter, one order, one customer's history, the
//! series, and the pages for operators and developers.

use crate::import::imported;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};
use system_tests::{
    Client, expect_eq,
    expectation::{Group, Windows},
    http::send,
    totals_by_source::compare_windows,
};

/// Maximum number of pages of a list. Every list here has fewer.
const PAGES_MAX: usize = 400;

pub async fn the_list_of_a_country_has_its_orders_newest_first() -> Result<()> {
    let imported = imported().await?;
    let countries = &imported.expectation.countries;
    let expected = countries.get("France").context("no France")?;
    let french = orders(imported.node.client(), "country=France").await?;
    check_list(&french, expected, |order| order["country"] == "France")
}

pub async fn the_list_of_a_customer_has_its_orders_newest_first() -> Result<()> {
    let imported = imported().await?;
    let customer = "17850";
    let customers = &imported.expectation.customers;
    let expected = customers.get(customer).context(customer)?;
    let path = format!("/api/v1/orders?customer={customer}");
    let of_customer = pages(imported.node.client(), &path, "orders", 7).await?;
    check_list(&of_customer, expected, |order| {
        order["customer"] == customer
    })
}

pub async fn the_list_of_a_day_has_its_orders_newest_first() -> Result<()> {
    let imported = imported().await?;
    let (day, next_day) = ("2010-12-01", "2010-12-02");
    let expected = imported.expectation.days.get(day).context(day)?;
    let filter = format!("from={day}T00:00:00Z&to={next_day}T00:00:00Z");
    let of_day = orders(imported.node.client(), &filter).await?;
    check_list(&of_day, expected, |order| {
        let time = order["ordered_at"].as_str();
        time.is_some_and(|time| time.starts_with(day))
    })
}

pub async fn the_list_of_credit_notes_has_every_credit_note_and_no_sale() -> Result<()> {
    let imported = imported().await?;
    let credit_notes = orders(imported.node.client(), "kind=CREDIT_NOTE").await?;
    let found = i64::try_from(credit_notes.len())?;
    let expected = imported.expectation.totals.credit_notes;
    expect_eq("credit notes", &found, &expected)?;
    let sale = credit_notes
        .iter()
        .find(|note| note["kind"] != "CREDIT_NOTE");
    ensure!(sale.is_none(), "among credit notes: {sale:?}");
    Ok(())
}

pub async fn a_list_with_several_filters_has_the_orders_that_match_all() -> Result<()> {
    let imported = imported().await?;
    let client = imported.node.client();
    let french = orders(client, "country=France").await?;
    let begin = "2011-01-01T00:00:00Z";
    let filter = format!("country=France&kind=SALE&from={begin}");
    let filtered = orders(client, &filter).await?;
    let expected = french
        .iter()
        .filter(|order| order["kind"] == "SALE" && order["ordered_at"].as_str() >= Some(begin));
    let expected: Vec<Value> = expected.cloned().collect();
    check_same(&filter, &filtered, &expected)
}

pub async fn an_order_has_its_lines_and_their_sum() -> Result<()> {
    let imported = imported().await?;
    let client = imported.node.client();
    let path = "/api/v1/orders?country=France&limit=10";
    let page = client.get_json(path).await?;
    let summaries = page["orders"].as_array().context("no orders")?;
    ensure!(!summaries.is_empty(), "no orders: {page}");
    for summary in summaries {
        check_order(client, summary).await?;
    }
    Ok(())
}

pub async fn the_history_of_a_customer_has_all_its_orders() -> Result<()> {
    let imported = imported().await?;
    let client = imported.node.client();
    for customer in ["17850", "14911"] {
        let expected = imported.expectation.customers.get(customer);
        let path = format!("/api/v1/customers/{customer}/orders");
        let history = pages(client, &path, "orders", 100).await?;
        check_list(&history, expected.context(customer)?, |order| {
            order["customer"] == customer
        })?;
        let listed = orders(client, &format!("customer={customer}")).await?;
        check_same(&path, &history, &listed)?;
    }
    Ok(())
}

pub async fn the_history_of_an_unknown_customer_is_empty() -> Result<()> {
    let imported = imported().await?;
    let path = "/api/v1/customers/unknown/orders";
    let found = pages(imported.node.client(), path, "orders", 100).await?;
    expect_eq(path, &found, &Vec::new())
}

pub async fn a_series_has_every_window() -> Result<()> {
    let imported = imported().await?;
    let (client, expectation) = (imported.node.client(), &imported.expectation);
    for size in ["day", "hour"] {
        let path = format!("/api/v1/analytics/series?job=revenue_by_country&window={size}");
        let found = windows(&pages(client, &path, "series", 100).await?)?;
        compare_windows(&path, &found, expectation.windows(size)?)?;
    }
    Ok(())
}

pub async fn a_filtered_series_has_the_matching_windows() -> Result<()> {
    let imported = imported().await?;
    let (client, expectation) = (imported.node.client(), &imported.expectation);
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

pub async fn the_openapi_document_has_every_path() -> Result<()> {
    let imported = imported().await?;
    let client = imported.node.client();
    let document = client.get_json("/openapi.json").await?;
    let paths = document["paths"].as_object().context("no paths")?;
    let paths: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
    let expected = BTreeSet::from([
        "/api/v1/admin/commands",
        "/api/v1/admin/progress",
        "/api/v1/analytics/series",
        "/api/v1/countries",
        "/api/v1/customers",
        "/api/v1/customers/{id}",
        "/api/v1/customers/{id}/events",
        "/api/v1/customers/{id}/orders",
        "/api/v1/orders",
        "/api/v1/orders/{id}",
        "/api/v1/orders/{id}/events",
        "/api/v1/orders/{id}/timeline",
        "/api/v1/products",
        "/api/v1/products/suggestions",
        "/api/v1/products/{sku}",
        "/api/v1/products/{sku}/price",
        "/health/live",
        "/health/ready",
    ]);
    let missing: Vec<&&str> = expected.difference(&paths).collect();
    ensure!(missing.is_empty(), "missing: {missing:?}; found: {paths:?}");
    Ok(())
}

pub async fn the_openapi_document_has_the_headers_of_positions() -> Result<()> {
    let imported = imported().await?;
    let document = imported.node.client().get_json("/openapi.json").await?;
    for path in [
        "/api/v1/orders",
        "/api/v1/customers/{id}/orders",
        "/api/v1/analytics/series",
    ] {
        let query = &document["paths"][path]["get"];
        let parameters = query["parameters"].as_array().context("no parameters")?;
        let mut headers = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "header");
        ensure!(
            headers.any(|header| header["name"] == "Daybook-Position"),
            "{path}: no Daybook-Position among the parameters: {query}"
        );
        let headers = &query["responses"]["200"]["headers"];
        ensure!(
            headers["Daybook-Stale"].is_object(),
            "{path}: no Daybook-Stale among the headers of the answer: {query}"
        );
    }
    Ok(())
}

pub async fn the_page_with_the_documentation_is_served() -> Result<()> {
    let imported = imported().await?;
    let docs = imported.node.client().get("/docs").await?;
    ensure!(
        docs.expect(200)?.text.contains("swagger-ui"),
        "no swagger-ui in /docs: {}",
        docs.text
    );
    Ok(())
}

pub async fn a_conditional_get_of_an_unchanged_resource_returns_304() -> Result<()> {
    let imported = imported().await?;
    let client = imported.node.client();
    let series = "/api/v1/analytics/series?job=revenue_by_country&window=day&limit=10";
    let page = client.get_json("/api/v1/orders?limit=1").await?;
    let id = page["orders"][0]["id"].as_str().context("no order")?;
    let order = format!("/api/v1/orders/{id}");
    for path in [
        "/api/v1/orders?country=France",
        &order,
        "/api/v1/customers/17850/orders",
        series,
    ] {
        let first = client.get(path).await?;
        let tag = first.expect(200)?.header("etag").to_owned();
        ensure!(tag.len() > 2, "{path} has no tag: {:?}", first.headers);
        let request = client.request(reqwest::Method::GET, path);
        let again = send(request.header("if-none-match", &tag)).await?;
        let found = (again.expect(304)?.header("etag"), again.text.as_str());
        expect_eq(path, &found, &(tag.as_str(), ""))?;
    }
    Ok(())
}

pub async fn the_tag_of_an_order_is_its_version() -> Result<()> {
    let imported = imported().await?;
    let client = imported.node.client();
    let page = client.get_json("/api/v1/orders?limit=1").await?;
    let id = page["orders"][0]["id"].as_str().context("no order")?;
    let order = client.get(&format!("/api/v1/orders/{id}")).await?;
    expect_eq("ETag", &order.expect(200)?.header("etag"), &"\"1\"")
}

pub async fn metrics_are_served() -> Result<()> {
    let imported = imported().await?;
    let client = imported.node.client();
    for metric in [
        "daybook_commands_answered_total",
        "daybook_http_requests_total",
    ] {
        let value = client.metric(metric).await?;
        ensure!(value > 0.0, "{metric} is {value} instead of above 0");
    }
    Ok(())
}

pub async fn an_answer_has_the_request_id_of_the_client_or_a_new_one() -> Result<()> {
    let imported = imported().await?;
    let client = imported.node.client();
    let request = client.request(reqwest::Method::GET, "/health/live");
    let answer = send(request.header("x-request-id", "of-the-client")).await?;
    let id = answer.header("x-request-id");
    expect_eq("X-Request-Id", &id, &"of-the-client")?;
    let answer = client.get("/health/live").await?;
    let id = answer.header("x-request-id");
    ensure!(!id.is_empty(), "no request id: {:?}", answer.headers);
    Ok(())
}

/// All orders that match a filter.
async fn orders(client: &Client, filter: &str) -> Result<Vec<Value>> {
    let path = format!("/api/v1/orders?{filter}");
    pages(client, &path, "orders", 100).await
}

/// Compares one order with its summary in a list, and its total with its lines.
async fn check_order(client: &Client, summary: &Value) -> Result<()> {
    let id = summary["id"].as_str().context("an order without an id")?;
    let order = client.get_json(&format!("/api/v1/orders/{id}")).await?;
    for (name, value) in summary.as_object().context("an order is not an object")? {
        ensure!(
            order[name] == *value,
            "{id}: {name} is {} instead of {value}",
            order[name]
        );
    }
    let lines = order["lines"].as_array().context("no lines")?;
    ensure!(
        order["line_count"] == lines.len(),
        "{id}: {} instead of {} lines",
        order["line_count"],
        lines.len()
    );
    let mut total = 0;
    for line in lines {
        let number = |name: &str| line[name].as_i64().with_context(|| format!("{id}: {line}"));
        let product = number("quantity")? * number("unit_price_millionths")?;
        let amount = line["amount"]["amount"].as_i64().context("no amount")?;
        let expected = half_even(product, 10_000);
        ensure!(
            amount == expected,
            "{id}: the amount is not {expected}: {line}"
        );
        total += amount;
    }
    ensure!(
        order["total"]["amount"] == total,
        "{id}: {} instead of {total}, the sum of its lines",
        order["total"]
    );
    Ok(())
}

/// `number / divisor` rounded to an integer, halves to the even one. `divisor` is positive and even.
fn half_even(number: i64, divisor: i64) -> i64 {
    let (quotient, rest) = (number.div_euclid(divisor), number.rem_euclid(divisor));
    let half = divisor / 2;
    let up = rest > half || (rest == half && quotient % 2 != 0);
    quotient + i64::from(up)
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
            "this window is in the series twice: {value}"
        );
    }
    Ok(windows)
}

/// Compares two lists of orders; the error has the first difference only, because whole lists are long.
fn check_same(what: &str, found: &[Value], expected: &[Value]) -> Result<()> {
    for (found, expected) in found.iter().zip(expected) {
        expect_eq(what, found, expected)?;
    }
    expect_eq(&format!("orders of {what}"), &found.len(), &expected.len())
}

/// Checks that a list has the expected orders, each once, newest first.
fn check_list(orders: &[Value], expected: &Group, matches: impl Fn(&Value) -> bool) -> Result<()> {
    let found = i64::try_from(orders.len())?;
    expect_eq("orders", &found, &expected.invoices)?;
    let other = orders.iter().find(|order| !matches(order));
    ensure!(other.is_none(), "it does not match: {other:?}");
    let ids: HashSet<&str> = orders
        .iter()
        .filter_map(|order| order["id"].as_str())
        .collect();
    ensure!(
        ids.len() == orders.len(),
        "{} orders have {} ids",
        orders.len(),
        ids.len()
    );
    let times = orders.iter().map(|order| order["ordered_at"].as_str());
    ensure!(
        times.clone().is_sorted_by(|newer, older| newer >= older),
        "not newest first: {:?}",
        times.collect::<Vec<_>>()
    );
    let total: Option<i64> = orders
        .iter()
        .map(|order| order["total"]["amount"].as_i64())
        .sum();
    expect_eq("the total", &total, &Some(expected.total_minor))
}

/// All rows of a list, page by page; `member` has the rows of a page.
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
            "{} rows on a page instead of at most {limit}",
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
