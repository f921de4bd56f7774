//! Connections to clients that may stop reading. An unread response holds memory and delays the end of the
//! process, so a connection is closed if its client reads no byte for [`WRITE_TIMEOUT`].

use axum::serve::Listener;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// Maximum time without a byte that the client reads, after which its connection is closed.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(120);

/// A listener that closes a connection if its client stops reading.
pub struct WriteTimeoutListener<L>(pub L);

/// A connection that fails once its client has read nothing for [`WRITE_TIMEOUT`].
pub struct Connection<S> {
    stream: S,
    /// The time at which the connection fails; set while a write waits for the client.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<L: Listener> Listener for WriteTimeoutListener<L> {
    type Io = Connection<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = self.0.accept().await;
        (Connection::new(stream), address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

impl<S> Connection<S> {
    /// A connection over a stream.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            deadline: None,
        }
    }

    /// The result of a write; an error if the write has waited for too long.
    fn in_time<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT)));
        ready!(deadline.as_mut().poll(context));
        let reason = "the client has stopped reading its responses";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, reason)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.in_time(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.in_time(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::Instant,
    };

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_client_stops_reading_ends() {
        let (ours, _theirs) = duplex(4);
        let begun = Instant::now();
        let written = Connection::new(ours).write_all(b"12345").await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), WRITE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_client_reads_slowly_continues() {
        let (ours, mut theirs) = duplex(1);
        let reading = tokio::spawn(async move {
            let mut text = [0; 5];
            for byte in &mut text {
                sleep(WRITE_TIMEOUT / 2).await;
                *byte = theirs.read_u8().await.unwrap();
            }
            text
        });
        Connection::new(ours).write_all(b"12345").await.unwrap();
        assert_eq!(&reading.await.unwrap(), b"12345");
    }
}
