//! Request headers that commands heed, and response headers that answers bear.

use crate::{
    call::{Call, Command},
    identity::{IdempotencyKey, Principal},
    outcome::Done,
};
use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use service::{problem::Problem, trace::TraceContext};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const DAYBOOK_POSITION: HeaderName = HeaderName::from_static("daybook-position");

/// What of the headers concerns a command.
#[derive(Debug, Default)]
pub struct CommandHeaders {
    pub key: Option<IdempotencyKey>,
    pub expected_version: Option<i64>,
}

impl CommandHeaders {
    pub fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let key = match headers.get(IDEMPOTENCY_KEY) {
            Some(value) => Some(read_key(value)?),
            None => None,
        };
        let expected_version = match headers.get(header::IF_MATCH) {
            Some(value) => Some(read_version(value)?),
            None => None,
        };
        Ok(Self {
            key,
            expected_version,
        })
    }

    /// The command that `principal` asks for under these headers, in the request's span.
    pub fn command(self, principal: &Principal, trace: &TraceContext, call: Call) -> Command {
        Command {
            expected_version: self.expected_version,
            traceparent: Some(trace.to_string()),
            ..Command::new(principal, self.key.as_ref(), call)
        }
    }
}

fn read_key(value: &HeaderValue) -> Result<IdempotencyKey, Problem> {
    let parsed = value
        .to_str()
        .ok()
        .and_then(|text| IdempotencyKey::parse(text).ok());
    parsed.ok_or_else(|| {
        let detail = crate::identity::KeyError.to_string();
        Problem::new(StatusCode::BAD_REQUEST, "IDEMPOTENCY_KEY_INVALID", detail)
    })
}

/// An ETag of ours is the version in quotation marks.
fn read_version(value: &HeaderValue) -> Result<i64, Problem> {
    let text = value
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix('"')?.strip_suffix('"'));
    text.and_then(|digits| digits.parse().ok()).ok_or_else(|| {
        let detail = "If-Match must be one ETag as an earlier answer gave it, such as \"3\"";
        Problem::new(StatusCode::BAD_REQUEST, "IF_MATCH_INVALID", detail)
    })
}

/// A done command's response: status, body, ETag and position.
pub fn respond(done: &Done, topic: &str, body: serde_json::Value) -> Response {
    let mut response = (done.status, axum::Json(body)).into_response();
    let headers = response.headers_mut();
    let position = position(topic, done.answer.partition, done.answer.offset);
    for (name, text) in [
        (header::ETAG, format!("\"{}\"", done.answer.version)),
        (DAYBOOK_POSITION, position),
    ] {
        let value = HeaderValue::from_str(&text).expect("versions and positions are ASCII");
        headers.insert(name, value);
    }
    if done.answer.replayed {
        headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// `journal.orders/3@1234`: where a commit stands.
pub fn position(topic: &str, partition: i32, offset: i64) -> String {
    format!("{topic}/{partition}@{offset}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &'static str, value: &str) -> Result<CommandHeaders, Problem> {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        CommandHeaders::read(&HeaderMap::from_iter([(
            HeaderName::from_static(name),
            value,
        )]))
    }

    #[test]
    fn refuses_what_it_would_otherwise_have_to_ignore() {
        assert_eq!(read("if-match", "\"3\"").unwrap().expected_version, Some(3));
        for bad in ["3", "*", "W/\"3\"", "\"x\"", "\"3\", \"4\""] {
            assert_eq!(
                read("if-match", bad).unwrap_err().code,
                "IF_MATCH_INVALID",
                "{bad}"
            );
        }
        assert_eq!(
            read("idempotency-key", "").unwrap_err().code,
            "IDEMPOTENCY_KEY_INVALID"
        );
    }
}
