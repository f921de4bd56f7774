//! The query over HTTP, without a server.

use super::*;
use axum::{body::Body, http::Request, http::header, response::Response};
use proptest::prelude::*;
use schemas::orders::{Event, OrderEvent, SaleImported};
use serde_json::{Value, json};
use std::path::PathBuf;
use tower::ServiceExt;

const WAIT_MAX: Duration = Duration::from_secs(2);
const DAYS: &str = "job=revenue_by_country&window=day";

/// A series of sales in pounds: time, country, total.
fn series_of(sales: &[(&str, &str, i64)]) -> Series {
    let series = Series::default();
    for (time, country, total) in sales {
        take_sale(&series, time, country, Currency::GBP, *total);
    }
    series.caught_up();
    series
}

fn take_sale(series: &Series, time: &str, country: &str, currency: Currency, total: i64) {
    let sale = SaleImported {
        invoice: "536365".into(),
        customer: None,
        country: country.into(),
        ordered_at: Timestamp::parse(time).unwrap(),
        currency,
        lines: Vec::new(),
        total,
    };
    series
        .update(|windows| windows.apply(&Event::Order(OrderEvent::SaleImported(sale))))
        .unwrap();
}

async fn response(series: &Series, query: &str) -> Response {
    let (router, _) = routes(series.clone(), WAIT_MAX).split_for_parts();
    let request = Request::get(format!("/analytics/series?{query}"));
    router
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap()
}

async fn ask(series: &Series, query: &str) -> (u16, Value) {
    let response = response(series, query).await;
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await;
    (status, serde_json::from_slice(&body.unwrap()).unwrap())
}

#[tokio::test]
async fn the_answer_has_the_windows_in_order() {
    let series = series_of(&[
        ("2010-12-02T09:00:00Z", "EIRE", 4),
        ("2010-12-01T08:26:00Z", "France", 250),
        ("2010-12-01T09:26:00Z", "France", -50),
    ]);
    let (status, body) = ask(&series, &format!("{DAYS}&country=France")).await;
    assert_eq!(status, 200);
    assert_eq!(
        body,
        json!({"job": "revenue_by_country", "window": "day", "next_cursor": null, "series": [{
            "window_start": "2010-12-01T00:00:00Z", "window_end": "2010-12-02T00:00:00Z",
            "country": "France", "currency": "GBP", "orders": 2, "credit_notes": 0, "lines": 0,
            "revenue": {"amount": 200, "currency": "GBP"}}]})
    );
    let cut = "from=2010-12-02T00:00:00Z&to=2010-12-03T00:00:00Z";
    let (_, body) = ask(&series, &format!("{DAYS}&{cut}")).await;
    assert_eq!(body["series"][0]["country"], "EIRE");
    assert_eq!(body["series"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn pages_join_without_gaps_or_overlaps() {
    let series = series_of(&[
        ("2010-12-01T08:00:00Z", "France", 1),
        ("2010-12-01T08:00:00Z", "EIRE", 2),
        ("2010-12-01T10:00:00Z", "France", 3),
    ]);
    let hours = "job=revenue_by_country&window=hour&limit=2";
    let (_, first) = ask(&series, hours).await;
    let cursor = first["next_cursor"].as_str().unwrap();
    let (_, second) = ask(&series, &format!("{hours}&cursor={cursor}")).await;
    assert_eq!(second["next_cursor"], Value::Null);
    let pages = [first, second];
    let revenues: Vec<_> = pages
        .iter()
        .flat_map(|page| page["series"].as_array().unwrap())
        .map(|window| window["revenue"]["amount"].as_i64().unwrap())
        .collect();
    assert_eq!(revenues, [2, 1, 3]);
}

#[tokio::test]
async fn a_cursor_is_accepted_only_with_the_filters_of_its_page() {
    let sales = ["France", "EIRE"].map(|country| ("2010-12-01T08:00:00Z", country, 1));
    let series = series_of(&sales);
    let (_, page) = ask(&series, &format!("{DAYS}&limit=1")).await;
    let cursor = page["next_cursor"].as_str().unwrap();
    for (query, status) in [
        (DAYS.to_owned(), 200),
        ("job=revenue_by_country&window=hour".to_owned(), 400),
        (format!("{DAYS}&country=France"), 400),
        (format!("{DAYS}&from=2010-12-01T00:00:00Z"), 400),
        (format!("{DAYS}&to=2010-12-02T00:00:00Z"), 400),
    ] {
        let (found, body) = ask(&series, &format!("{query}&cursor={cursor}")).await;
        assert_eq!(found, status, "{query}: {body}");
    }
}

#[tokio::test]
async fn currencies_have_windows_of_their_own() {
    let series = series_of(&[("2010-12-01T08:00:00Z", "France", 1)]);
    for (code, total) in [("JPY", 4), ("EUR", 2)] {
        let currency = Currency::parse(code).unwrap();
        take_sale(&series, "2010-12-01T09:00:00Z", "France", currency, total);
    }
    let (mut query, mut found) = (format!("{DAYS}&limit=1"), Vec::new());
    for _ in 0..3 {
        let (_, body) = ask(&series, &query).await;
        let window = &body["series"][0];
        assert_eq!(window["currency"], window["revenue"]["currency"]);
        found.push(window["revenue"].clone());
        if let Some(cursor) = body["next_cursor"].as_str() {
            query = format!("{DAYS}&limit=1&cursor={cursor}");
        }
    }
    let revenue = |amount: i64, currency: &str| json!({"amount": amount, "currency": currency});
    assert_eq!(
        found,
        [revenue(2, "EUR"), revenue(1, "GBP"), revenue(4, "JPY")]
    );
}

#[tokio::test]
async fn an_invalid_query_gets_the_code_of_its_error() {
    let series = series_of(&[]);
    let days = list(&Selection {
        window: Window::Day,
        country: None,
        from: None,
        to: None,
        after: None,
        count_max: 0,
    });
    let cursor_of = |plain: &str| format!("{DAYS}&cursor={days}{}", hex::encode(plain));
    assert_eq!(ask(&series, &cursor_of("7/EIRE/GBP")).await.0, 200);
    for (query, code) in [
        ("job=revenue&window=day", "UNKNOWN_JOB"),
        ("job=revenue_by_country&window=minute", "UNKNOWN_WINDOW"),
        (&format!("{DAYS}&from=yesterday"), "INVALID_TIME"),
        (&format!("{DAYS}&to=2010-13-01T00:00:00Z"), "INVALID_TIME"),
        (&format!("{DAYS}&limit=0"), "INVALID_LIMIT"),
        (&format!("{DAYS}&limit=101"), "INVALID_LIMIT"),
        (&format!("{DAYS}&limit=-1"), "UNKNOWN_OR_INVALID_PARAMETER"),
        (&format!("{DAYS}&cursor=abc"), "INVALID_CURSOR"),
        (&format!("{DAYS}&cursor=ff2f"), "INVALID_CURSOR"),
        (&cursor_of("7/EIRE"), "INVALID_CURSOR"),
        (&cursor_of("7/EIRE/"), "INVALID_CURSOR"),
        (&cursor_of("7/EIRE/PND"), "INVALID_CURSOR"),
        (&cursor_of("x/EIRE/GBP"), "INVALID_CURSOR"),
        (&format!("{DAYS}&shop=1"), "UNKNOWN_OR_INVALID_PARAMETER"),
        ("window=day", "UNKNOWN_OR_INVALID_PARAMETER"),
    ] {
        let (status, body) = ask(&series, query).await;
        assert_eq!((status, &body["code"]), (400, &json!(code)), "{query}");
    }
}

#[tokio::test]
async fn the_query_is_unavailable_until_the_history_is_read_and_after_a_stop() {
    let series = Series::default();
    let answer = response(&series, DAYS).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_ne!(answer.headers().get(header::RETRY_AFTER), None);
    let (_, body) = ask(&series, DAYS).await;
    assert_eq!(body["code"], "JOB_NOT_READY");
    series.caught_up();
    assert_eq!(ask(&series, DAYS).await.0, 200);
    series.stop("journal.orders/1@7: an overflow".into());
    let (status, body) = ask(&series, DAYS).await;
    assert_eq!((status, &body["code"]), (503, &json!("JOB_STOPPED")));
    assert!(
        body["detail"].as_str().unwrap().contains("@7"),
        "no \"@7\" in the detail of {body}"
    );
}

#[tokio::test]
async fn the_layout_of_cursors_is_the_golden_one() {
    let sales = ["France", "EIRE"].map(|country| ("2010-12-01T08:00:00Z", country, 1));
    let series = series_of(&sales);
    let query = format!("{DAYS}&limit=1&from=2010-11-01T00:00:00Z");
    let (_, page) = ask(&series, &query).await;
    let cursor = page["next_cursor"].as_str().unwrap();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("golden/cursors")
        .join(format!("v{LAYOUT}"))
        .join("series.hex");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("{cursor}\n")).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    assert_eq!(
        golden.trim(),
        cursor,
        "{path:?} differs: cursors that clients hold become invalid"
    );
    let (_, next) = ask(&series, &format!("{query}&cursor={}", golden.trim())).await;
    assert_eq!(next["series"][0]["country"], "France");
    let other_layout = cursor.replacen("01", "02", 1);
    let (status, body) = ask(&series, &format!("{query}&cursor={other_layout}")).await;
    assert_eq!((status, &body["code"]), (400, &json!("INVALID_CURSOR")));
}

proptest! {
    #[test]
    fn any_cursor_is_parsed_without_a_panic(bytes in any::<Vec<u8>>(), text in any::<String>()) {
        let _ = cursor(&hex::encode(bytes));
        let _ = cursor(&text);
    }

    #[test]
    fn a_cursor_contains_its_window(
        start in any::<i64>(),
        country in any::<String>(),
        code in prop::sample::select(vec!["EUR", "GBP", "JPY"]),
    ) {
        let currency = Currency::parse(code).unwrap();
        let result = RevenueByCountry {
            window_start: Timestamp(start),
            window_end: Timestamp(start),
            country: country.clone(),
            currency,
            orders: 0,
            credit_notes: 0,
            lines: 0,
            revenue: 0,
        };
        let found = cursor(&cursor_after(&result));
        prop_assert_eq!(found, Ok((Timestamp(start), country, currency)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_query_waits_until_the_windows_have_its_position() {
    let series = series_of(&[]);
    let applied = series.applied().clone();
    applied.publish(JOB, [("journal.orders", 0, 5)], []);
    let waiting = {
        let series = series.clone();
        tokio::spawn(async move { response_at(&series, "journal.orders/0@5").await })
    };
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "the position is not applied yet");
    applied.set(JOB, "journal.orders", 0, 6);
    let response = waiting.await.unwrap();
    assert_eq!((response.status().as_u16(), stale(&response)), (200, false));

    let response = response_at(&series, "journal.orders/0@6").await;
    assert_eq!((response.status().as_u16(), stale(&response)), (200, true));
    assert_eq!(response.headers()["daybook-lag"], "journal.orders/0=1");
}

async fn response_at(series: &Series, position: &str) -> Response {
    let (router, _) = routes(series.clone(), WAIT_MAX).split_for_parts();
    let request = Request::get(format!("/analytics/series?{DAYS}"));
    let request = request.header("daybook-position", position);
    router
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap()
}

fn stale(response: &Response) -> bool {
    response.headers().contains_key("daybook-stale")
}
