//! W3C trace context: each HTTP request is a span of a trace, its caller's if it names one, else one
//! of its own. What a request causes bears that span: log lines its trace's id, commits all of it.
//!
//! Limits. Spans are told to the log and to nobody else; `tracestate` is not kept.

use axum::{
    extract::{FromRequestParts, MatchedPath, Request},
    http::{HeaderMap, request::Parts},
    middleware::Next,
    response::Response,
};
use std::{convert::Infallible, fmt};
use tracing::{Span, field::Empty};
use uuid::Uuid;

/// The header that names the caller's span, and a record's header.
pub const TRACEPARENT: &str = "traceparent";
/// Of the flags, the one that is passed on: the caller may have recorded its span.
const SAMPLED: u8 = 1;
/// Lengths of version, trace id, span id and flags as text.
const LENGTHS: [usize; 4] = [2, 32, 16, 2];

/// One span of a trace; its text is a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

impl TraceContext {
    /// A span of a trace of its own.
    pub fn fresh() -> Self {
        Self {
            trace_id: Uuid::new_v4().into_bytes(),
            span_id: fresh_span_id(),
            flags: 0,
        }
    }

    /// Another span of the same trace.
    pub fn child(&self) -> Self {
        Self {
            span_id: fresh_span_id(),
            flags: self.flags & SAMPLED,
            ..*self
        }
    }

    /// Reads a `traceparent`; `None` if it is none, which W3C has everyone ignore. A later version may
    /// have more parts behind those that are known.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let [version, trace_id, span_id, flags] = LENGTHS.map(|length| {
            let part = parts.next()?;
            let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            (part.len() == length && part.bytes().all(is_hex)).then_some(part)
        });
        let is_whole = version? != "00" || parts.next().is_none();
        let mut context = Self {
            trace_id: [0; 16],
            span_id: [0; 8],
            flags: u8::from_str_radix(flags?, 16).ok()?,
        };
        hex::decode_to_slice(trace_id?, &mut context.trace_id).ok()?;
        hex::decode_to_slice(span_id?, &mut context.span_id).ok()?;
        let is_one = version? != "ff" && context.trace_id != [0; 16] && context.span_id != [0; 8];
        (is_whole && is_one).then_some(context)
    }

    /// The span of a request with these headers.
    pub fn of_request(headers: &HeaderMap) -> Self {
        let caller = headers.get(TRACEPARENT).and_then(|text| text.to_str().ok());
        match caller.and_then(Self::parse) {
            Some(caller) => caller.child(),
            None => Self::fresh(),
        }
    }

    /// The trace's id, as it stands in a `traceparent`.
    pub fn trace_id(&self) -> String {
        hex::encode(self.trace_id)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace_id, span_id) = (self.trace_id(), hex::encode(self.span_id));
        write!(formatter, "00-{trace_id}-{span_id}-{:02x}", self.flags)
    }
}

/// Never zeros, for a uuid has some bits that are set.
fn fresh_span_id() -> [u8; 8] {
    let [.., a, b, c, d, e, f, g, h] = Uuid::new_v4().into_bytes();
    [a, b, c, d, e, f, g, h]
}

impl<S: Sync> FromRequestParts<S> for TraceContext {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let begun = parts.extensions.get::<Self>();
        Ok(begun.map_or_else(|| Self::of_request(&parts.headers), |context| *context))
    }
}

/// The middleware that makes a request a span; [`span`] and handlers find it.
pub async fn begin(mut request: Request, next: Next) -> Response {
    let context = TraceContext::of_request(request.headers());
    request.extensions_mut().insert(context);
    next.run(request).await
}

/// What log lines say of the request that they belong to. Which command it is, if it is one, its
/// handler adds by [`name_command`].
pub fn span<B>(request: &axum::http::Request<B>) -> Span {
    let route = request.extensions().get::<MatchedPath>();
    let context = request.extensions().get::<TraceContext>();
    tracing::info_span!(
        "request",
        method = %request.method(),
        route = route.map_or("unmatched", MatchedPath::as_str),
        trace_id = context.map(TraceContext::trace_id),
        command_id = Empty,
        correlation_id = Empty,
    )
}

/// Says in the request's span which command it is.
pub fn name_command(command_id: &[u8; 16], correlation_id: &[u8; 16]) {
    let span = Span::current();
    span.record("command_id", hex::encode(command_id));
    span.record("correlation_id", hex::encode(correlation_id));
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(traceparent: Option<&str>) -> TraceContext {
        let value = traceparent.map(|text| HeaderValue::from_str(text).unwrap());
        let headers = value.map(|value| (TRACEPARENT.parse().unwrap(), value));
        TraceContext::of_request(&headers.into_iter().collect())
    }

    #[test]
    fn a_request_is_a_child_of_its_caller() {
        let (one, other) = (of(Some(CALLER)), of(Some(CALLER)));
        assert_eq!(one.trace_id(), TRACE);
        assert_ne!(one, other);
        let text = one.to_string();
        assert_eq!(text.len(), CALLER.len());
        assert!(
            text.starts_with(&format!("00-{TRACE}-")) && text.ends_with("-01"),
            "{text}"
        );
        assert!(!text.contains("b7ad6b7169203331"), "{text}");
        assert_eq!(TraceContext::parse(&text), Some(one));
    }

    #[test]
    fn without_a_caller_it_begins_a_trace() {
        let (one, other) = (of(None), of(None));
        assert_ne!(one.trace_id(), other.trace_id());
        assert_eq!(TraceContext::parse(&one.to_string()), Some(one));
    }

    #[test]
    fn what_is_no_traceparent_is_ignored() {
        let zeros = "0".repeat(32);
        for bad in [
            "",
            "00-1-2-3",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            &format!("00-{zeros}-b7ad6b7169203331-01"),
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
            assert_ne!(of(Some(bad)).trace_id(), TRACE, "{bad}");
        }
        let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more";
        assert_eq!(of(Some(later)).trace_id(), TRACE);
    }
}
