//! Deadlines, with owners that never take anything from their queues. The clock is paused: it jumps to
//! the next deadline as soon as nothing else is left to do.

use super::*;
use crate::{
    call::{Call, Command},
    http::{batch, lines, products},
    identity::Principal,
    routing::{
        directory::Entries,
        journey::{Journey, Tried},
        router::{Begun, UnderWay},
    },
};
use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, HeaderValue, header},
};
use futures_util::StreamExt;
use journal::{
    Source,
    owner::{Answer, UNANSWERED_MAX},
    store::Memory,
};
use kafka::{Admin, Appender, KafkaSettings, Registry, RegistrySettings};
use schemas::topics::PARTITIONS;
use serde_json::{Value, json};
use service::{extract::ApiJson, trace::TraceContext};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::{sync::oneshot, time::Instant};

/// Longer than anything here may take; where a deadline is missing, the test ends here.
const PATIENCE: Duration = Duration::from_secs(60);

/// The owners of a context, and their handles.
type Owners<M> = (
    Vec<OwnerHandle<<M as Machine>::Command>>,
    Vec<Owner<M, Kafka>>,
);

/// Nobody listens on port 1, and nobody asks.
fn silent_owners<M: Machine + Copy>(machine: M) -> Owners<M> {
    let kafka = KafkaSettings {
        brokers: "127.0.0.1:1".into(),
        ..KafkaSettings::default()
    };
    let log = Kafka {
        appender: Appender::new(&kafka).unwrap(),
        source: Source {
            admin: Admin::new(&kafka).unwrap(),
            registry: Registry::new(&RegistrySettings::default()).unwrap(),
            kafka,
        },
    };
    let encoder = Encoder::new(1, &M::Event::CONTEXT.schema()).unwrap();
    let owner = |partition| {
        let settings = OwnerSettings::new(String::new());
        let store = Arc::new(Memory::default());
        Owner::new(
            machine,
            partition,
            encoder.clone(),
            log.clone(),
            store,
            settings,
        )
    };
    let (owners, handles): (Vec<_>, Vec<_>) = (0..PARTITIONS).map(owner).unzip();
    (handles, owners)
}

/// A write side whose owners are kept, but never run, by the second value.
fn silent() -> (WriteSide, impl Sized) {
    let (write_side, owners, known) = silent_beside();
    (write_side, (owners, known))
}

/// The same, and what its directory has read.
fn silent_beside() -> (WriteSide, impl Sized, Entries) {
    let (orders, orders_owners) = silent_owners(Orders);
    let (catalog, catalog_owners) = silent_owners(Catalog);
    let (known, directory) = Directory::of_entries();
    let closing = CancellationToken::new();
    let router = Router::new(Parts {
        orders,
        catalog,
        directory,
        peers: Peers::new().unwrap(),
        own_url: "http://127.0.0.1:1".into(),
        hasher: Hasher::new([7; 32]),
        closing: closing.clone(),
        given_up: closing.clone(),
    });
    let write_side = WriteSide {
        router,
        stop: CancellationToken::new(),
        closing,
    };
    (write_side, (orders_owners, catalog_owners), known)
}

fn product(sku: &str) -> Value {
    json!({"sku": sku, "description": "a product"})
}

/// A command about the product `A`.
fn create(write_side: &WriteSide) -> crate::call::Prepared {
    let body = serde_json::from_value(product("A")).unwrap();
    let command = Command::new(&Principal::import(), None, Call::CreateProduct(body));
    write_side.router.prepare(&command).unwrap()
}

/// Fills the queue of the owner of product `A`; the answers to come must be kept.
async fn fill(write_side: &WriteSide) -> Vec<oneshot::Receiver<Result<Answer, Refusal>>> {
    let mut coming = Vec::new();
    for _ in 0..UNANSWERED_MAX {
        let submitted = write_side.router.submit(create(write_side), Instant::now());
        coming.push(submitted.await.unwrap());
    }
    coming
}

/// Hands a batch in, and gives its answers and how long they took.
async fn batch(write_side: &WriteSide, lines: &[Value]) -> (Vec<Value>, Duration) {
    let begun = Instant::now();
    let media_type = HeaderValue::from_static(lines::MEDIA_TYPE);
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, media_type)]);
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let answered = async {
        let response = batch::commands(
            write_side.clone(),
            TraceContext::fresh(),
            headers,
            Body::from(body),
        )
        .await;
        to_bytes(response.unwrap().into_body(), 1 << 20).await
    };
    let answered = tokio::time::timeout(PATIENCE, answered).await;
    let bytes = answered.expect("a line has no deadline").unwrap();
    let answers = bytes.split_inclusive(|byte| *byte == b'\n');
    let answers = answers.map(|line| serde_json::from_slice(line).unwrap());
    (answers.collect(), begun.elapsed())
}

fn create_line(sku: &str) -> Value {
    json!({"key": sku, "command": "CreateProduct", "body": product(sku)})
}

fn sale_line(invoice: &str) -> Value {
    let line = json!({"sku": "A", "quantity": 1, "unit_price": 1_000_000});
    let body = json!({"invoice": invoice, "country": "EIRE", "currency": "GBP",
        "ordered_at": "2010-12-01T08:26:00Z", "lines": [line]});
    json!({"key": invoice, "command": "ImportSale", "body": body})
}

#[track_caller]
fn assert_is_unavailable(problem: &Value, reason: &str) {
    assert_eq!(problem["status"], 503, "{problem}");
    assert_eq!(problem["code"], "JOURNAL_UNAVAILABLE", "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(reason), "{problem}");
}

#[tokio::test(start_paused = true)]
async fn a_submission_waits_for_room_until_its_deadline() {
    let (write_side, _owners) = silent();
    let _coming = fill(&write_side).await;
    let (begun, deadline) = (Instant::now(), Instant::now() + Duration::from_secs(3));
    let submitted = write_side.router.submit(create(&write_side), deadline);
    let submitted = tokio::time::timeout(PATIENCE, submitted).await;
    let refusal = submitted.expect("it waits for ever").unwrap_err();
    assert!(refusal.to_string().contains("queue is full"), "{refusal}");
    assert_eq!(begun.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn every_line_of_a_batch_has_its_answer_in_time() {
    let (write_side, _owners) = silent();
    let lines = [
        create_line("A"),
        sale_line("1"),
        create_line("B"),
        sale_line("2"),
    ];
    let (answers, time) = batch(&write_side, &lines).await;
    assert_eq!(answers.len(), lines.len());
    for (number, answer) in (1..).zip(&answers) {
        assert_eq!(answer["line"], number, "{answer}");
        assert_is_unavailable(answer, "no answer within 15s");
    }
    // All of them wait at once, each from its own arrival on.
    assert_eq!(time, ANSWER_TIMEOUT);
}

/// As an owner that is away for a while meets a client that does not mind: what is read ahead is bounded
/// in bytes too.
#[tokio::test(start_paused = true)]
async fn long_lines_are_not_read_far_ahead() {
    let (write_side, _owners) = silent();
    let bytes_max = lines::BYTES_UNDER_WAY_MAX / lines::LINE_BYTES_MAX;
    let read = Arc::new(AtomicUsize::new(0));
    let reads = read.clone();
    let chunks = futures_util::stream::iter(0..4 * bytes_max).map(move |number| {
        reads.fetch_add(1, Ordering::Relaxed);
        let line = create_line(&number.to_string()).to_string();
        let padding = " ".repeat(lines::LINE_BYTES_MAX - line.len());
        Ok::<_, std::convert::Infallible>(format!("{line}{padding}\n"))
    });
    let media_type = HeaderValue::from_static(lines::MEDIA_TYPE);
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, media_type)]);
    let (trace, body) = (TraceContext::fresh(), Body::from_stream(chunks));
    let response = batch::commands(write_side.clone(), trace, headers, body).await;
    tokio::time::sleep(ANSWER_TIMEOUT / 2).await;
    let read_ahead = read.load(Ordering::Relaxed);
    // One more waits for room.
    assert_eq!(read_ahead, bytes_max + 1);
    let answers = to_bytes(response.unwrap().into_body(), 1 << 20).await;
    assert!(answers.is_ok());
    assert_eq!(read.load(Ordering::Relaxed), 4 * bytes_max);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_finds_no_room_is_refused_in_time() {
    let (write_side, _owners) = silent();
    let _coming = fill(&write_side).await;
    let (answers, time) = batch(&write_side, &[create_line("A")]).await;
    assert_is_unavailable(&answers[0], "queue is full");
    assert_eq!(time, ANSWER_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_command_of_its_own_has_its_answer_in_time() {
    let (write_side, _owners) = silent();
    let begun = Instant::now();
    let body = serde_json::from_value(product("A")).unwrap();
    let created = products::create(
        write_side.clone(),
        TraceContext::fresh(),
        HeaderMap::new(),
        ApiJson(body),
    );
    let created = tokio::time::timeout(PATIENCE, created).await;
    let problem = created.expect("it waits for ever").unwrap_err();
    assert_is_unavailable(&problem.body(), "no answer within 15s");
    assert_eq!(begun.elapsed(), ANSWER_TIMEOUT);
}

/// A command about the product `A`, on its way.
fn journey(write_side: &WriteSide) -> Journey {
    let body = serde_json::from_value(product("A")).unwrap();
    let command = Command::new(&Principal::import(), None, Call::CreateProduct(body));
    let journey = write_side
        .router
        .journey(command, Instant::now() + ANSWER_TIMEOUT);
    journey.unwrap()
}

/// Hands a command in.
async fn begin(write_side: &WriteSide, journey: &mut Journey) -> UnderWay {
    match write_side.router.begin(journey, None).await.unwrap() {
        Begun::UnderWay(under_way) => under_way,
        Begun::OtherWay => panic!("any way would do"),
    }
}

#[tokio::test(start_paused = true)]
async fn commands_that_come_back_together_wait_together() {
    let (write_side, owners) = silent();
    let mut journeys = Vec::new();
    for _ in 0..1_024 {
        let mut journey = journey(&write_side);
        let under_way = begin(&write_side, &mut journey).await;
        journeys.push((journey, under_way));
    }
    drop(owners);
    for (journey, under_way) in &mut journeys {
        let tried = under_way.outcome(journey.deadline()).await;
        assert!(
            journey.take(tried).is_none(),
            "an owner that is gone answers"
        );
    }
    let begun = Instant::now();
    for (journey, _) in &mut journeys {
        // Nobody takes it any more; what counts is when that is found out.
        assert!(write_side.router.begin(journey, None).await.is_err());
    }
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(5), "{waited:?}");
    assert!(waited < Duration::from_millis(50), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_gives_up_answers_what_is_under_way() {
    let (write_side, _owners) = silent();
    let mut journey = journey(&write_side);
    let mut under_way = begin(&write_side, &mut journey).await;
    let begun = Instant::now();
    write_side.closing.cancel();
    let tried = under_way.outcome(journey.deadline()).await;
    let Tried::Answered(Err(refusal)) = tried else {
        panic!("it waits on");
    };
    assert!(
        refusal.to_string().contains("outcome is unknown"),
        "{refusal}"
    );
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn owners_and_answers_are_given_up_some_time_after_the_hand_over() {
    let (closing, given_up) = (CancellationToken::new(), CancellationToken::new());
    let task = tokio::spawn(give_up(closing.clone(), given_up.clone()));
    assert!(!given_up.is_cancelled());
    let begun = Instant::now();
    closing.cancel();
    given_up.cancelled().await;
    assert_eq!(begun.elapsed(), GIVE_UP_TIMEOUT);
    task.await.unwrap();
}
