//! One command in one HTTP request: its headers, its execution, its response and its problems. Command files depend
//! on this module, not on owners or routes.

use crate::{
    command::ErasedCommand,
    identity::{IdempotencyKey, Principal},
};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::future::BoxFuture;
use serde::Serialize;
use service::{problem::Problem, trace::TraceContext};
use std::{convert::Infallible, sync::Arc};
use utoipa::ToSchema;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const DAYBOOK_POSITION: HeaderName = HeaderName::from_static("daybook-position");

/// The request headers of a command.
#[derive(Debug, Clone, Default, utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
pub struct CommandHeaders {
    /// A retry with the same key gets the answer of the first request. Send the same body again; `If-Match`
    /// may name a newer version.
    #[param(rename = "Idempotency-Key", value_type = Option<String>, example = "e0a4c7f2-6d5b-4d0e-9d2c-7c1f4a9b8e33")]
    pub key: Option<IdempotencyKey>,
    /// The version that the aggregate must have: the ETag of an earlier answer. Without this header, any
    /// version is accepted.
    #[param(rename = "If-Match", value_type = Option<String>, example = "\"3\"")]
    pub expected_version: Option<i64>,
    /// W3C trace context; the commit joins that trace.
    #[param(rename = "traceparent", value_type = Option<String>,
        example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    pub traceparent: Option<String>,
}

/// The problems that every command can have. They are added to the OpenAPI document of each command, which documents the
/// rest itself: 201, 200, the problems of its rejections, and 422 for its fields.
#[derive(utoipa::IntoResponses)]
pub enum CommandProblems {
    /// BODY_MALFORMED, PATH_INVALID, IDEMPOTENCY_KEY_INVALID or IF_MATCH_INVALID: the body, the path or a header is
    /// malformed. UNKNOWN_OR_INVALID_PARAMETER: commands have no parameters in the query string.
    #[response(status = 400)]
    Malformed(Problem),
    /// JOURNAL_FORBIDDEN: an operator must allow the node to write to the journal.
    #[response(status = 403)]
    Forbidden(Problem),
    /// VERSION_MISMATCH: the problem has the current version; if the command still applies, send that version in
    /// If-Match.
    #[response(status = 412)]
    VersionMismatch(Problem),
    /// BODY_TOO_LARGE: the request's body exceeds 1 MiB. COMMIT_TOO_LARGE: the command's record would exceed the
    /// journal's limit, which the problem has. Send a smaller command.
    #[response(status = 413)]
    TooLarge(Problem),
    /// CONTENT_TYPE_NOT_JSON, CHARSET_NOT_UTF_8 or CONTENT_ENCODING_NOT_IDENTITY: send the body as application/json in
    /// UTF-8, without an encoding.
    #[response(status = 415)]
    OtherMediaType(Problem),
    /// IDEMPOTENCY_KEY_REUSED: the idempotency key was used for another command.
    #[response(status = 422)]
    KeyReused(Problem),
    /// JOURNAL_UNAVAILABLE, or BUSY or OVERLOADED if too many requests wait: send the command again later, with the
    /// same idempotency key.
    #[response(status = 503)]
    Unavailable(Problem),
}

/// The body of the answer to a command for an aggregate that has an `id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AggregateAnswer {
    /// The id of the aggregate.
    #[schema(example = "A-1")]
    pub id: String,
    /// The aggregate's version after the command.
    #[schema(example = 1)]
    pub version: i64,
}

impl AggregateAnswer {
    /// The answer of an aggregate.
    pub fn new(id: String, version: i64) -> Self {
        Self { id, version }
    }
}

/// A command of one request.
pub struct CommandRequest {
    /// The principal that sends it.
    pub principal: Principal,
    /// The request's headers, with the trace context of the request's own span.
    pub headers: CommandHeaders,
    /// The body.
    pub command: Box<dyn ErasedCommand>,
}

/// A command that was accepted, or that had nothing to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// 201 if events were recorded, 200 if there was nothing to change.
    pub status: StatusCode,
    /// The aggregate's id as clients know it: the id that they gave, else the record's key.
    pub id: String,
    /// The aggregate's version after the command.
    pub version: i64,
    /// The position of the command's commit, such as `journal.orders/3@1234`.
    pub position: String,
    /// Whether this is the answer of an earlier request with the same idempotency key.
    pub replayed: bool,
}

/// Executes commands.
pub trait Execute: Send + Sync {
    /// Sends the command to its owner and waits for the answer.
    ///
    /// # Errors
    /// A business rule rejected the command, or the command was not answered.
    fn execute(&self, request: CommandRequest) -> BoxFuture<'_, Result<Accepted, Problem>>;
}

/// The write side, as command handlers see it.
#[derive(Clone)]
pub struct Executor(Arc<dyn Execute>);

impl Executor {
    /// An executor that delegates to `execute`.
    pub fn new(execute: impl Execute + 'static) -> Self {
        Self(Arc::new(execute))
    }

    /// Executes the command of a request, and returns its response. `body` makes the response's body from the
    /// aggregate's id and version.
    ///
    /// # Errors
    /// See [`Execute::execute`].
    pub async fn answer<B: Serialize>(
        &self,
        headers: CommandHeaders,
        command: impl ErasedCommand + 'static,
        body: impl FnOnce(String, i64) -> B,
    ) -> Result<Response, Problem> {
        let request = CommandRequest {
            principal: Principal::import(),
            headers,
            command: Box::new(command),
        };
        Ok(self.0.execute(request).await?.into_response(body))
    }
}

impl CommandHeaders {
    /// Reads the headers.
    ///
    /// # Errors
    /// 400: a header is malformed.
    pub fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let key = single(headers, &IDEMPOTENCY_KEY, "IDEMPOTENCY_KEY_INVALID")?;
        let key = key.map(read_key).transpose()?;
        let expected_version = single(headers, &header::IF_MATCH, "IF_MATCH_INVALID")?;
        let expected_version = expected_version.map(read_version).transpose()?;
        Ok(Self {
            key,
            expected_version,
            traceparent: None,
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for CommandHeaders {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let trace: Result<TraceContext, Infallible> =
            TraceContext::from_request_parts(parts, state).await;
        Ok(Self {
            traceparent: trace.ok().map(|trace| trace.to_string()),
            ..Self::read(&parts.headers)?
        })
    }
}

/// A header that a request may have only once, because two values are ambiguous.
fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    code: &'static str,
) -> Result<Option<&'a HeaderValue>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => {
            let detail = format!("{name}: send this header once");
            Err(Problem::new(StatusCode::BAD_REQUEST, code, detail))
        }
    }
}

fn read_key(value: &HeaderValue) -> Result<IdempotencyKey, Problem> {
    let parsed = value
        .to_str()
        .ok()
        .and_then(|text| IdempotencyKey::parse(text).ok());
    parsed.ok_or_else(|| {
        let detail = format!("Idempotency-Key: {}", crate::identity::KeyError);
        Problem::new(StatusCode::BAD_REQUEST, "IDEMPOTENCY_KEY_INVALID", detail)
    })
}

/// Reads an ETag of this service: a version in quotation marks, without a sign or leading zeros.
fn read_version(value: &HeaderValue) -> Result<i64, Problem> {
    let text = value
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix('"')?.strip_suffix('"'));
    let is_ours = |digits: &&str| {
        digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0')
    };
    let version = text.filter(is_ours).and_then(|digits| digits.parse().ok());
    version.ok_or_else(|| {
        let detail = "If-Match: send one ETag of an earlier answer unchanged, such as \"3\"";
        Problem::new(StatusCode::BAD_REQUEST, "IF_MATCH_INVALID", detail)
    })
}

impl Accepted {
    /// The response: status, body, `ETag`, `Daybook-Position` and `Idempotent-Replayed`.
    fn into_response<B: Serialize>(self, body: impl FnOnce(String, i64) -> B) -> Response {
        let body = body(self.id, self.version);
        let mut response = (self.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        for (name, text) in [
            (header::ETAG, format!("\"{}\"", self.version)),
            (DAYBOOK_POSITION, self.position),
        ] {
            let value = HeaderValue::from_str(&text).expect("versions and positions are ASCII");
            headers.insert(name, value);
        }
        if self.replayed {
            headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// A commit's position: topic, partition and offset, such as `journal.orders/3@1234`.
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
    fn a_malformed_header_is_refused_and_not_ignored() {
        assert_eq!(read("if-match", "\"3\"").unwrap().expected_version, Some(3));
        let beyond = format!("\"{}\"", u64::MAX);
        for bad in [
            "3",
            "*",
            "W/\"3\"",
            "\"x\"",
            "\"\"",
            "\"3\", \"4\"",
            "\"+3\"",
            "\"-3\"",
            "\"03\"",
            "\"0\"",
            "\" 3\"",
            &beyond,
        ] {
            let code = read("if-match", bad).unwrap_err().code;
            assert_eq!(code, "IF_MATCH_INVALID", "{bad}");
        }
        let code = read("idempotency-key", "").unwrap_err().code;
        assert_eq!(code, "IDEMPOTENCY_KEY_INVALID");
    }

    #[test]
    fn a_repeated_header_is_refused() {
        for (name, value, code) in [
            (IDEMPOTENCY_KEY, "k", "IDEMPOTENCY_KEY_INVALID"),
            (header::IF_MATCH, "\"3\"", "IF_MATCH_INVALID"),
        ] {
            let value = HeaderValue::from_static(value);
            let mut headers = HeaderMap::from_iter([(name.clone(), value.clone())]);
            if let Err(problem) = CommandHeaders::read(&headers) {
                panic!("{name}: {problem:?} instead of no problem");
            }
            headers.append(name.clone(), value);
            let problem = CommandHeaders::read(&headers).unwrap_err();
            assert_eq!((problem.status.as_u16(), problem.code), (400, code));
            assert!(
                problem.detail.contains(name.as_str()),
                "no {name:?} in: {problem:?}"
            );
        }
    }
}
