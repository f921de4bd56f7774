//! Tests queries that wait for positions, through a router and with paused time.

use super::{
    layer::{PositionLayer, View, WAITS_MAX, wait_for_positions},
    polls::{INTERVAL_MAX, INTERVAL_MIN, ReadStored},
    positions::{DAYBOOK_LAG, DAYBOOK_POSITION, DAYBOOK_STALE},
};
use crate::progress::Progress;
use axum::{Router, body::Body, http::Request, middleware, response::Response, routing::get};
use futures_util::future::join_all;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

const VIEW: &str = "orders_v2";
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The positions that a database stores.
#[derive(Clone, Default)]
struct Database {
    positions: Arc<Mutex<BTreeMap<(String, i32), i64>>>,
    /// Times of the reads.
    reads: Arc<Mutex<Vec<Instant>>>,
    is_down: Arc<Mutex<bool>>,
}

impl Database {
    fn set(&self, partition: i32, next_offset: i64) {
        let key = ("journal.orders".to_owned(), partition);
        self.positions.lock().unwrap().insert(key, next_offset);
    }

    fn reads(&self) -> usize {
        self.reads.lock().unwrap().len()
    }

    fn reader(&self) -> ReadStored {
        let database = self.clone();
        Arc::new(move |topics| {
            let database = database.clone();
            Box::pin(async move {
                database.reads.lock().unwrap().push(Instant::now());
                if *database.is_down.lock().unwrap() {
                    return Err("connection refused".to_owned());
                }
                let positions = database.positions.lock().unwrap();
                let read = positions
                    .iter()
                    .filter(|((topic, _), _)| topics.contains(topic));
                Ok(read
                    .map(|((topic, partition), next)| (topic.clone(), *partition, *next))
                    .collect())
            })
        })
    }
}

fn router(progress: &Progress, database: Option<&Database>) -> Router {
    let layer = PositionLayer::new(View {
        reader: VIEW,
        progress: progress.clone(),
        journals: vec!["journal.catalog", "journal.orders"],
        stored: database.map(Database::reader),
        wait_max: WAIT_MAX,
    });
    let layer = middleware::from_fn_with_state(layer, wait_for_positions);
    Router::new()
        .route("/orders", get(|| async { "rows" }))
        .layer(layer)
}

/// The progress of a view that reads two partitions.
fn started() -> Progress {
    let progress = Progress::default();
    progress.publish(
        VIEW,
        [("journal.orders", 0, 5), ("journal.orders", 1, 0)],
        [],
    );
    progress
}

async fn query(router: &Router, position: &str) -> Response {
    let request = Request::get("/orders").header(DAYBOOK_POSITION, position);
    let request = request.body(Body::empty()).unwrap();
    router.clone().oneshot(request).await.unwrap()
}

/// The headers about staleness.
fn marks(response: &Response) -> (Option<&str>, Option<&str>) {
    let header = |name| {
        response
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap())
    };
    (header(DAYBOOK_STALE), header(DAYBOOK_LAG))
}

const FRESH: (Option<&str>, Option<&str>) = (None, None);

fn stale(lag: &str) -> (Option<&str>, Option<&str>) {
    (Some("true"), Some(lag))
}

/// Runs `action` at a time after now, beside the test.
fn after(time: Duration, action: impl FnOnce() + Send + 'static) {
    tokio::spawn(async move {
        sleep(time).await;
        action();
    });
}

#[tokio::test(start_paused = true)]
async fn a_position_that_the_view_has_applied_costs_no_wait_and_no_read() {
    let (database, begun) = (Database::default(), Instant::now());
    let router = router(&started(), Some(&database));
    let response = query(&router, "journal.orders/0@4").await;
    assert_eq!(marks(&response), FRESH);
    assert_eq!((begun.elapsed(), database.reads()), (Duration::ZERO, 0));
}

#[tokio::test(start_paused = true)]
async fn a_query_wakes_when_the_view_of_this_process_has_applied_every_position() {
    let (database, progress, begun) = (Database::default(), started(), Instant::now());
    let router = router(&progress, Some(&database));
    for (time, partition, next) in [(20, 1, 8), (30, 0, 6), (40, 0, 7)] {
        let progress = progress.clone();
        after(Duration::from_millis(time), move || {
            progress.set(VIEW, "journal.orders", partition, next);
        });
    }
    let response = query(&router, "journal.orders/0@6, journal.orders/1@7").await;
    assert_eq!(marks(&response), FRESH);
    assert_eq!(begun.elapsed(), Duration::from_millis(40));
    assert_eq!(database.reads(), 0, "its own progress ended the wait");
}

#[tokio::test(start_paused = true)]
async fn a_query_wakes_at_the_stored_position_if_another_process_moves_the_view() {
    let (database, progress) = (Database::default(), started());
    let router = router(&progress, Some(&database));
    for offset in [7, 8] {
        let stored = database.clone();
        after(Duration::from_millis(11), move || stored.set(0, offset + 1));
        let begun = Instant::now();
        let response = query(&router, &format!("journal.orders/0@{offset}")).await;
        assert_eq!(marks(&response), FRESH);
        // At first this process does not know that another process advances the view.
        let expected = match offset {
            7 => INTERVAL_MAX,
            _ => INTERVAL_MIN * 3,
        };
        assert_eq!(begun.elapsed(), expected, "{offset}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_between_reads_doubles_up_to_its_limit_and_the_reads_end_with_the_wait() {
    let (database, progress) = (Database::default(), started());
    let router = router(&progress, Some(&database));
    database.set(0, 7);
    assert_eq!(marks(&query(&router, "journal.orders/0@6").await), FRESH);
    database.reads.lock().unwrap().clear();
    let begun = Instant::now();
    let response = query(&router, "journal.orders/0@9").await;
    assert_eq!(marks(&response), stale("journal.orders/0=3"));
    assert_eq!(begun.elapsed(), WAIT_MAX);
    let reads = database.reads.lock().unwrap().clone();
    let times: Vec<_> = reads
        .iter()
        .map(|read| (*read - begun).as_millis())
        .collect();
    assert_eq!(times[..7], [5, 15, 35, 75, 155, 255, 355]);
    sleep(10 * INTERVAL_MAX).await;
    assert_eq!(database.reads(), reads.len());
}

#[tokio::test(start_paused = true)]
async fn many_waiting_queries_share_one_read() {
    let (database, progress) = (Database::default(), started());
    let router = router(&progress, Some(&database));
    let stored = database.clone();
    after(Duration::from_millis(250), move || stored.set(1, 5_000));
    let queries = (0..5_000).map(|offset| {
        let router = router.clone();
        async move {
            let response = query(&router, &format!("journal.orders/1@{offset}")).await;
            assert_eq!(marks(&response), FRESH, "{offset}");
        }
    });
    join_all(queries).await;
    assert_eq!(database.reads(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_query_beyond_the_limit_is_answered_at_once_and_says_that_it_is_stale() {
    let progress = started();
    let router = router(&progress, None);
    let waiting = (0..WAITS_MAX).map(|_| {
        let router = router.clone();
        tokio::spawn(async move {
            marks(&query(&router, "journal.orders/1@0").await)
                .0
                .is_none()
        })
    });
    let waiting: Vec<_> = waiting.collect();
    // Paused time moves only when every other task waits.
    sleep(Duration::from_millis(1)).await;
    let begun = Instant::now();
    let response = query(&router, "journal.orders/1@0").await;
    assert_eq!(marks(&response), stale("journal.orders/1=1"));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    progress.set(VIEW, "journal.orders", 1, 1);
    for answered in join_all(waiting).await {
        assert!(answered.unwrap(), "a query within the limit is stale");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_after_the_longest_wait_says_how_far_the_view_is_behind() {
    let begun = Instant::now();
    let router = router(&started(), None);
    let response = query(&router, "journal.orders/0@4, journal.orders/1@16").await;
    assert_eq!(marks(&response), stale("journal.orders/1=17"));
    assert_eq!(begun.elapsed(), WAIT_MAX);
    assert_eq!(response.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_fails_makes_the_answer_stale_and_not_an_error() {
    let (database, progress) = (Database::default(), started());
    *database.is_down.lock().unwrap() = true;
    let router = router(&progress, Some(&database));
    let response = query(&router, "journal.orders/0@7").await;
    assert_eq!(marks(&response), stale("journal.orders/0=3"));
    assert_eq!(response.status(), 200);
    let reads = database.reads();
    assert!(reads > 0, "{reads} reads instead of 1 or more");

    *database.is_down.lock().unwrap() = false;
    database.set(0, 8);
    assert_eq!(marks(&query(&router, "journal.orders/0@7").await), FRESH);
}

#[tokio::test(start_paused = true)]
async fn a_query_before_the_views_start_waits_for_it() {
    let progress = Progress::default();
    let router = router(&progress, None);
    let response = query(&router, "journal.orders/0@3").await;
    assert_eq!(marks(&response), stale("journal.orders/0=unknown"));
    after(Duration::from_millis(30), {
        let progress = progress.clone();
        move || progress.publish(VIEW, [("journal.orders", 0, 4)], [])
    });
    let response = query(&router, "journal.orders/0@3, journal.catalog/9@9").await;
    assert_eq!(marks(&response), FRESH);
}

#[tokio::test(start_paused = true)]
async fn positions_of_journals_that_the_view_does_not_read_are_ignored() {
    let (begun, router) = (Instant::now(), router(&started(), None));
    let response = query(&router, "journal.catalog/0@99,journal.orders/0@4").await;
    assert_eq!(marks(&response), FRESH);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_position_that_no_view_can_reach_is_refused() {
    let router = router(&started(), None);
    for (position, part) in [
        ("journal.orders/0", "journal.orders/3@1234"),
        ("journal.other/0@1", "journal.catalog, journal.orders"),
        ("journal.orders/2@1", "send partitions 0 to 1"),
    ] {
        let response = query(&router, position).await;
        assert_eq!(response.status(), 400, "{position}");
        let body = axum::body::to_bytes(response.into_body(), 1 << 12)
            .await
            .unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        for part in ["POSITION_INVALID", part] {
            assert!(body.contains(part), "{position}: no {part:?} in: {body}");
        }
    }
}
