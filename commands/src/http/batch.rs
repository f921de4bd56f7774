//! Many commands in one request, streamed both ways: a line in, a line out, in order.
//!
//! Commands of one partition are decided in the order of their lines, for one task hands them in.
//! At most [`LINES_UNDER_WAY_MAX`] lines, and so many bytes of them as [`Room`] has, are read ahead of
//! their answers.

use super::{
    answered::Answered,
    headers::position,
    lines::{LINE_BYTES_MAX, Line, Lines, Room, Taken, check_media_type, respond},
    products::field_problem,
};
use crate::{
    call::{Call, Command},
    identity::{IdempotencyKey, Principal},
    outcome::{Done, settle},
    routing::lane::{Coming, Lanes},
    write_side::{ANSWER_TIMEOUT, WriteSide},
};
use axum::{
    body::Body,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use domain::{Decider, Product};
use futures_util::StreamExt;
use journal::owner::Refusal;
use schemas::{context::ORDERS, ids::split_key};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use service::{problem::Problem, trace::TraceContext};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tracing::Instrument;

/// Most lines handed in without an answer written.
pub const LINES_UNDER_WAY_MAX: usize = 1_024;

/// One line of the request.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandLine<'a> {
    /// The idempotency key.
    #[schema(example = "sale/536365")]
    key: String,
    /// Which command.
    command: CommandName,
    /// Its fields: a `SaleBody` or a `ProductBody`.
    #[serde(borrow)]
    #[schema(value_type = Object)]
    body: &'a RawValue,
}

/// The commands that can be sent so.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
pub enum CommandName {
    /// Takes over a sale.
    ImportSale,
    /// Takes over a credit note.
    ImportCreditNote,
    /// Puts a product on the books.
    CreateProduct,
}

/// A line that was handed in, or refused before.
struct Under {
    line: u64,
    /// What it is about.
    id: String,
    topic: &'static str,
    command: &'static str,
    coming: Result<Coming, Problem>,
}

/// Takes many commands, one JSON object a line, and answers each with a line, in order.
#[utoipa::path(post, path = "/admin/commands", tag = "operations",
    request_body(content = String, content_type = "application/x-ndjson",
        description = "Lines {\"key\", \"command\": ImportSale | ImportCreditNote | CreateProduct, \"body\"}, at most 1 MiB each; the body as a whole has no limit."),
    responses(
        (status = 200, content_type = "application/x-ndjson", body = String,
            description = "A line for each: {line, status, id, version, events, position, replayed}, or problem details with the line's number."),
        (status = 415, description = "Not application/x-ndjson.", body = Problem)))]
pub async fn commands(
    write_side: WriteSide,
    trace: TraceContext,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    check_media_type(&headers)?;
    let (sender, under_way) = mpsc::channel(LINES_UNDER_WAY_MAX);
    tokio::spawn(hand_in(write_side, trace, body, sender).in_current_span());
    let mut answered = Answered::default();
    let answers = ReceiverStream::new(under_way).then(|(under, taken)| async move {
        let line = answer(under).await;
        drop(taken);
        line
    });
    Ok(respond(answers.map(move |line| {
        answered.count(line.command, line.status);
        line.text
    })))
}

/// Reads lines and hands their commands in, one after the other, until the body, its reader or the
/// service ends. Lines that were handed in before get their answers.
async fn hand_in(
    write_side: WriteSide,
    trace: TraceContext,
    body: Body,
    sender: mpsc::Sender<(Under, Taken)>,
) {
    let traceparent = trace.to_string();
    let mut lines = Lines::new(body.into_data_stream());
    let mut lanes = Lanes::new(write_side.router.clone());
    let room = Room::default();
    for number in 1.. {
        let line = match write_side.stop.run_until_cancelled(lines.next()).await {
            None => {
                tracing::info!(
                    line = number,
                    "a batch is broken off, for the service stops"
                );
                return;
            }
            Some(Ok(Some(line))) => line,
            Some(Ok(None)) => return,
            Some(Err(error)) => {
                tracing::info!(line = number, %error, "the client went away in mid-batch");
                return;
            }
        };
        let taken = room.take(&line).await;
        let under = hand_in_line(&write_side, &mut lanes, &traceparent, number, &line).await;
        if sender.send((under, taken)).await.is_err() {
            return;
        }
    }
}

async fn hand_in_line(
    write_side: &WriteSide,
    lanes: &mut Lanes,
    traceparent: &str,
    number: u64,
    line: &Line,
) -> Under {
    let handed_in = async {
        let Line::Text(text) = line else {
            let detail = format!("a line has at most {LINE_BYTES_MAX} bytes");
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "LINE_TOO_LONG",
                detail,
            ));
        };
        let command = read::<CommandLine>(text)?.into_command(traceparent)?;
        let name = command.call.name();
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let journey = write_side.router.journey(command, deadline);
        let journey = journey.map_err(field_problem)?;
        let (topic, _) = journey.place();
        Ok(Under {
            line: number,
            id: subject(journey.key()).to_owned(),
            topic,
            command: name,
            coming: Ok(lanes.put(journey).await),
        })
    };
    handed_in.await.unwrap_or_else(|problem| Under {
        line: number,
        id: String::new(),
        topic: ORDERS.topic,
        command: "none",
        coming: Err(problem),
    })
}

/// What a command is about, as clients name it: a product by its SKU, all else by its key.
fn subject(key: &str) -> &str {
    match split_key(key) {
        Some((Product::AGGREGATE_TYPE, sku)) => sku,
        Some(_) | None => key,
    }
}

impl CommandLine<'_> {
    /// The command, in the span of the request that the line is of.
    fn into_command(self, traceparent: &str) -> Result<Command, Problem> {
        let key = IdempotencyKey::parse(&self.key).map_err(|error| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "IDEMPOTENCY_KEY_INVALID",
                error.to_string(),
            )
        })?;
        let body = self.body.get().as_bytes();
        let call = match self.command {
            CommandName::ImportSale => Call::ImportSale(read(body)?),
            CommandName::ImportCreditNote => Call::ImportCreditNote(read(body)?),
            CommandName::CreateProduct => Call::CreateProduct(read(body)?),
        };
        Ok(Command {
            traceparent: Some(traceparent.to_owned()),
            ..Command::new(&Principal::import(), Some(&key), call)
        })
    }
}

/// Reads JSON of a known shape; says where it is not.
fn read<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(text).map_err(|error| {
        let (status, code) = match error.classify() {
            serde_json::error::Category::Data => (StatusCode::UNPROCESSABLE_ENTITY, "BODY_INVALID"),
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => (StatusCode::BAD_REQUEST, "BODY_MALFORMED"),
        };
        Problem::new(status, code, error.to_string())
    })
}

/// A line's answer.
struct AnswerLine {
    command: &'static str,
    status: StatusCode,
    text: Vec<u8>,
}

/// Waits for a line's answer and writes it.
async fn answer(under: Under) -> AnswerLine {
    let Under {
        line,
        id,
        topic,
        command,
        coming,
    } = under;
    let settled =
        match coming {
            // Its lane keeps to its deadline.
            Ok(coming) => settle(coming.await.unwrap_or_else(|_| {
                Err(Refusal::Unavailable("the command's lane has ended".into()))
            })),
            Err(problem) => Err(problem),
        };
    let status = settled
        .as_ref()
        .map_or_else(|problem| problem.status, |done| done.status);
    let body = match settled {
        Ok(Done { status, answer }) => json!({
            "line": line,
            "status": status.as_u16(),
            "id": id,
            "version": answer.version,
            "events": answer.events,
            "position": position(topic, answer.partition, answer.offset),
            "replayed": answer.replayed,
        }),
        Err(problem) => problem.with("line", line).body(),
    };
    let mut text = body.to_string().into_bytes();
    text.push(b'\n');
    AnswerLine {
        command,
        status,
        text,
    }
}
