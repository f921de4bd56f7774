//! W3C trace context: each HTTP request is a span of its caller's trace, or of a new trace if it names no
//! caller. Log lines of the request have the trace's id, and commits have the span.
//!
//! OpenTelemetry's propagator reads and writes the formats. If `telemetry.otlp_endpoint` is set, spans are
//! exported (see [`crate::otlp`]) and OpenTelemetry chooses their ids; otherwise this module does.
//!
//! Limit: `tracestate` is not kept.

use axum::{
    extract::{FromRequestParts, MatchedPath, Request},
    http::{HeaderMap, request::Parts},
    middleware::Next,
    response::Response,
};
use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{IdGenerator, RandomIdGenerator},
};
use std::{convert::Infallible, fmt};
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The name of the header that identifies the caller's span, in requests and in records.
pub const TRACEPARENT: &str = "traceparent";

/// One span of a trace; its text is a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: TraceId,
    span_id: SpanId,
    flags: TraceFlags,
}

/// The trace's id in a `traceparent`; `None` if the text is malformed.
pub fn trace_id(traceparent: &str) -> Option<String> {
    TraceContext::parse(traceparent).map(|context| context.trace_id())
}

/// A `traceparent`, as the propagator reads and writes it.
#[derive(Default)]
struct Traceparent<T>(T);

impl Extractor for Traceparent<&str> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

impl Injector for Traceparent<String> {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACEPARENT {
            self.0 = value;
        }
    }
}

impl TraceContext {
    /// The first span of a new trace.
    pub fn fresh() -> Self {
        let ids = RandomIdGenerator::default();
        Self {
            trace_id: ids.new_trace_id(),
            span_id: ids.new_span_id(),
            flags: TraceFlags::default(),
        }
    }

    /// Another span of the same trace.
    pub fn child(&self) -> Self {
        Self {
            span_id: RandomIdGenerator::default().new_span_id(),
            ..*self
        }
    }

    /// Reads a `traceparent`; `None` if it is malformed: W3C requires readers to ignore it.
    pub fn parse(text: &str) -> Option<Self> {
        let context =
            TraceContextPropagator::new().extract_with_context(&Context::new(), &Traceparent(text));
        Self::of_context(&context)
    }

    /// The caller's span, if these headers name one.
    fn of_caller(headers: &HeaderMap) -> Option<Self> {
        let caller = headers.get(TRACEPARENT)?.to_str().ok()?;
        Self::parse(caller)
    }

    /// The span of a request with these headers.
    pub fn of_request(headers: &HeaderMap) -> Self {
        Self::of_caller(headers).map_or_else(Self::fresh, |caller| caller.child())
    }

    /// The trace's id, as a `traceparent` has it.
    pub fn trace_id(&self) -> String {
        self.trace_id.to_string()
    }

    /// `None` if the context has no valid span.
    fn of_context(context: &Context) -> Option<Self> {
        let span = context.span();
        let context = span.span_context();
        context.is_valid().then(|| Self {
            trace_id: context.trace_id(),
            span_id: context.span_id(),
            flags: context.trace_flags(),
        })
    }

    fn to_context(self) -> Context {
        let state = TraceState::default();
        let span = SpanContext::new(self.trace_id, self.span_id, self.flags, true, state);
        Context::new().with_remote_span_context(span)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut traceparent = Traceparent::default();
        TraceContextPropagator::new().inject_context(&self.to_context(), &mut traceparent);
        formatter.write_str(&traceparent.0)
    }
}

impl<S: Sync> FromRequestParts<S> for TraceContext {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let begun = parts.extensions.get::<Self>();
        Ok(begun.map_or_else(|| Self::of_request(&parts.headers), |context| *context))
    }
}

/// The middleware that begins a request's span. It stores the span in the request's extensions, from which [`span`]
/// and handlers take it.
pub async fn begin(mut request: Request, next: Next) -> Response {
    let span = new_span(&request);
    let context = join(&span, TraceContext::of_caller(request.headers()));
    span.record("trace_id", tracing::field::display(context.trace_id));
    request.extensions_mut().insert(context);
    request.extensions_mut().insert(span);
    next.run(request).await
}

/// Makes a span a child of the caller's, if there is a caller; returns the span's context.
pub(crate) fn join(span: &Span, caller: Option<TraceContext>) -> TraceContext {
    if let Some(caller) = caller {
        // Without an exporter no layer accepts the parent.
        let _ = span.set_parent(caller.to_context());
    }
    TraceContext::of_context(&span.context())
        .unwrap_or_else(|| caller.map_or_else(TraceContext::fresh, |caller| caller.child()))
}

/// The span of a request, with the fields of its log lines. If it is a command, its handler adds the
/// command's ids with [`name_command`].
fn new_span<B>(request: &axum::http::Request<B>) -> Span {
    let route = request.extensions().get::<MatchedPath>();
    tracing::info_span!(
        "request",
        method = %request.method(),
        route = route.map_or("unmatched", MatchedPath::as_str),
        trace_id = Empty,
        command_id = Empty,
        correlation_id = Empty,
    )
}

/// The span that [`begin`] began for a request.
pub fn span<B>(request: &axum::http::Request<B>) -> Span {
    let span = request.extensions().get::<Span>();
    span.cloned().unwrap_or_else(Span::none)
}

/// Adds the command's ids to the request's span.
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
        let (beginning, end) = (format!("00-{TRACE}-"), "-01");
        assert!(
            text.starts_with(&beginning) && text.ends_with(end),
            "{text} instead of {beginning}...{end}"
        );
        assert!(
            !text.contains("b7ad6b7169203331"),
            "\"b7ad6b7169203331\" in: {text}"
        );
        assert_eq!(TraceContext::parse(&text), Some(one));
    }

    #[test]
    fn a_request_without_a_caller_begins_a_trace() {
        let (one, other) = (of(None), of(None));
        assert_ne!(one.trace_id(), other.trace_id());
        assert_eq!(TraceContext::parse(&one.to_string()), Some(one));
    }

    #[test]
    fn a_malformed_traceparent_is_ignored() {
        let zeros = "0".repeat(32);
        for bad in [
            "",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            &format!("00-{zeros}-b7ad6b7169203331-01"),
        ] {
            assert_eq!(trace_id(bad), None, "{bad}");
            assert_ne!(of(Some(bad)).trace_id(), TRACE, "{bad}");
        }
        let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more";
        assert_eq!(of(Some(later)).trace_id(), TRACE);
    }
}
