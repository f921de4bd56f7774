//! `GET /api/v1/orders/{id}/events` and `GET /api/v1/customers/{id}/events`.
//!
//! A request with `Upgrade: websocket` gets a WebSocket, any other request gets server-sent events.

use super::{
    cursor::Cursor,
    known, sse,
    start::Live,
    target::{JOURNAL, Target},
    websocket,
};
use crate::{order, paging};
use axum::{
    extract::{
        FromRequestParts, State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, HeaderName, StatusCode, header, request::Parts},
    response::Response,
};
use kafka::partition::of_key;
use serde::Deserialize;
use service::{
    extract::{ApiPath, ApiQuery},
    problem::Problem,
};
use utoipa::{IntoParams, IntoResponses};
use utoipa_axum::{
    router::{UtoipaMethodRouter, UtoipaMethodRouterExt},
    routes,
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The parameter in the path.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct StreamPath {
    /// TypeID of an order or a credit note, or opaque id of a customer.
    #[param(example = "order_01h455vb4pex5vsknk084sn02q")]
    id: String,
}

/// The position to resume from.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ResumeQuery {
    /// The same as the header `Last-Event-ID`, for clients that can't set headers. The header has precedence.
    #[param(example = "journal.orders/3@1234#0")]
    last_event_id: Option<String>,
}

/// The errors of both streams.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it is only documented")]
enum StreamProblems {
    /// INVALID_ORDER_ID, INVALID_TEXT, LAST_EVENT_ID_INVALID, WEBSOCKET_INVALID or UNKNOWN_OR_INVALID_PARAMETER.
    #[response(status = 400)]
    Refused(Problem),
    /// ORIGIN_NOT_SERVED: a WebSocket from a web page of another origin.
    #[response(status = 403)]
    Forbidden(Problem),
    /// ORDER_NOT_FOUND or CUSTOMER_NOT_FOUND.
    #[response(status = 404)]
    NotFound(Problem),
    /// DATABASE_UNAVAILABLE, VIEW_REBUILDING, VIEW_VERSION_MISSING, LIVE_NOT_READY, TOO_MANY_LIVE_CLIENTS, or
    /// OVERLOADED if too many requests wait.
    #[response(status = 503)]
    Unavailable(Problem),
}

/// A request for a stream, without its path.
struct Request {
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    headers: HeaderMap,
    last_event_id: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Request {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = ApiQuery::<ResumeQuery>::from_request_parts(parts, state).await?;
        let ApiQuery(ResumeQuery { last_event_id }) = query;
        Ok(Self {
            upgrade: <WebSocketUpgrade as FromRequestParts<S>>::from_request_parts(parts, state)
                .await,
            headers: parts.headers.clone(),
            last_event_id,
        })
    }
}

pub(crate) fn queries(live: &Live) -> Vec<UtoipaMethodRouter> {
    let queries = [routes!(follow_order), routes!(follow_customer)];
    let with_state =
        |query: UtoipaMethodRouter<Live>| -> UtoipaMethodRouter { query.with_state(live.clone()) };
    Vec::from(queries.map(with_state))
}

/// The events of an order or a credit note, as they are recorded: server-sent events, or a WebSocket if the request has
/// `Upgrade: websocket`.
///
/// Each event is a JSON object with `id`, `type`, `aggregate`, `version`, `position`, `recorded_at` and `data`. To
/// resume a stream without gaps or duplicates, pass the `id` of the last event in `Last-Event-ID`. The
/// `Daybook-Position` of a command's answer is also accepted there. Without `Last-Event-ID`, only new events are sent.
///
/// Before a stream ends, the node sends the reason: an SSE event `error` with `code` and `detail`, or the close code
/// and reason of the WebSocket: CLIENT_TOO_SLOW (4000), JOURNAL_HALTED (4001), RESUME_FAILED (4002), LAST_EVENT_UNKNOWN
/// (4003), OVERLOADED (4004) or NODE_STOPPING (1001).
#[utoipa::path(get, path = "/orders/{id}/events", tag = "orders",
    params(
        StreamPath,
        ResumeQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event.",
            example = "journal.orders/3@1234#0"),
    ),
    responses((status = 200, description = "The events.", body = String, content_type = "text/event-stream",
            example = "id: journal.orders/3@1234#0\ndata: {\"type\":\"SaleImported\"}\n\n"),
        (status = 101, description = "A WebSocket with the same events."), StreamProblems))]
async fn follow_order(
    State(live): State<Live>,
    ApiPath(StreamPath { id }): ApiPath<StreamPath>,
    request: Request,
) -> Result<Response, Problem> {
    order::check_id(&id)?;
    let partition = of_key(id.as_bytes(), live.partitions()?);
    let cursor = request.cursor(&[partition])?;
    if cursor.is_none() {
        known::check_order(live.databases(), &id).await?;
    }
    let target = Target::Aggregate { key: id, partition };
    request.respond(&live, target, cursor).await
}

/// The events of all orders and credit notes of a customer, as they are recorded. The stream has the same format as the
/// events of one order.
///
/// The events of each order arrive in their order. An `id` names a position in every partition of the journal.
#[utoipa::path(get, path = "/customers/{id}/events", tag = "orders",
    params(
        StreamPath,
        ResumeQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event.",
            example = "journal.orders/3@1234#0"),
    ),
    responses((status = 200, description = "The events.", body = String, content_type = "text/event-stream",
            example = "id: journal.orders/3@1234#0\ndata: {\"type\":\"SaleImported\"}\n\n"),
        (status = 101, description = "A WebSocket with the same events."), StreamProblems))]
async fn follow_customer(
    State(live): State<Live>,
    ApiPath(StreamPath { id }): ApiPath<StreamPath>,
    request: Request,
) -> Result<Response, Problem> {
    let customer = paging::text("id", &id)?;
    let partitions: Vec<i32> = (0..live.partitions()?).collect();
    let cursor = request.cursor(&partitions)?;
    if cursor.is_none() {
        known::check_customer(live.databases(), &customer).await?;
    }
    request
        .respond(&live, Target::Customer(customer), cursor)
        .await
}

impl Request {
    /// The position at which the client's last stream ended; `None` for new events only.
    fn cursor(&self, partitions: &[i32]) -> Result<Option<Cursor>, Problem> {
        let header = self.headers.get(LAST_EVENT_ID).map(|value| value.to_str());
        let text = match header {
            // A malformed text is refused below.
            Some(text) => Some(text.unwrap_or("?")),
            None => self.last_event_id.as_deref(),
        };
        let text = text.filter(|text| !text.is_empty());
        text.map(|text| Cursor::parse(text, JOURNAL, partitions))
            .transpose()
    }

    async fn respond(
        self,
        live: &Live,
        target: Target,
        cursor: Option<Cursor>,
    ) -> Result<Response, Problem> {
        if !self.headers.contains_key(header::UPGRADE) {
            return Ok(sse::respond(live.subscribe(target, cursor).await?));
        }
        let upgrade = self.upgrade.map_err(|rejection| {
            let detail = format!(
                "Upgrade: {}; send the headers of a WebSocket",
                rejection.body_text()
            );
            Problem::new(StatusCode::BAD_REQUEST, "WEBSOCKET_INVALID", detail)
        })?;
        websocket::check_origin(&self.headers)?;
        Ok(websocket::respond(
            upgrade,
            live.subscribe(target, cursor).await?,
        ))
    }
}
