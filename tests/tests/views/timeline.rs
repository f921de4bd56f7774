//! The timelines of orders behind their query.

use crate::{
    api::{assert_problem, get, pages, serve},
    backends::{OnBoth, run},
    log::{batch, commit, open},
    queries::{id, sale},
};
use projections::{Databases, Store, cql::CqlStore, views::order_timeline_v1::OrderTimeline};
use schemas::orders::{Event, OrderEvent, SaleImported};
use serde_json::{Value, json};

/// Number of events of the order with the number 1.
const EVENTS: i64 = 12;

/// Applies the events of two orders, in two batches that share an event.
async fn apply(databases: &Databases) {
    let event = |number: i64, version: i64| {
        let sale = SaleImported {
            total: version,
            ..sale(number)
        };
        let offset = version - 1 + if number == 1 { 0 } else { EVENTS };
        let sale = Event::Order(OrderEvent::SaleImported(sale));
        commit(offset, &id(number), version, sale)
    };
    let of_first: Vec<_> = (1..=EVENTS).map(|version| event(1, version)).collect();
    let store = CqlStore::<OrderTimeline>::new(databases.cql.clone());
    open(&store).await;
    store
        .apply(&batch(0, 8, of_first[..8].to_vec()))
        .await
        .unwrap();
    // The projector may have ended before it wrote its checkpoint; then it applies events again.
    let mut rest = of_first[4..].to_vec();
    rest.push(event(2, 1));
    store.apply(&batch(4, EVENTS + 1, rest)).await.unwrap();
}

fn versions(events: &[Value]) -> Vec<i64> {
    let version = |event: &Value| event["version"].as_i64().unwrap();
    events.iter().map(version).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeline_has_every_event_once_and_in_order() {
    run(async |OnBoth { databases, .. }: &OnBoth| {
        apply(databases).await;
        let api = serve(databases).await;
        for limit in [1, 5, 12, 100] {
            let url = format!("{api}/orders/{}/timeline?limit={limit}", id(1));
            let events = pages(&url, "events").await;
            assert_eq!(
                versions(&events),
                Vec::from_iter(1..=EVENTS),
                "limit {limit}"
            );
            let expected = json!({
                "version": 2,
                "event": "SaleImported",
                "occurred_at": sale(1).ordered_at.to_string(),
                "total": {"amount": 2, "currency": "GBP"},
            });
            assert_eq!(events[1], expected);
        }
        let other = pages(&format!("{api}/orders/{}/timeline?", id(2)), "events").await;
        assert_eq!(versions(&other), [1]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeline_of_an_unknown_order_is_not_found() {
    run(async |OnBoth { databases, .. }: &OnBoth| {
        apply(databases).await;
        let api = serve(databases).await;
        let of = |id: &str| format!("{api}/orders/{id}/timeline");
        assert_problem(&of(&id(3)), 404, "ORDER_NOT_FOUND").await;
        assert_problem(&of("17850"), 400, "INVALID_ORDER_ID").await;
        let unknown = format!("{}?version=1", of(&id(1)));
        assert_problem(&unknown, 400, "UNKNOWN_OR_INVALID_PARAMETER").await;
        let (_, page) = get(&format!("{}?limit=1", of(&id(1)))).await;
        let cursor = page["next_cursor"].as_str().unwrap();
        let other = format!("{}?cursor={cursor}", of(&id(2)));
        assert_problem(&other, 400, "INVALID_CURSOR").await;
    })
    .await;
}
