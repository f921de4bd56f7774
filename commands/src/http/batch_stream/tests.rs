//! Tests with clients that send without reading, that stop, and that break off. The clock is paused: it jumps
//! to the next deadline as soon as no task can run.

use super::*;
use axum::body::HttpBody;
use futures_util::Stream;
use serde_json::{Value, json};
use service::connection::Flushes;
use std::{convert::Infallible, io};
use tokio::time::Instant;

/// Answers every line at once.
struct Echo;

impl Submit for Echo {
    type Submitted = usize;

    async fn submit(&mut self, line: &Line, _: Share) -> Result<usize, Problem> {
        match line {
            Line::Text(text) => Ok(text.len()),
            Line::TooLong => Ok(0),
        }
    }
}

impl Answer<usize> for Echo {
    async fn answer(&mut self, number: u64, submitted: Result<usize, Problem>) -> Vec<u8> {
        let answer = match submitted {
            Ok(bytes) => json!({"line": number, "bytes": bytes}),
            Err(problem) => problem.with("line", number).body(),
        };
        format!("{answer}\n").into_bytes()
    }
}

/// Answers that take a whole [`ANSWER_BYTES`] each.
struct LongAnswers;

/// The number of [`LongAnswers`] that may wait: the next line would need one byte more than is left.
const LONG_ANSWERS_MAX: usize = (BYTES_AHEAD_MAX as usize - 1) / ANSWER_BYTES;

impl Answer<usize> for LongAnswers {
    async fn answer(&mut self, number: u64, _: Result<usize, Problem>) -> Vec<u8> {
        let text = json!({"line": number, "text": "x".repeat(ANSWER_BYTES)});
        format!("{text}\n").into_bytes()
    }
}

/// Panics at the second line, like a bug.
struct Failing;

impl Answer<usize> for Failing {
    async fn answer(&mut self, number: u64, submitted: Result<usize, Problem>) -> Vec<u8> {
        assert_ne!(number, 2, "the answer to this line can't be written");
        Echo.answer(number, submitted).await
    }
}

fn begin<E: Into<axum::BoxError>>(
    chunks: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    answer: impl Answer<usize>,
    closing: &CancellationToken,
) -> BodyDataStream {
    let body = Body::from_stream(chunks);
    begin_on(ClientConnection::default(), body, answer, closing)
}

fn begin_on(
    connection: ClientConnection,
    body: Body,
    answer: impl Answer<usize>,
    closing: &CancellationToken,
) -> BodyDataStream {
    let budget = Budget::default();
    let response = batch_stream(body, Echo, answer, &budget, closing.clone(), connection);
    response.into_body().into_data_stream()
}

fn lines(count: usize) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::iter(std::iter::repeat_n(Ok(Bytes::from_static(b"x\n")), count))
}

/// Reads a response to its end: its lines, and whether it ended without an error.
async fn read(mut body: BodyDataStream) -> (Vec<Value>, bool) {
    let mut text = Vec::new();
    let mut is_whole = true;
    while let Some(chunk) = body.next().await {
        match chunk {
            Ok(chunk) => text.extend_from_slice(&chunk),
            Err(_) => is_whole = false,
        }
    }
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let lines = lines.map(|line| serde_json::from_slice(line).unwrap());
    (lines.collect(), is_whole)
}

/// Checks answers to lines 1, 2 and so on, then a last line about the next one.
#[track_caller]
fn check_interrupted(lines: &[Value], is_whole: bool, code: &str) {
    assert!(!is_whole, "the body has a clean end");
    let (last, answers) = lines.split_last().expect("the response has no lines");
    for (number, answer) in (1..).zip(answers) {
        assert_eq!(answer["line"], number, "{answer}");
        assert_eq!(answer.get("code"), None, "{answer}");
    }
    assert_eq!(last["code"], code, "{last}");
    assert_eq!(last["line"], answers.len() + 1, "{last}");
    let advice = format!(
        "send line {} and all lines after it again",
        answers.len() + 1
    );
    let detail = last["detail"].as_str().unwrap();
    assert!(detail.contains(&advice), "no {advice:?} in: {detail}");
}

#[tokio::test(start_paused = true)]
async fn a_client_may_send_every_line_before_it_reads_an_answer() {
    const LINES: usize = 50 * LINES_AHEAD_MAX;
    let (all_sent, sent) = oneshot::channel();
    let end = stream::once(async move {
        let _ = all_sent.send(());
        Ok(Bytes::new())
    });
    let body = begin(lines(LINES).chain(end), Echo, &CancellationToken::new());
    let sent = timeout(IDLE_TIMEOUT, sent).await;
    sent.expect("the lines are not read").unwrap();
    let (answers, is_whole) = read(body).await;
    assert_eq!((answers.len(), is_whole), (LINES, true));
    assert_eq!(answers[LINES - 1]["line"], LINES);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_too_much_before_it_reads_gets_batch_idle() {
    let lines = lines(2 * BYTES_AHEAD_MAX as usize / ANSWER_BYTES);
    let (all_sent, sent) = oneshot::channel();
    let end = stream::once(async move {
        let _ = all_sent.send(());
        Ok(Bytes::new())
    });
    let body = begin(lines.chain(end), LongAnswers, &CancellationToken::new());
    let begun = Instant::now();
    // Lines that get no answer any more are still read, so that the client can begin to read answers.
    sent.await.unwrap();
    assert_eq!(begun.elapsed(), IDLE_TIMEOUT);
    let (answers, is_whole) = read(body).await;
    check_interrupted(&answers, is_whole, "BATCH_IDLE");
    assert_eq!(answers.len() - 1, LONG_ANSWERS_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_slowly_is_not_idle() {
    const LINES: usize = 20;
    let lines = lines(LINES).then(|line| async move {
        sleep(IDLE_TIMEOUT - Duration::from_secs(1)).await;
        line
    });
    let (answers, is_whole) = read(begin(lines, Echo, &CancellationToken::new())).await;
    assert_eq!((answers.len(), is_whole), (LINES, true));
}

#[tokio::test(start_paused = true)]
async fn a_stopping_node_names_the_first_line_not_taken_and_breaks_off() {
    let closing = CancellationToken::new();
    let mut body = begin(lines(3).chain(stream::pending()), Echo, &closing);
    let mut first = Vec::new();
    while first.split(|byte| *byte == b'\n').count() <= 3 {
        first.extend_from_slice(&body.next().await.unwrap().unwrap());
    }
    let begun = Instant::now();
    closing.cancel();
    let (last, is_whole) = read(body).await;
    assert_eq!(begun.elapsed(), LAST_LINE_GRACE);
    assert_eq!(last.len(), 1, "{last:?}");
    assert_eq!(
        (&last[0]["code"], &last[0]["line"]),
        (&json!("BATCH_STOPPED"), &json!(4))
    );
    assert!(!is_whole);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_the_last_line_of_a_stopping_node() {
    let (closing, flushes) = (CancellationToken::new(), Flushes::default());
    let connection = ClientConnection::new(flushes.clone());
    let lines = Body::from_stream(lines(3).chain(stream::pending()));
    let reading = tokio::spawn(read(begin_on(connection, lines, Echo, &closing)));
    closing.cancel();
    let begun = Instant::now();
    // The server has the last line, and the client begins to read later.
    sleep(2 * LAST_LINE_GRACE).await;
    assert!(
        !reading.is_finished(),
        "the body broke off before the flush"
    );
    flushes.add();
    let (answers, is_whole) = reading.await.unwrap();
    assert_eq!(begun.elapsed(), 3 * LAST_LINE_GRACE);
    check_interrupted(&answers, is_whole, "BATCH_STOPPED");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_gets_no_clean_end() {
    let lines = lines(3).map(|line| Ok(line.expect("lines don't fail")));
    let broken = stream::once(async { Err(io::Error::other("reset")) });
    let body = begin(lines.chain(broken), Echo, &CancellationToken::new());
    let (answers, is_whole) = read(body).await;
    check_interrupted(&answers, is_whole, "BATCH_CUT_OFF");
    assert_eq!(answers.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_never_a_clean_end() {
    let (answers, is_whole) = read(begin(lines(3), Failing, &CancellationToken::new())).await;
    assert_eq!((answers.len(), is_whole), (1, false));
}

#[tokio::test(start_paused = true)]
async fn a_line_without_a_share_of_the_budget_is_refused_alone() {
    let budget = Budget::new(2 * u32::try_from(ANSWER_BYTES).unwrap());
    let held = budget.try_take(ANSWER_BYTES + 1).unwrap();
    let (send, receive) = mpsc::channel(1);
    let body = Body::from_stream(ReceiverStream::new(receive).map(Ok::<_, Infallible>));
    let response = batch_stream(
        body,
        Echo,
        Echo,
        &budget,
        CancellationToken::new(),
        ClientConnection::default(),
    );
    let mut body = response.into_body().into_data_stream();
    send.send(Bytes::from_static(b"x\n")).await.unwrap();
    let refused: Value = serde_json::from_slice(&body.next().await.unwrap().unwrap()).unwrap();
    assert_eq!(
        (&refused["status"], &refused["code"], &refused["line"]),
        (&json!(503), &json!("OVERLOADED"), &json!(1))
    );
    drop(held);
    send.send(Bytes::from_static(b"x\n")).await.unwrap();
    drop(send);
    let (answers, is_whole) = read(body).await;
    assert_eq!((answers[0]["line"].as_u64(), is_whole), (Some(2), true));
}

#[tokio::test(start_paused = true)]
async fn unread_answers_are_bounded_and_are_dropped_with_their_response() {
    let budget = Budget::default();
    let body = Body::from_stream(lines(2 * BYTES_AHEAD_MAX as usize / ANSWER_BYTES));
    let response = batch_stream(
        body,
        Echo,
        LongAnswers,
        &budget,
        CancellationToken::new(),
        ClientConnection::default(),
    );
    sleep(2 * IDLE_TIMEOUT).await;
    let all = service::budget::BYTES_DEFAULT as usize;
    let unread = LONG_ANSWERS_MAX * ANSWER_BYTES;
    budget
        .try_take(all - unread + 1)
        .expect_err("unread answers don't count");
    budget.try_take(all - unread).expect("more waits than may");
    assert!(!response.body().is_end_stream());
    drop(response);
    tokio::task::yield_now().await;
    budget.try_take(all).expect("shares outlive their answers");
}
