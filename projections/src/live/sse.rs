//! A client's stream as server-sent events.

use super::{client::Output, hub::End, start::Subscriber};
use axum::{
    body::{Body, Bytes},
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde_json::json;
use std::convert::Infallible;

/// Time after which a browser connects again, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// The response.
pub fn respond(subscriber: Subscriber) -> Response {
    let events = stream::unfold(subscriber, async |mut subscriber| {
        let output = subscriber.client.next().await?;
        Some((Ok::<_, Infallible>(text(&output)), subscriber))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Tells proxies not to buffer the events.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
    (headers, Body::from_stream(events)).into_response()
}

fn text(output: &Output) -> Bytes {
    match output {
        // An event without data only sets the client's last event id.
        Output::Connected(id) => format!("retry: {RETRY_MS}\nid: {id}\n\n").into(),
        Output::Event(frame) => frame.sse(),
        Output::Heartbeat => Bytes::from_static(b":\n\n"),
        Output::End(end) => {
            let body = json!({"code": end.code(), "detail": end.detail()});
            format!("event: error\ndata: {body}\n\n").into()
        }
    }
}

impl End {
    /// The stable code of the reason.
    pub fn code(self) -> &'static str {
        match self {
            Self::TooSlow => "CLIENT_TOO_SLOW",
            Self::Halted => "JOURNAL_HALTED",
            Self::ResumeFailed => "RESUME_FAILED",
            Self::UnknownLastEvent => "LAST_EVENT_UNKNOWN",
            Self::Overloaded => "OVERLOADED",
            Self::Stopping => "NODE_STOPPING",
        }
    }

    /// The reason as text, with the client's next step.
    pub fn detail(self) -> &'static str {
        match self {
            Self::TooSlow => {
                "more events were waiting than this node keeps for one client: connect again with the id of \
                the last event, and read faster"
            }
            Self::Halted => {
                "this node can't read the journal any further: report it to the operator, and connect to \
                another node"
            }
            Self::ResumeFailed => {
                "the events since the last event can't be read now: connect again later with the id \
                of the last event"
            }
            Self::UnknownLastEvent => {
                "the journal has no record at Last-Event-ID: connect again without Last-Event-ID, \
                and read the orders again"
            }
            Self::Overloaded => {
                "this node's memory for missed events is used up: connect again later, or to another node, with \
                the id of the last event"
            }
            Self::Stopping => {
                "this node is stopping: connect again, to any node, with the id of the last event"
            }
        }
    }
}
