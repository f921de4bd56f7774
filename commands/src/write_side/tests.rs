//! Tests of deadlines, with owners that never read their queues. The clock is paused: it jumps to the next
//! deadline as soon as no task can run.

use super::*;
use crate::{
    contexts::{self, CONTEXTS},
    envelope::CommandEnvelope,
    handle::WriteSideHandle,
    http::{
        batch,
        batch_stream::{ANSWER_BYTES, BYTES_AHEAD_MAX},
        forwarded,
    },
    identity::Principal,
    ndjson,
    owners::{AnswerReceiver, TypedCommand},
    request::{CommandHeaders, CommandRequest, Execute},
    routing::{
        attempt::{DispatchOutcome, InFlight},
        in_flight::{ANSWER_TIMEOUT, AttemptOutcome, InFlightCommand},
        node_client::FORWARDED_MAX,
        node_protocol::{Forward, Reply, line},
    },
};
use axum::{
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, header},
};
use futures_util::{StreamExt, future::BoxFuture};
use journal::{
    Source,
    owner::UNANSWERED_MAX,
    store::{Memory, StateStore},
};
use kafka::{Admin, Appender, KafkaSettings, Registry, RegistrySettings};
use serde_json::{Value, json};
use service::{
    budget::{Budget, Overloaded},
    connection::ClientConnection,
    trace::TraceContext,
};
use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{net::TcpListener, time::Instant};

/// Ends a test in which a deadline is missing. It is longer than every deadline under test.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The owners' tasks, which never run.
type Owners = Vec<BoxFuture<'static, ()>>;

/// An unreachable log: no process listens on port 1.
fn unreachable_log() -> Kafka {
    let kafka = KafkaSettings {
        brokers: "127.0.0.1:1".into(),
        ..KafkaSettings::default()
    };
    Kafka {
        appender: Appender::new(&kafka).unwrap(),
        source: Source {
            admin: Admin::new(&kafka).unwrap(),
            registry: Registry::new(&RegistrySettings::default()).unwrap(),
            kafka,
        },
    }
}

/// A write side whose owners never read their queues. The queues stay open while the returned owners are
/// kept.
fn silent() -> (WriteSide, Owners) {
    let partitions = PartitionCounts::uniform(3);
    let closing = CancellationToken::new();
    let owners = RefCell::new(Owners::new());
    let launch = OwnersLaunch {
        log: unreachable_log(),
        partitions: &partitions,
        settings: &|_| OwnerSettings::new(String::new(), 3),
        encoder: &|context| Encoder::new(1, &context.schema()).unwrap(),
        store: &|_| -> Arc<dyn StateStore> { Arc::new(Memory::default()) },
        assigned: &|_| watch::channel(true).1,
        spawn: &|owner| owners.borrow_mut().push(owner),
        closing: closing.clone(),
        given_up: closing.clone(),
    };
    let pools: Vec<_> = CONTEXTS
        .iter()
        .map(|context| context.start(&launch))
        .collect();
    let router = Router::new(RouterConfig {
        pools,
        partitions: partitions.clone(),
        directory: Directory::empty().1,
        node_clients: NodeClients::new(&partitions).unwrap(),
        own_url: "http://127.0.0.1:1".into(),
        hasher: Hasher::new([7; 32]),
        closing: closing.clone(),
        given_up: closing.clone(),
    });
    let write_side = WriteSide { router, closing };
    (write_side, owners.into_inner())
}

fn handle(write_side: &WriteSide) -> WriteSideHandle {
    let handle = WriteSideHandle::default();
    handle.set(write_side.clone());
    handle
}

fn product(sku: &str) -> Value {
    json!({"sku": sku, "description": "a product"})
}

/// A command about the product `A`, as a client sends it.
fn envelope() -> CommandEnvelope {
    let command = contexts::command("CreateProduct").unwrap();
    let body = command.read(product("A").to_string().as_bytes()).unwrap();
    CommandEnvelope::new(&Principal::import(), None, body)
}

/// A command about the product `A`, for its owner.
fn create(write_side: &WriteSide) -> TypedCommand {
    write_side.router.prepare(&envelope()).unwrap()
}

/// Fills the queue of the owner of product `A`; the receivers must be kept.
async fn fill(write_side: &WriteSide) -> Vec<AnswerReceiver> {
    let mut answers = Vec::new();
    for _ in 0..UNANSWERED_MAX {
        let submitted = write_side.router.submit(create(write_side), Instant::now());
        answers.push(submitted.await.unwrap());
    }
    answers
}

/// Sends a batch; returns its answers and the time that they took.
async fn batch(write_side: &WriteSide, lines: &[Value]) -> (Vec<Value>, Duration) {
    let begun = Instant::now();
    let media_type = HeaderValue::from_static(ndjson::MEDIA_TYPE);
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, media_type)]);
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let answered = async {
        let response = batch::commands(
            State(handle(write_side)),
            TraceContext::fresh(),
            ClientConnection::default(),
            headers,
            Body::from(body),
        )
        .await;
        to_bytes(response.unwrap().into_body(), 1 << 20).await
    };
    let answered = tokio::time::timeout(TEST_TIMEOUT, answered).await;
    let bytes = answered.expect("a line was never answered").unwrap();
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
    assert!(detail.contains(reason), "no {reason:?} in: {problem}");
}

#[tokio::test(start_paused = true)]
async fn a_submission_waits_for_room_until_its_deadline() {
    let (write_side, _owners) = silent();
    let _answers = fill(&write_side).await;
    let (begun, deadline) = (Instant::now(), Instant::now() + Duration::from_secs(3));
    let submitted = write_side.router.submit(create(&write_side), deadline);
    let submitted = tokio::time::timeout(TEST_TIMEOUT, submitted).await;
    let refusal = submitted.expect("it never returned").unwrap_err();
    assert!(
        refusal.to_string().contains("is full"),
        "no \"is full\" in: {refusal}"
    );
    assert_eq!(begun.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn every_line_of_a_batch_is_answered_in_time() {
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
    // The lines wait concurrently, each from its own arrival.
    assert_eq!(time, ANSWER_TIMEOUT);
}

/// A client may keep sending while a partition has no owner, so the bytes that are read ahead are bounded,
/// too.
#[tokio::test(start_paused = true)]
async fn long_lines_are_not_read_far_ahead() {
    let (write_side, _owners) = silent();
    let bytes = ndjson::LINE_BYTES_MAX + ANSWER_BYTES;
    let lines_max = BYTES_AHEAD_MAX as usize / bytes;
    let read = Arc::new(AtomicUsize::new(0));
    let reads = read.clone();
    let chunks = futures_util::stream::iter(0..4 * lines_max).map(move |number| {
        reads.fetch_add(1, Ordering::Relaxed);
        let line = create_line(&number.to_string()).to_string();
        let padding = " ".repeat(ndjson::LINE_BYTES_MAX - line.len());
        Ok::<_, std::convert::Infallible>(format!("{line}{padding}\n"))
    });
    let media_type = HeaderValue::from_static(ndjson::MEDIA_TYPE);
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, media_type)]);
    let (trace, body) = (TraceContext::fresh(), Body::from_stream(chunks));
    let connection = ClientConnection::default();
    let node = State(handle(&write_side));
    let response = batch::commands(node, trace, connection, headers, body).await;
    tokio::time::sleep(ANSWER_TIMEOUT / 2).await;
    let read_ahead = read.load(Ordering::Relaxed);
    // One more line waits for room.
    assert_eq!(read_ahead, lines_max + 1);
    let answers = to_bytes(response.unwrap().into_body(), 1 << 20).await;
    answers.unwrap();
    assert_eq!(read.load(Ordering::Relaxed), 4 * lines_max);
}

#[tokio::test(start_paused = true)]
async fn a_line_without_room_in_the_queue_is_refused_in_time() {
    let (write_side, _owners) = silent();
    let _answers = fill(&write_side).await;
    let (answers, time) = batch(&write_side, &[create_line("A")]).await;
    assert_is_unavailable(&answers[0], "is full");
    assert_eq!(time, ANSWER_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_single_command_is_answered_in_time() {
    let (write_side, _owners) = silent();
    let begun = Instant::now();
    let command = contexts::command("CreateProduct").unwrap();
    let body = command.read(product("A").to_string().as_bytes()).unwrap();
    let handle = handle(&write_side);
    let created = handle.execute(CommandRequest {
        principal: Principal::import(),
        headers: CommandHeaders::default(),
        command: body,
    });
    let created = tokio::time::timeout(TEST_TIMEOUT, created).await;
    let problem = created.expect("it never returned").unwrap_err();
    assert_is_unavailable(&problem.body(), "no answer within 15s");
    assert_eq!(begun.elapsed(), ANSWER_TIMEOUT);
}

/// A command about the product `A`, before its first attempt.
fn in_flight(write_side: &WriteSide) -> InFlightCommand {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    write_side.router.in_flight(envelope(), deadline).unwrap()
}

async fn dispatch(write_side: &WriteSide, command: &mut InFlightCommand) -> InFlight {
    match write_side.router.dispatch(command, None).await.unwrap() {
        DispatchOutcome::InFlight(in_flight) => in_flight,
        DispatchOutcome::RouteChanged => panic!("no route was requested"),
    }
}

#[tokio::test(start_paused = true)]
async fn commands_that_need_another_attempt_wait_concurrently() {
    let (write_side, owners) = silent();
    let mut commands = Vec::new();
    for _ in 0..1_024 {
        let mut command = in_flight(&write_side);
        let attempt = dispatch(&write_side, &mut command).await;
        commands.push((command, attempt));
    }
    drop(owners);
    for (command, attempt) in &mut commands {
        let outcome = attempt.outcome(command.deadline()).await;
        let answer = command.record_outcome(outcome);
        assert_eq!(answer, None, "an owner that has ended answered");
    }
    let begun = Instant::now();
    for (command, _) in &mut commands {
        // No owner is left. The test measures the time until the dispatch fails.
        let dispatched = write_side.router.dispatch(command, None).await;
        dispatched.map(drop).unwrap_err();
    }
    let waited = begun.elapsed();
    let least = Duration::from_millis(5);
    assert!(waited >= least, "{waited:?} instead of at least {least:?}");
    let bound = Duration::from_millis(50);
    assert!(waited < bound, "{waited:?} instead of less than {bound:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_gives_up_answers_commands_in_flight() {
    let (write_side, _owners) = silent();
    let mut command = in_flight(&write_side);
    let mut attempt = dispatch(&write_side, &mut command).await;
    let begun = Instant::now();
    write_side.closing.cancel();
    let outcome = attempt.outcome(command.deadline()).await;
    let AttemptOutcome::Answered(Err(refusal)) = outcome else {
        panic!("the command still waits");
    };
    assert!(
        refusal.to_string().contains("outcome is unknown"),
        "no \"outcome is unknown\" in: {refusal}"
    );
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn owners_and_answers_are_abandoned_some_time_after_the_hand_over() {
    let (closing, given_up) = (CancellationToken::new(), CancellationToken::new());
    let task = tokio::spawn(give_up(closing.clone(), given_up.clone()));
    assert!(!given_up.is_cancelled());
    let begun = Instant::now();
    closing.cancel();
    given_up.cancelled().await;
    assert_eq!(begun.elapsed(), GIVE_UP_TIMEOUT);
    task.await.unwrap();
}

/// A stalled partition must not use up the window of the connection between two nodes.
#[tokio::test(start_paused = true)]
async fn forwarded_lines_are_read_while_their_owner_is_stalled() {
    let (write_side, _owners) = silent();
    let _answers = fill(&write_side).await;
    let read = Arc::new(AtomicUsize::new(0));
    let reads = read.clone();
    let text = forwarded_line(&write_side);
    let lines = futures_util::stream::iter(0..FORWARDED_MAX).map(move |_| {
        reads.fetch_add(1, Ordering::Relaxed);
        Ok::<_, std::convert::Infallible>(text.clone())
    });
    let response = forwarded(&write_side, Body::from_stream(lines)).await;
    tokio::time::sleep(ANSWER_TIMEOUT / 2).await;
    assert_eq!(read.load(Ordering::Relaxed), FORWARDED_MAX);
    let replies = to_bytes(response.into_body(), 8 << 20).await.unwrap();
    let replies = replies.split_inclusive(|byte| *byte == b'\n').count();
    assert_eq!(replies, FORWARDED_MAX);
}

/// A command about the product `A`, as another node sends it.
fn forwarded_line(write_side: &WriteSide) -> Vec<u8> {
    line(&Forward {
        within_ms: 15_000,
        hash_key: write_side.router.hash_key(),
        command: &envelope(),
    })
}

/// Lines from other nodes wait for a stalled owner only while the budget has room for them.
#[tokio::test(start_paused = true)]
async fn forwarded_lines_beyond_the_budget_are_refused() {
    let (write_side, _owners) = silent();
    let _answers = fill(&write_side).await;
    let (text, lines_kept) = (forwarded_line(&write_side), 3);
    let bytes = lines_kept * text.len();
    let handle = WriteSideHandle::new(Budget::new(u32::try_from(bytes).unwrap()));
    handle.set(write_side.clone());
    let response = forwarded_to(handle, Body::from(text.repeat(10))).await;
    let replies = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let is_overloaded = |reply: &[u8]| {
        let reply = serde_json::from_slice::<Reply>(reply).unwrap();
        reply == Reply::Busy(Overloaded.to_string())
    };
    let refused: Vec<bool> = replies
        .trim_ascii_end()
        .split(|byte| *byte == b'\n')
        .map(is_overloaded)
        .collect();
    assert_eq!(refused, [vec![false; lines_kept], vec![true; 7]].concat());
}

#[tokio::test(start_paused = true)]
async fn a_command_that_was_hashed_with_another_key_is_refused_at_once() {
    let (write_side, _owners) = silent();
    let command = envelope();
    let forward = Forward {
        within_ms: 15_000,
        hash_key: "8899aabbccddeeff",
        command: &command,
    };
    let begun = Instant::now();
    let response = forwarded(&write_side, Body::from(line(&forward))).await;
    let reply = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let expected = Reply::OtherHashKey {
        hash_key: write_side.router.hash_key().to_owned(),
    };
    assert_eq!(serde_json::from_slice::<Reply>(&reply).unwrap(), expected);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

/// Sends a stream of commands as another node does.
async fn forwarded(write_side: &WriteSide, body: Body) -> axum::response::Response {
    forwarded_to(handle(write_side), body).await
}

async fn forwarded_to(handle: WriteSideHandle, body: Body) -> axum::response::Response {
    let media_type = HeaderValue::from_static(ndjson::MEDIA_TYPE);
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, media_type)]);
    let response = forwarded::commands(State(handle), headers, body).await;
    response.unwrap()
}

/// The streams of all partitions share a connection. If this node stops reading one stream, the unread bytes use up the
/// flow-control window of the whole connection.
#[tokio::test]
async fn a_partition_whose_owner_is_stalled_delays_no_other_on_the_same_connection() {
    const LINE_BYTES: usize = 64 << 10;
    /// More than the window of a connection.
    const LINES: usize = (4 << 20) / LINE_BYTES;
    let (write_side, _owners) = silent();
    let _answers = fill(&write_side).await;
    let stalled = create(&write_side).target();
    let partitions = PartitionCounts::uniform(3);
    let node_clients = NodeClients::new(&partitions).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = crate::http::internal_routes(handle(&write_side));
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let mut line = forwarded_line(&write_side);
    line.pop();
    line.resize(LINE_BYTES - 1, b' ');
    line.push(b'\n');
    let stream = node_clients.stream(&url, stalled);
    let mut replies = Vec::new();
    for _ in 0..LINES {
        let sent = node_clients.send((&url, stalled), stream, line.clone(), deadline);
        replies.push(sent.await.expect("the stream is open"));
    }
    // The node answers this command at once, because of its hash key.
    let other = partitions.journal_partitions().find(|one| *one != stalled);
    let other = other.unwrap();
    let forward = self::line(&Forward {
        within_ms: 15_000,
        hash_key: "8899aabbccddeeff",
        command: &envelope(),
    });
    let stream = node_clients.stream(&url, other);
    let sent = node_clients.send((&url, other), stream, forward, deadline);
    let reply = sent.await.expect("the stream is open");
    let reply = tokio::time::timeout(ANSWER_TIMEOUT / 3, reply).await;
    let reply = reply.expect("the stalled partition delays the other partition");
    let reply = reply.unwrap();
    assert!(
        matches!(reply, Ok(Reply::OtherHashKey { .. })),
        "{reply:?} instead of OtherHashKey"
    );
    let early = replies.iter_mut().find_map(|reply| reply.try_recv().ok());
    assert!(early.is_none(), "{early:?} from the stalled partition");
}
