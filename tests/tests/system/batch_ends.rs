//! Batches of clients that don't read while they send, and batches of a node that stops.
//!
//! The clients write to their sockets themselves: a library would read answers while it sends.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{collections::HashSet, time::Duration};
use system_tests::{Deployment, audit_log, expect_eq};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpSocket,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

/// Longest time to send a batch, and longest time to read its answers.
const BATCH_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time from SIGTERM to the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// The client's receive buffer, in bytes: unread answers must not fit into the two systems' buffers.
const RECEIVE_BUFFER_BYTES: u32 = 4 << 10;
/// Lines whose answers exceed the two systems' buffers, but not the node's.
const MANY_LINES: usize = 60_000;
/// The same number as a metric's value.
const MANY_ANSWERED: f64 = 60_000.0;
/// Bytes of a line; the lines must not fit into the systems' buffers either.
const LONG_LINE_BYTES: usize = 1 << 10;
/// Commands that are answered when the node is told to stop.
const STOPPED_AFTER: f64 = 2_000.0;
/// Lines in one chunk of a body.
const LINES_TOGETHER: usize = 50;

/// A line that is answered at once, without a decision.
const BAD_LINE: &str = "x";

pub async fn a_client_that_sends_every_line_before_it_reads_gets_every_answer(
    deployment: &Deployment,
) -> Result<()> {
    let _node = deployment.commands().await?;
    let (mut lines, answers) = begin(deployment).await?;
    let line = format!("{BAD_LINE:<width$}\n", width = LONG_LINE_BYTES - 1);
    let sending = async {
        for _ in 0..MANY_LINES / LINES_TOGETHER {
            send(&mut lines, &line.repeat(LINES_TOGETHER)).await?;
        }
        end(&mut lines).await
    };
    let sent = timeout(BATCH_TIMEOUT, sending).await;
    sent.context("the node does not read lines whose answers are not read")??;
    let (answers, is_whole) = read(answers).await?;
    ensure!(
        is_whole,
        "the response broke off after {} answers",
        answers.len()
    );
    check_numbers(&answers)?;
    expect_eq("answers", &answers.len(), &MANY_LINES)
}

pub async fn a_client_that_reads_no_answers_does_not_delay_a_shutdown(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.commands().await?;
    let (mut lines, _answers) = begin(deployment).await?;
    send(&mut lines, &format!("{BAD_LINE}\n").repeat(MANY_LINES)).await?;
    node.answered(MANY_ANSWERED, BATCH_TIMEOUT).await?;
    let (status, time) = node.terminate(SHUTDOWN_TIMEOUT).await?;
    ensure!(
        status.success(),
        "it ended with {status} instead of 0 after {time:?}"
    );
    Ok(())
}

pub async fn a_client_that_reads_only_after_the_signal_gets_the_last_line(
    deployment: &Deployment,
) -> Result<()> {
    let node = deployment.commands().await?;
    let (mut lines, answers) = begin(deployment).await?;
    send(&mut lines, &format!("{BAD_LINE}\n").repeat(MANY_LINES)).await?;
    node.answered(MANY_ANSWERED, BATCH_TIMEOUT).await?;
    node.signal("TERM").await?;
    let (answers, is_whole) = read(answers).await?;
    ensure!(
        !is_whole,
        "the response has a clean end after {} lines",
        answers.len()
    );
    check_numbers(&answers)?;
    let last = answers.last().context("the response has no lines")?;
    ensure!(
        last["code"] == "BATCH_STOPPED",
        "the last line does not have the code BATCH_STOPPED: {last}"
    );
    expect_eq("answers", &answers.len(), &(MANY_LINES + 1))
}

pub async fn a_batch_of_a_stopping_node_reports_where_it_stopped_and_breaks_off(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.commands().await?;
    let (mut lines, answers) = begin(deployment).await?;
    // The client sends until the node accepts no more lines.
    let sending = tokio::spawn(async move {
        for first in (1..).step_by(LINES_TOGETHER) {
            let numbers = first..first + LINES_TOGETHER;
            let chunk: String = numbers.map(|number| product(number) + "\n").collect();
            if send(&mut lines, &chunk).await.is_err() {
                return;
            }
        }
    });
    let reading = tokio::spawn(read(answers));
    node.answered(STOPPED_AFTER, BATCH_TIMEOUT).await?;
    let (status, time) = node.terminate(SHUTDOWN_TIMEOUT).await?;
    ensure!(
        status.success(),
        "it ended with {status} instead of 0 after {time:?}"
    );
    sending.await?;

    let (answers, is_whole) = reading.await??;
    ensure!(
        !is_whole,
        "the response has a clean end after {} lines",
        answers.len()
    );
    check_numbers(&answers)?;
    let last = answers.last().context("the response has no lines")?;
    ensure!(
        last["code"] == "BATCH_STOPPED",
        "the last line does not have the code BATCH_STOPPED: {last}"
    );
    let mut decided = HashSet::new();
    audit_log::read(deployment, &["--context", "catalog"], |decision| {
        decided.insert(decision.key);
        Ok(())
    })
    .await?;
    let taken = answers.len() - 1;
    for (number, answer) in (1..=taken).zip(&answers) {
        let was_decided = decided.remove(&format!("product_{}", sku(number)));
        ensure!(
            was_decided || answer["status"] == 503,
            "neither in the log nor refused with 503: {answer}"
        );
    }
    ensure!(decided.is_empty(), "decided without an answer: {decided:?}");
    audit_log::verify(deployment).await.map(drop)
}

fn sku(number: usize) -> String {
    format!("SKU-{number}")
}

fn product(number: usize) -> String {
    let body = json!({"sku": sku(number), "description": "a product"});
    let key = format!("k/{number}");
    json!({"key": key, "command": "CreateProduct", "body": body}).to_string()
}

/// Opens a connection and begins a batch on it.
async fn begin(deployment: &Deployment) -> Result<(OwnedWriteHalf, OwnedReadHalf)> {
    let address = deployment.listen();
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    let (answers, mut lines) = socket.connect(address).await?.into_split();
    let head = format!(
        "POST /api/v1/admin/commands HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    lines.write_all(head.as_bytes()).await?;
    Ok((lines, answers))
}

/// Sends lines as one chunk.
async fn send(lines: &mut OwnedWriteHalf, text: &str) -> Result<()> {
    let chunk = format!("{:x}\r\n{text}\r\n", text.len());
    let sent = timeout(BATCH_TIMEOUT, lines.write_all(chunk.as_bytes())).await;
    Ok(sent.context("the node does not read a chunk")??)
}

/// Ends the body.
async fn end(lines: &mut OwnedWriteHalf) -> Result<()> {
    Ok(lines.write_all(b"0\r\n\r\n").await?)
}

/// Reads the response to its end; returns its lines, and whether its body is complete.
async fn read(mut answers: OwnedReadHalf) -> Result<(Vec<Value>, bool)> {
    let mut bytes = Vec::new();
    // After an error, the body is also incomplete.
    let read = timeout(BATCH_TIMEOUT, answers.read_to_end(&mut bytes)).await;
    let _ = read.context("the response does not end")?;
    let response = String::from_utf8(bytes)?;
    let (head, mut rest) = response.split_once("\r\n\r\n").context("no response")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "not a 200: {head}");
    let mut text = String::new();
    let is_whole = loop {
        let Some((size, chunk)) = rest.split_once("\r\n") else {
            break false;
        };
        let size = usize::from_str_radix(size, 16).with_context(|| size.to_owned())?;
        if size == 0 {
            break true;
        }
        let Some((content, next)) = chunk.split_at_checked(size) else {
            break false;
        };
        text.push_str(content);
        rest = next.trim_start_matches("\r\n");
    };
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).context("a line"));
    Ok((lines.collect::<Result<_>>()?, is_whole))
}

/// Checks that the lines of a response are about line 1, 2 and so on.
fn check_numbers(answers: &[Value]) -> Result<()> {
    for (number, answer) in (1..).zip(answers) {
        ensure!(
            answer["line"] == number,
            "{answer} instead of line {number}"
        );
    }
    Ok(())
}
