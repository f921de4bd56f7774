//! One budget in bytes for everything that waits in this process: requests, lines of batches, answers that clients have
//! not read yet, and events that live clients have missed. If the budget is used up, a request is refused with 503 and
//! `Retry-After`, so an outage of a server behind this process can't exhaust its memory.

use crate::problem::Problem;
use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body::{Frame, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// The budget of a process, unless its settings say otherwise.
pub const BYTES_DEFAULT: u32 = 256 << 20;
/// Bytes that a request takes besides its body, for headers, buffers, tasks and a short answer.
pub const REQUEST_BYTES: usize = 4 << 10;
/// Largest body of a request that is not streamed, in bytes. A longer body is refused, or read line by line.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// A budget in bytes. Clones share it.
#[derive(Debug, Clone)]
pub struct Budget {
    own: Pool,
    /// The budget of which this one is a part.
    whole: Option<Pool>,
}

#[derive(Debug, Clone)]
struct Pool {
    free: Arc<Semaphore>,
    bytes: u32,
}

/// A share of a [`Budget`]. Dropping it gives the bytes back.
#[derive(Debug)]
pub struct Share {
    own: OwnedSemaphorePermit,
    whole: Option<OwnedSemaphorePermit>,
}

/// The budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node's memory budget for waiting requests is used up; send the request again later")]
pub struct Overloaded;

impl Default for Budget {
    fn default() -> Self {
        Self::new(BYTES_DEFAULT)
    }
}

impl Budget {
    /// Creates a budget of `bytes` that is not a part of another one.
    pub fn new(bytes: u32) -> Self {
        Self {
            own: Pool::new(bytes),
            whole: None,
        }
    }

    /// A part with a bound of its own, such as the budget of one batch. Its shares count against this budget,
    /// too.
    ///
    /// # Panics
    /// If this budget is a part itself.
    #[must_use]
    pub fn part(&self, bytes: u32) -> Self {
        assert!(self.whole.is_none(), "a part has no parts");
        Self {
            own: Pool::new(bytes),
            whole: Some(self.own.clone()),
        }
    }

    /// The size of the budget, in bytes.
    pub fn bytes(&self) -> u32 {
        self.own.bytes
    }

    /// Takes a share without waiting. A request for more than this budget takes all of it.
    ///
    /// # Errors
    /// Not enough bytes are left.
    pub fn try_take(&self, bytes: usize) -> Result<Share, Overloaded> {
        let bytes = self.own.permits(bytes) as usize;
        let own = self.own.try_take(bytes)?;
        let whole = self.whole.as_ref().map(|pool| pool.try_take(bytes));
        Ok(Share {
            own,
            whole: whole.transpose()?,
        })
    }

    /// Takes a share. Waits for room in this part without a limit, and for room in the whole for at most
    /// `limit`.
    ///
    /// # Errors
    /// The whole had no room within `limit`.
    pub async fn take(&self, bytes: usize, limit: Duration) -> Result<Share, Overloaded> {
        let bytes = self.own.permits(bytes) as usize;
        let own = self.own.take(bytes).await;
        let whole = match &self.whole {
            None => None,
            Some(pool) => Some(
                timeout(limit, pool.take(bytes))
                    .await
                    .map_err(|_| Overloaded)?,
            ),
        };
        Ok(Share { own, whole })
    }
}

impl Pool {
    fn new(bytes: u32) -> Self {
        Self {
            free: Arc::new(Semaphore::new(bytes as usize)),
            bytes,
        }
    }

    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes)
    }

    fn try_take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Overloaded> {
        let permits = self.permits(bytes);
        let free = self.free.clone();
        free.try_acquire_many_owned(permits).map_err(|_| Overloaded)
    }

    async fn take(&self, bytes: usize) -> OwnedSemaphorePermit {
        let taken = self.free.clone().acquire_many_owned(self.permits(bytes));
        taken.await.expect("the semaphore is never closed")
    }
}

impl Share {
    /// Splits off a share of `bytes`, or of all bytes if this share has fewer.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Self {
        let split = |permit: &mut OwnedSemaphorePermit| {
            let some = permit.split(bytes.min(permit.num_permits()));
            some.expect("a share has at least the permits to split off")
        };
        Self {
            own: split(&mut self.own),
            whole: self.whole.as_mut().map(split),
        }
    }

    /// Gives back all but `bytes`.
    pub fn keep(&mut self, bytes: usize) {
        let excess = self.own.num_permits().saturating_sub(bytes);
        drop(self.split(excess));
    }
}

impl From<Overloaded> for Problem {
    fn from(error: Overloaded) -> Self {
        let detail = error.to_string();
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED", detail)
    }
}

/// A middleware that gives a request a share of the budget until its response is sent or its client has
/// disconnected.
///
/// A long answer, such as an order with many lines, takes another share once its length is known. The databases'
/// connections limit the number of answers that do not have such a share yet. If the budget has no room for the answer
/// to a query, the client gets the 503 instead and must repeat the query. The answer to a command is sent in any case,
/// because the command has taken effect.
pub async fn admit(State(budget): State<Budget>, request: Request, next: Next) -> Response {
    let length = request.body().size_hint().upper();
    let length = length.and_then(|bytes| usize::try_from(bytes).ok());
    let body_bytes = length.unwrap_or(BODY_BYTES_MAX).min(BODY_BYTES_MAX);
    let share = match budget.try_take(REQUEST_BYTES + body_bytes) {
        Ok(share) => share,
        Err(overloaded) => return Problem::from(overloaded).into_response(),
    };
    let is_query = request.method().is_safe();
    let response = next.run(request).await;
    let of_answer = match share_of_answer(&budget, response.body()) {
        Ok(of_answer) => of_answer,
        Err(overloaded) if is_query => return Problem::from(overloaded).into_response(),
        Err(Overloaded) => None,
    };
    response.map(|body| {
        Body::new(BodyWithShares {
            body,
            _shares: (share, of_answer),
        })
    })
}

/// The share of an answer; `None` if the request's share suffices, or if the answer is streamed.
fn share_of_answer(budget: &Budget, body: &Body) -> Result<Option<Share>, Overloaded> {
    let length = body.size_hint().exact().unwrap_or(0);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length <= REQUEST_BYTES {
        return Ok(None);
    }
    budget.try_take(length).map(Some)
}

/// A response's body with the shares of the request and of the answer.
struct BodyWithShares {
    body: Body,
    _shares: (Share, Option<Share>),
}

impl HttpBody for BodyWithShares {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{
        Router,
        http::header,
        middleware,
        routing::{get, post},
    };
    use tower::ServiceExt;

    async fn send(router: &Router, body: &'static str) -> Response {
        let request = Request::post("/").body(Body::from(body)).unwrap();
        router.clone().oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn a_request_beyond_the_budget_is_refused_until_an_earlier_response_is_read() {
        let bytes = u32::try_from(REQUEST_BYTES + 10).unwrap();
        let admitting = middleware::from_fn_with_state(Budget::new(bytes), admit);
        let router = Router::new()
            .route("/", post(|| async { "done" }))
            .layer(admitting);
        let first = send(&router, "x").await;
        assert_eq!(first.status(), StatusCode::OK);
        let second = send(&router, "x").await;
        assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(second.headers()[header::RETRY_AFTER], "1");
        let text = axum::body::to_bytes(first.into_body(), 10).await.unwrap();
        assert_eq!(text, "done");
        assert_eq!(send(&router, "0123456789").await.status(), StatusCode::OK);
    }

    /// An order with many lines is such an answer.
    #[tokio::test]
    async fn a_long_answer_to_a_query_has_a_share_until_it_is_read() {
        const ANSWER_BYTES: usize = 2 * REQUEST_BYTES;
        let bytes = u32::try_from(2 * REQUEST_BYTES + ANSWER_BYTES).unwrap();
        let admitting = middleware::from_fn_with_state(Budget::new(bytes), admit);
        let answer = || async { "x".repeat(ANSWER_BYTES) };
        let router = Router::new()
            .route("/", get(answer).post(answer))
            .layer(admitting);
        let query = || {
            router
                .clone()
                .oneshot(Request::get("/").body(Body::empty()).unwrap())
        };
        let first = query().await.unwrap();
        assert_eq!(first.status(), StatusCode::OK);
        let second = query().await.unwrap();
        assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(second.headers()[header::RETRY_AFTER], "1");
        let command = send(&router, "").await;
        assert_eq!(
            command.status(),
            StatusCode::OK,
            "the command has taken effect"
        );
        drop((second, command));
        let text = axum::body::to_bytes(first.into_body(), ANSWER_BYTES).await;
        assert_eq!(text.unwrap().len(), ANSWER_BYTES);
        assert_eq!(query().await.unwrap().status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_response_keeps_its_length() {
        let admitting = middleware::from_fn_with_state(Budget::default(), admit);
        let router = Router::new()
            .route("/", post(|| async { "done" }))
            .layer(admitting);
        let response = send(&router, "").await;
        assert_eq!(response.into_body().size_hint().exact(), Some(4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_waits_for_the_whole_up_to_its_limit() {
        let whole = Budget::new(100);
        let (one, other) = (whole.part(80), whole.part(80));
        let limit = Duration::from_secs(1);
        let mut taken = one.take(70, limit).await.unwrap();
        assert_eq!(other.take(40, limit).await.unwrap_err(), Overloaded);
        one.try_take(20).expect_err("a part has a bound of its own");
        taken.keep(60);
        let rest = taken.split(50);
        drop(taken);
        other.take(50, limit).await.unwrap();
        other.take(51, limit).await.unwrap_err();
        drop(rest);
        // A request for more than the whole part takes all of it.
        other.take(1_000, limit).await.unwrap();
    }

    #[tokio::test]
    async fn a_part_takes_no_more_of_the_whole_than_its_bound() {
        let whole = Budget::new(100);
        let part = whole.part(25);
        let limit = Duration::from_secs(1);
        let at_once = part.try_take(1_000).unwrap();
        let rest = whole.try_take(75);
        assert!(rest.is_ok(), "75 of 100 bytes: {rest:?}");
        drop((at_once, rest));
        let _later = part.take(1_000, limit).await.unwrap();
        let rest = whole.try_take(75);
        assert!(rest.is_ok(), "75 of 100 bytes: {rest:?}");
    }
}
