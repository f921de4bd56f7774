//! The query of an order's timeline.

use crate::{
    backends::{BothBackends, run},
    log::{apply_batch, batch, commit, open},
    queries::{assert_problem, get, id, sale, serve},
};
use projections::{Databases, cql::CqlStore, views::order_timeline_v1::OrderTimeline};
use schemas::orders::{Event, OrderEvent, SaleImported};
use serde_json::{Value, json};

/// Applies an order with this number of events. The total after each event is 100 times the event's version.
async fn apply(databases: &Databases, events: i64) {
    let event = |version: i64| {
        let sale = SaleImported {
            total: version * 100,
            ..sale(1)
        };
        let event = Event::Order(OrderEvent::SaleImported(sale));
        commit(version - 1, &id(1), version, event)
    };
    let store =
        CqlStore::<OrderTimeline>::new(databases.cql.clone(), databases.postgres.clone(), 1);
    open(&store).await;
    let commits = (1..=events).map(event).collect();
    apply_batch(&store, &batch(0, events, commits))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_of_a_timeline_have_every_event_once_and_in_order() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        apply(databases, 25).await;
        let api = serve(databases).await;
        for limit in [1, 7, 25, 100] {
            let url = format!("{api}/orders/{}/timeline?limit={limit}", id(1));
            let (mut found, mut cursor) = (Vec::new(), String::new());
            loop {
                let (status, page) = get(&format!("{url}{cursor}")).await;
                assert_eq!(status, 200, "{page}");
                let events = page["events"].as_array().unwrap();
                assert!(
                    events.len() <= limit,
                    "{} events on a page of at most {limit}",
                    events.len()
                );
                found.extend(
                    events.iter().map(|event| {
                        (event["version"].as_i64(), event["total"]["amount"].as_i64())
                    }),
                );
                match page["next_cursor"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => break,
                }
            }
            let expected = (1..=25).map(|version| (Some(version), Some(version * 100)));
            assert_eq!(found, expected.collect::<Vec<_>>(), "{limit}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_shown_with_its_times_and_the_order_after_it() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        apply(databases, 1).await;
        let api = serve(databases).await;
        let (status, page) = get(&format!("{api}/orders/{}/timeline", id(1))).await;
        assert_eq!(status, 200, "{page}");
        let event = json!({
            "version": 1,
            "event": "SaleImported",
            "happened_at": sale(1).ordered_at.to_string(),
            "recorded_at": "1970-01-01T00:00:00Z",
            "invoice": "1",
            "customer": "1",
            "country": "Norway",
            "total": {"amount": 100, "currency": "GBP"},
            "line_count": 1,
        });
        assert_eq!(page, json!({"events": [event], "next_cursor": Value::Null}));
        for (path, status, code) in [
            (format!("{}/timeline", id(2)), 404, "ORDER_NOT_FOUND"),
            ("order_1/timeline".to_owned(), 400, "INVALID_ORDER_ID"),
            (format!("{}/timeline?limit=0", id(1)), 400, "INVALID_LIMIT"),
            (
                format!("{}/timeline?cursor=00", id(1)),
                400,
                "INVALID_CURSOR",
            ),
        ] {
            assert_problem(&format!("{api}/orders/{path}"), status, code).await;
        }
    })
    .await;
}
