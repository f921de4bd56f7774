//! Many commands in one request, streamed both ways: one line per command, one line per answer, in order.
//!
//! Commands of one partition are decided in the order of their lines. [`super::batch_stream`] has the bounds.

use super::{
    answer_counters::AnswerCounters,
    batch_stream::{Answer, Submit, batch_stream},
};
use crate::{
    contexts,
    envelope::CommandEnvelope,
    handle::{WriteSide, WriteSideHandle},
    identity::{IdempotencyKey, Principal},
    ndjson::{LINE_BYTES_MAX, Line, check_media_type},
    outcome::{problem, to_response},
    owners::AnswerReceiver,
    request::position,
    routing::{in_flight::ANSWER_TIMEOUT, pipeline::PartitionPipelines},
};
use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use journal::owner::Refusal;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use service::{
    budget::Share, connection::ClientConnection, json, problem::Problem, trace::TraceContext,
};
use tokio::time::Instant;

/// A line of a request, for the OpenAPI document.
const LINE_EXAMPLE: &str = concat!(
    r#"{"key":"k-1","command":"CreateProduct","body":{"sku":"85123A","description":""}}"#,
    "\n"
);
/// The answer to this line, for the OpenAPI document.
const ANSWER_EXAMPLE: &str = concat!(
    r#"{"line":1,"status":201,"id":"85123A","version":1,"events":1,"position":"journal.catalog/2@17","#,
    r#""replayed":false}"#,
    "\n"
);

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

/// A submitted command without an answer yet.
struct Submitted {
    command: &'static str,
    /// The aggregate's id as clients know it.
    id: String,
    topic: &'static str,
    answer: AnswerReceiver,
}

/// Takes many commands, one JSON object per line, and answers each with one line, in order.
///
/// A line is `{"key": <idempotency key>, "command": <name>, "body": {...}}`, where the name is that of any
/// command in this document, including `ImportSale` and `ImportCreditNote`. An answer is `{"line", "status",
/// "id", "version", "events", "position", "replayed"}`, or problem details with `line`.
///
/// Read answers while you send: at most 16 MiB of lines and unread answers wait. If the batch is interrupted,
/// the last line is a problem with the number of the first line that was not taken, and the body breaks off
/// after it: `BATCH_STOPPED` (the node is stopping), `BATCH_IDLE` (no line came and no answer was read for 60
/// s) or `BATCH_CUT_OFF` (the request's body broke off). Send that line and all lines after it again.
#[utoipa::path(post, path = "/admin/commands", tag = "operations",
    request_body(content = String, content_type = "application/x-ndjson",
        description = "Lines of at most 1 MiB each. The body as a whole has no limit.", example = json!(LINE_EXAMPLE)),
    responses(
        (status = 200, content_type = "application/x-ndjson", body = String,
            description = "One line per command.", example = json!(ANSWER_EXAMPLE)),
        (status = 400, description = "UNKNOWN_OR_INVALID_PARAMETER: commands have no parameters in the query string.", body = Problem),
        (status = 415, description = "CONTENT_TYPE_NOT_NDJSON, CHARSET_NOT_UTF_8 or CONTENT_ENCODING_NOT_IDENTITY: send the body as application/x-ndjson in UTF-8, without an encoding.", body = Problem),
        (status = 503, description = "JOURNAL_UNAVAILABLE: the node is starting. OVERLOADED: its budget for waiting requests is used up. Send the request again later.", body = Problem)))]
pub async fn commands(
    State(handle): State<WriteSideHandle>,
    trace: TraceContext,
    connection: ClientConnection,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    check_media_type(&headers)?;
    let write_side = handle.get()?;
    let closing = write_side.closing.clone();
    let submit = Commands {
        pipelines: PartitionPipelines::new(write_side.router.clone()),
        write_side,
        traceparent: trace.to_string(),
    };
    let answers = Answers::default();
    Ok(batch_stream(
        body,
        submit,
        answers,
        handle.budget(),
        closing,
        connection,
    ))
}

/// Submits the commands of one batch.
struct Commands {
    write_side: WriteSide,
    pipelines: PartitionPipelines,
    traceparent: String,
}

impl Submit for Commands {
    type Submitted = Submitted;

    async fn submit(&mut self, line: &Line, share: Share) -> Result<Submitted, Problem> {
        let Line::Text(text) = line else {
            let detail = format!("send lines of at most {LINE_BYTES_MAX} bytes");
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "LINE_TOO_LONG",
                detail,
            ));
        };
        let command = json::read::<CommandLine>(text)?.into_command(&self.traceparent)?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let in_flight = self.write_side.router.in_flight(command, deadline);
        let in_flight =
            in_flight.map_err(|error| problem(Refusal::Unencodable(error.to_string())))?;
        let in_flight = in_flight.with_share(share);
        Ok(Submitted {
            command: in_flight.name(),
            id: in_flight.subject().to_owned(),
            topic: in_flight.target().topic,
            answer: self.pipelines.enqueue(in_flight).await,
        })
    }
}

impl CommandLine {
    /// The command, with the trace context of the line's request.
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

/// Writes the answers of one batch.
#[derive(Default)]
struct Answers {
    counters: AnswerCounters,
}

impl Answer<Submitted> for Answers {
    async fn answer(&mut self, number: u64, submitted: Result<Submitted, Problem>) -> Vec<u8> {
        let (command, written) = match submitted {
            Ok(submitted) => (submitted.command, written(number, submitted).await),
            Err(problem) => ("none", Err(problem)),
        };
        let (status, body) =
            written.unwrap_or_else(|problem| (problem.status, problem.with("line", number).body()));
        self.counters.count(command, status);
        let mut text = body.to_string().into_bytes();
        text.push(b'\n');
        text
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
