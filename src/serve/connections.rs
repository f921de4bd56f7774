//! The HTTP server of a process, up to the end of its connections.

use axum::{Router, serve::Listener};
use service::{
    connection::{Flushes, WriteTimeoutListener},
    shutdown::CONNECTIONS_TIMEOUT,
};
use std::net::SocketAddr;
use tokio_util::sync::CancellationToken;

/// Serves HTTP until `closing`, and then until all connections have ended, [`CONNECTIONS_TIMEOUT`] at most: a client
/// that reads nothing must not delay the end of the process.
pub async fn serve_until(
    closing: CancellationToken,
    listener: WriteTimeoutListener<impl Listener<Addr = SocketAddr>>,
    router: Router,
) {
    let router = router.into_make_service_with_connect_info::<Flushes>();
    let http =
        axum::serve(listener, router).with_graceful_shutdown(closing.clone().cancelled_owned());
    let too_late = async {
        closing.cancelled().await;
        tokio::time::sleep(CONNECTIONS_TIMEOUT).await;
    };
    tokio::select! {
        ended = http.into_future() => if let Err(error) = ended {
            tracing::error!(%error, "the http server failed");
        },
        () = too_late => tracing::warn!("closing connections that did not end in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{
        body::{Body, Bytes},
        routing::get,
    };
    use futures_util::stream;
    use std::{convert::Infallible, net::Ipv4Addr};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    #[tokio::test]
    async fn a_client_that_reads_no_answers_does_not_delay_the_end() {
        let answer = || async {
            // More than the two systems' buffers hold.
            let block = Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 1 << 16]));
            Body::from_stream(stream::repeat(block))
        };
        let router = Router::new().route("/", get(answer));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = WriteTimeoutListener(listener);
        let closing = CancellationToken::new();
        let serving = tokio::spawn(serve_until(closing.clone(), listener, router));
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        client.write_all(request).await.unwrap();
        // The answer has begun.
        client.read_u8().await.unwrap();
        closing.cancel();
        let ended = timeout(2 * CONNECTIONS_TIMEOUT, serving).await;
        ended.expect("the connection delays the end").unwrap();
    }
}
