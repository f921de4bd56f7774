//! Reads a rejected request's body to its end, so that the client receives the answer.
//!
//! If a server answers and closes the connection while its client still sends, the client's operating system
//! discards the answer. Only bodies with a known and bounded length are read; the connection of a stream is
//! closed.

use axum::{
    body::{Body, BodyDataStream, Bytes, HttpBody},
    extract::Request,
    http::header,
    middleware::Next,
    response::Response,
};
use futures_util::{Stream, StreamExt};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{runtime::Handle, time::timeout};

/// Maximum length of a body that is read and discarded, in bytes.
const LINGER_BYTES_MAX: u64 = 32 << 20;
/// Longest time for reading and discarding a body.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// A middleware that reads and discards the part of a body that its handler has not read.
pub async fn linger(request: Request, next: Next) -> Response {
    // A client that waits for a 100 does not send the body after a rejection.
    let asks_first = request.headers().contains_key(header::EXPECT);
    let request = request.map(|body| match body.size_hint().exact() {
        Some(1..=LINGER_BYTES_MAX) if !asks_first => {
            let rest = Some(body.into_data_stream());
            Body::from_stream(Lingering { rest })
        }
        Some(_) | None => body,
    });
    next.run(request).await
}

/// A body. If it is dropped before its end, a separate task reads the rest.
struct Lingering {
    /// `None` once the body has ended.
    rest: Option<BodyDataStream>,
}

impl Stream for Lingering {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(rest) = self.rest.as_mut() else {
            return Poll::Ready(None);
        };
        let polled = rest.poll_next_unpin(context);
        if let Poll::Ready(None | Some(Err(_))) = polled {
            self.rest = None;
        }
        polled
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(mut rest) = self.rest.take() else {
            return;
        };
        // Without a runtime the process is ending, and there is no answer to deliver.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(timeout(LINGER_TIMEOUT, async move {
                while let Some(Ok(_)) = rest.next().await {}
            }));
        }
    }
}
