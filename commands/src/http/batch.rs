//! Many commands in one request, streamed both ways: one line per command, one line per answer, in order.
//!
//! Commands of one partition are decided in the order of their lines. At most [`LINES_AHEAD_MAX`] lines,
//! and as many bytes of them as [`Room`] holds, are read ahead of their answers.

use super::answer_counters::AnswerCounters;
use crate::{
    contexts,
    envelope::CommandEnvelope,
    handle::WriteSide,
    identity::{IdempotencyKey, Principal},
    ndjson::{LINE_BYTES_MAX, Line, Lines, Room, Taken, check_media_type, respond},
    outcome::{problem, to_response},
    owners::AnswerReceiver,
    request::position,
    routing::{in_flight::ANSWER_TIMEOUT, pipeline::PartitionPipelines},
};
use axum::{
    body::Body,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use futures_util::StreamExt;
use journal::owner::Refusal;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use service::{json, problem::Problem, trace::TraceContext};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tracing::Instrument;

/// Most lines that were read and whose answers are not written yet.
pub const LINES_AHEAD_MAX: usize = 1_024;

/// One line of the request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandLine {
    /// The idempotency key.
    key: String,
    /// The command's name.
    command: String,
    /// Its body.
    body: Box<RawValue>,
}

/// A line that was submitted, or refused before.
struct PendingLine {
    number: u64,
    submitted: Result<Submitted, Problem>,
}

/// A line's command, without an answer yet.
struct Submitted {
    command: &'static str,
    /// The aggregate's id as clients know it.
    id: String,
    topic: &'static str,
    answer: AnswerReceiver,
}

/// Takes many commands, one JSON object per line, and answers each with one line, in order.
///
/// A line is `{"key": <idempotency key>, "command": <name>, "body": {...}}`, with any command of this
/// document by its name, `ImportSale` and `ImportCreditNote` too. An answer is `{"line", "status", "id",
/// "version", "events", "position", "replayed"}`, or problem details with the line's number.
#[utoipa::path(post, path = "/admin/commands", tag = "operations",
    request_body(content = String, content_type = "application/x-ndjson",
        description = "Lines of at most 1 MiB each. The body as a whole has no limit."),
    responses(
        (status = 200, content_type = "application/x-ndjson", body = String,
            description = "One line per command."),
        (status = 415, description = "The body is not application/x-ndjson.", body = Problem)))]
pub async fn commands(
    write_side: WriteSide,
    trace: TraceContext,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    check_media_type(&headers)?;
    let (sender, pending) = mpsc::channel(LINES_AHEAD_MAX);
    tokio::spawn(submit_lines(write_side, trace, body, sender).in_current_span());
    let mut counters = AnswerCounters::default();
    let answers = ReceiverStream::new(pending).then(|(pending, taken)| async move {
        let line = answer(pending).await;
        drop(taken);
        line
    });
    Ok(respond(answers.map(move |line| {
        counters.count(line.command, line.status);
        line.text
    })))
}

/// Reads lines and submits their commands, one after the other, until the body, its reader or the service
/// ends. Lines that were submitted before still get their answers.
async fn submit_lines(
    write_side: WriteSide,
    trace: TraceContext,
    body: Body,
    sender: mpsc::Sender<(PendingLine, Taken)>,
) {
    let traceparent = trace.to_string();
    let mut lines = Lines::new(body.into_data_stream());
    let mut pipelines = PartitionPipelines::new(write_side.router.clone());
    let room = Room::default();
    for number in 1.. {
        let line = match write_side.stop.run_until_cancelled(lines.next()).await {
            None => {
                tracing::info!(line = number, "batch is cut off because the service stops");
                return;
            }
            Some(Ok(Some(line))) => line,
            Some(Ok(None)) => return,
            Some(Err(error)) => {
                tracing::info!(line = number, %error, "client disconnected in the middle of a batch");
                return;
            }
        };
        let taken = room.take(&line).await;
        let submitted = submit(&write_side, &mut pipelines, &traceparent, &line).await;
        if sender
            .send((PendingLine { number, submitted }, taken))
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn submit(
    write_side: &WriteSide,
    pipelines: &mut PartitionPipelines,
    traceparent: &str,
    line: &Line,
) -> Result<Submitted, Problem> {
    let Line::Text(text) = line else {
        let detail = format!("send lines of at most {LINE_BYTES_MAX} bytes");
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "LINE_TOO_LONG",
            detail,
        ));
    };
    let command = json::read::<CommandLine>(text)?.into_command(traceparent)?;
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let in_flight = write_side.router.in_flight(command, deadline);
    let in_flight = in_flight.map_err(|error| problem(Refusal::Unencodable(error.to_string())))?;
    Ok(Submitted {
        command: in_flight.name(),
        id: in_flight.subject().to_owned(),
        topic: in_flight.target().topic,
        answer: pipelines.enqueue(in_flight).await,
    })
}

impl CommandLine {
    /// The command, in the span of the line's request.
    fn into_command(self, traceparent: &str) -> Result<CommandEnvelope, Problem> {
        let key = IdempotencyKey::parse(&self.key).map_err(|error| {
            let detail = format!("key: {error}");
            Problem::new(StatusCode::BAD_REQUEST, "IDEMPOTENCY_KEY_INVALID", detail)
        })?;
        let command = contexts::command(&self.command).ok_or_else(|| unknown(&self.command))?;
        let body = command.read(self.body.get().as_bytes())?;
        Ok(CommandEnvelope {
            traceparent: Some(traceparent.to_owned()),
            ..CommandEnvelope::new(&Principal::import(), Some(&key), body)
        })
    }
}

fn unknown(name: &str) -> Problem {
    let names: Vec<&str> = contexts::all_commands()
        .map(|command| command.name)
        .collect();
    let detail = format!(
        "command: unknown command {name:?}; send one of {}",
        names.join(", ")
    );
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "FIELD_INVALID", detail).with("field", "command")
}

/// A line's answer.
struct AnswerLine {
    command: &'static str,
    status: StatusCode,
    text: Vec<u8>,
}

/// Waits for a line's answer and writes it.
async fn answer(pending: PendingLine) -> AnswerLine {
    let number = pending.number;
    let (command, written) = match pending.submitted {
        Ok(submitted) => (submitted.command, written(number, submitted).await),
        Err(problem) => ("none", Err(problem)),
    };
    let (status, body) =
        written.unwrap_or_else(|problem| (problem.status, problem.with("line", number).body()));
    let mut text = body.to_string().into_bytes();
    text.push(b'\n');
    AnswerLine {
        command,
        status,
        text,
    }
}

/// The status and the JSON of an accepted command's answer.
async fn written(
    number: u64,
    submitted: Submitted,
) -> Result<(StatusCode, serde_json::Value), Problem> {
    // The pipeline observes the command's deadline.
    let answered = submitted.answer.await.unwrap_or_else(|_| {
        let reason = "the command's pipeline has ended";
        Err(Refusal::Unavailable(reason.into()))
    });
    let (status, answer) = to_response(answered)?;
    let body = json!({
        "line": number,
        "status": status.as_u16(),
        "id": submitted.id,
        "version": answer.version,
        "events": answer.events,
        "position": position(submitted.topic, answer.partition, answer.offset),
        "replayed": answer.replayed,
    });
    Ok((status, body))
}
