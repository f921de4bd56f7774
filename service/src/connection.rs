//! Connections to clients that may stop reading. An unread response holds memory and delays the end of the
//! process, so a connection is closed if its client reads no byte for [`WRITE_TIMEOUT`]. A handler that breaks off its
//! response can wait until the written part of it is with the operating system.

use axum::{
    extract::{ConnectInfo, FromRequestParts, connect_info::Connected},
    http::request::Parts,
    serve::{IncomingStream, Listener},
};
use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
    time::{Sleep, sleep, timeout},
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
    flushes: Flushes,
}

/// The flushes of a connection. The HTTP server flushes the connection when the operating system has taken all bytes of
/// its own buffer, which the server drops when a response breaks off.
#[derive(Debug, Clone, Default)]
pub struct Flushes(watch::Sender<()>);

/// The connection of a request, as its handler sees it.
#[derive(Debug, Clone, Default)]
pub struct ClientConnection {
    /// `None` if the listener is not a [`WriteTimeoutListener`].
    flushes: Option<Flushes>,
}

impl Flushes {
    /// Ends the waits for a flush. Every answer is flushed, and few handlers wait: without a wait, this costs one atomic
    /// read and takes no lock.
    pub fn add(&self) {
        // Nothing is sent without a receiver, and each wait has one.
        let _ = self.0.send(());
    }
}

impl ClientConnection {
    /// The connection with these flushes.
    pub fn new(flushes: Flushes) -> Self {
        Self {
            flushes: Some(flushes),
        }
    }

    /// Waits for the next flush of the connection, `limit` at most.
    pub async fn flushed(&self, limit: Duration) {
        if let Some(Flushes(flushes)) = &self.flushes {
            // The wait fails only without a sender, and this connection has one.
            let _ = timeout(limit, flushes.subscribe().changed()).await;
        }
    }
}

impl<L: Listener> Connected<IncomingStream<'_, WriteTimeoutListener<L>>> for Flushes {
    fn connect_info(stream: IncomingStream<'_, WriteTimeoutListener<L>>) -> Self {
        stream.io().flushes.clone()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ClientConnection {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let info = parts.extensions.get::<ConnectInfo<Flushes>>();
        let flushes = info.map(|ConnectInfo(flushes)| flushes.clone());
        Ok(Self { flushes })
    }
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
            flushes: Flushes::default(),
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
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if let Poll::Ready(Ok(())) = flushed {
            self.flushes.add();
        }
        flushed
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
    async fn a_handler_waits_until_its_client_has_read_enough() {
        let (ours, mut theirs) = duplex(4);
        let mut connection = Connection::new(ours);
        let of_handler = ClientConnection::new(connection.flushes.clone());
        let reading_begins = WRITE_TIMEOUT / 2;
        let writing = tokio::spawn(async move {
            connection.write_all(b"12345").await.unwrap();
            connection.flush().await.unwrap();
            connection
        });
        let reading = tokio::spawn(async move {
            sleep(reading_begins).await;
            let mut text = [0; 5];
            theirs.read_exact(&mut text).await.unwrap();
        });
        let begun = Instant::now();
        of_handler.flushed(WRITE_TIMEOUT).await;
        assert_eq!(begun.elapsed(), reading_begins);
        // No further flush follows.
        of_handler.flushed(WRITE_TIMEOUT).await;
        assert_eq!(begun.elapsed(), reading_begins + WRITE_TIMEOUT);
        reading.await.unwrap();
        drop(writing.await.unwrap());
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
