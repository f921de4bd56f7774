//! Reads to its end a body that nobody wants any more, so that whoever sends it hears why.
//!
//! A server that answers and hangs up while its client still sends makes the client's system throw
//! the answer away. Only bodies whose length is told and bounded are read so; on a stream without an
//! end the connection is closed.

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

/// Longest body that is read for nothing, in bytes.
const LINGER_BYTES_MAX: u64 = 32 << 20;
/// Longest time for it.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// A middleware: what its handlers leave of a body is read and thrown away.
pub async fn linger(request: Request, next: Next) -> Response {
    // Who asks first whether to send it does not send it after a refusal.
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

/// A body; dropped before its end, the rest is read all the same.
struct Lingering {
    /// `None` once it has ended.
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
        // There is no runtime any more while the process ends, and nobody to answer.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(timeout(LINGER_TIMEOUT, async move {
                while let Some(Ok(_)) = rest.next().await {}
            }));
        }
    }
}
