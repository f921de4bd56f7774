//! Streams of commands to other nodes over HTTP/2: one stream per partition, and one connection per node for
//! each [`STREAMS_MAX`] partitions. A stream has a line for each command and each reply, in order. A
//! partition that waits for its owner delays no other partition.
//!
//! A stream accepts no more commands once it breaks, or once the other node refuses a command. The senders of
//! commands without a reply make another attempt.

use super::node_protocol::{PATH, Reply};
use crate::ndjson::{Line, Lines, MEDIA_TYPE};
use axum::body::Bytes;
use futures_util::StreamExt;
use reqwest::header::CONTENT_TYPE;
use schemas::topics::{PartitionCounts, TopicPartition};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;

/// Maximum number of commands of one stream without a reply. As many more may wait to be sent.
pub const FORWARDED_MAX: usize = 1_024;
/// Maximum number of partitions whose streams share a connection. A node accepts 200 concurrent streams per
/// connection, and a stream that ends overlaps with the next one of its partition.
const STREAMS_MAX: usize = 100;
/// Maximum number of lines sent in one piece.
const LINES_PER_PIECE_MAX: usize = 256;
/// Maximum number of pieces of a stream's body that wait to be written to the connection.
const PIECES_MAX: usize = 4;
/// Longest time to connect, and longest time from the request to the head of the response.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two pings of a node.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait for the reply to a ping. After it, the streams to the node break: the node was stopped, is
/// suspended, or is cut off.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// A stream ends after this time without commands.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The connections to other nodes.
#[derive(Clone)]
pub struct NodeClients {
    /// The HTTP clients. Each has connections of its own.
    http: Arc<[reqwest::Client]>,
    /// The index of the client that a partition's streams use.
    client_of: Arc<HashMap<TopicPartition, usize>>,
    streams: Arc<Mutex<HashMap<(String, TopicPartition), Stream>>>,
    next_stream: Arc<AtomicU64>,
}

/// The stream ended before the command got its reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url}: {reason}")]
pub struct StreamError {
    /// The node.
    pub url: String,
    /// Why the stream ended.
    pub reason: String,
    /// Whether the command may have arrived.
    pub may_have_arrived: bool,
}

/// Receives the reply to a command.
pub type ReplyReceiver = oneshot::Receiver<Result<Reply, StreamError>>;

/// A stream that accepts commands.
#[derive(Clone)]
struct Stream {
    id: u64,
    queue: mpsc::Sender<Outgoing>,
}

struct Outgoing {
    line: Vec<u8>,
    reply: oneshot::Sender<Result<Reply, StreamError>>,
}

/// The task of a stream.
struct StreamTask {
    url: String,
    queue: mpsc::Receiver<Outgoing>,
    pending: VecDeque<oneshot::Sender<Result<Reply, StreamError>>>,
}

impl NodeClients {
    /// Clients without connections yet, for the partitions of all journals.
    ///
    /// # Errors
    /// The HTTP client can't be created.
    pub fn new(partitions: &PartitionCounts) -> Result<Self, reqwest::Error> {
        let partitions = partitions.journal_partitions().enumerate();
        let client_of: HashMap<_, _> = partitions
            .map(|(number, partition)| (partition, number / STREAMS_MAX))
            .collect();
        let clients = client_of.len().div_ceil(STREAMS_MAX);
        let http: Result<Arc<[_]>, _> = (0..clients).map(|_| client()).collect();
        Ok(Self {
            http: http?,
            client_of: Arc::new(client_of),
            streams: Arc::default(),
            next_stream: Arc::default(),
        })
    }

    /// The client for a partition's streams.
    fn client(&self, partition: TopicPartition) -> &reqwest::Client {
        let index = self.client_of.get(&partition);
        &self.http[*index.expect("a command is for a partition of a journal")]
    }

    /// Gets a short answer of a node; `None` without a successful answer.
    pub async fn get(&self, url: &str, path: &str) -> Option<Bytes> {
        let http = self.http.first()?;
        let answer = http.get(format!("{url}{path}")).send().await.ok()?;
        answer.error_for_status().ok()?.bytes().await.ok()
    }

    /// The number of the stream on which a command to this node and partition would be sent now.
    pub fn stream(&self, url: &str, partition: TopicPartition) -> u64 {
        self.open(url, partition).id
    }

    /// Sends a line on a stream, and waits for room until `deadline`; `None` if room did not become free, or if the
    /// stream accepts no more commands.
    pub async fn send(
        &self,
        (url, partition): (&str, TopicPartition),
        stream: u64,
        line: Vec<u8>,
        deadline: Instant,
    ) -> Option<ReplyReceiver> {
        let open = self.open(url, partition);
        if open.id != stream {
            return None;
        }
        let (reply, receiver) = oneshot::channel();
        let sent = timeout_at(deadline, open.queue.send(Outgoing { line, reply })).await;
        matches!(sent, Ok(Ok(()))).then_some(receiver)
    }

    /// The stream to a node for a partition, opened if no open stream accepts commands.
    fn open(&self, url: &str, partition: TopicPartition) -> Stream {
        let mut streams = self.streams.lock().expect("no holder of this lock panics");
        let name = (url.to_owned(), partition);
        if let Some(stream) = streams.get(&name)
            && !stream.queue.is_closed()
        {
            return stream.clone();
        }
        let id = self.next_stream.fetch_add(1, Ordering::Relaxed);
        let (sender, queue) = mpsc::channel(FORWARDED_MAX);
        let stream = Stream { id, queue: sender };
        streams.insert(name, stream.clone());
        let task = StreamTask {
            url: url.to_owned(),
            queue,
            pending: VecDeque::new(),
        };
        tokio::spawn(task.run(self.client(partition).clone()));
        stream
    }
}

impl StreamTask {
    async fn run(mut self, http: reqwest::Client) {
        let (body, pieces) = mpsc::channel::<Vec<u8>>(PIECES_MAX);
        let pieces = ReceiverStream::new(pieces).map(Ok::<_, std::convert::Infallible>);
        let request = http
            .post(format!("{}{PATH}", self.url))
            .header(CONTENT_TYPE, MEDIA_TYPE)
            .body(reqwest::Body::wrap_stream(pieces));
        let opened = match timeout(OPEN_TIMEOUT, request.send()).await {
            Ok(Ok(response)) if response.status().is_success() => Ok(response),
            Ok(Ok(response)) => Err(format!("the node answered {}", response.status())),
            Ok(Err(error)) => Err(with_causes(&error)),
            Err(_) => Err(format!("no answer within {OPEN_TIMEOUT:?}")),
        };
        match opened {
            Ok(response) => {
                let reason = self.send_and_receive(body, response).await;
                self.end(&reason);
            }
            Err(reason) => self.end(&reason),
        }
    }

    /// Sends commands and receives replies; returns the reason why the stream ended.
    async fn send_and_receive(
        &mut self,
        body: mpsc::Sender<Vec<u8>>,
        response: reqwest::Response,
    ) -> String {
        let mut body = Some(body);
        let mut replies = Lines::new(response.bytes_stream());
        loop {
            let has_room = self.pending.len() < FORWARDED_MAX;
            tokio::select! {
                line = replies.next() => match line {
                    Ok(Some(line)) => {
                        if let Err(reason) = self.take_reply(&line) {
                            return reason;
                        }
                    }
                    Ok(None) => return "the node ended the stream".into(),
                    Err(error) => return with_causes(&error),
                },
                outgoing = self.queue.recv(), if has_room && body.is_some() => {
                    let Some(piece) = outgoing.map(|first| self.next_piece(first)) else {
                        // Nothing more is sent; replies are still received.
                        body = None;
                        continue;
                    };
                    let sent = match &body {
                        Some(body) => body.send(piece).await.is_ok(),
                        None => false,
                    };
                    if !sent {
                        return "the connection was closed".into();
                    }
                }
                () = sleep(IDLE_TIMEOUT), if self.pending.is_empty() => {
                    self.queue.close();
                }
            }
            if body.is_none() && self.pending.is_empty() {
                return "the stream was ended".into();
            }
        }
    }

    /// Joins the first waiting command and some of the next ones to one piece.
    fn next_piece(&mut self, first: Outgoing) -> Vec<u8> {
        let mut piece = first.line;
        self.pending.push_back(first.reply);
        let room = LINES_PER_PIECE_MAX.min(FORWARDED_MAX - self.pending.len());
        for _ in 0..room {
            let Ok(next) = self.queue.try_recv() else {
                break;
            };
            piece.extend_from_slice(&next.line);
            self.pending.push_back(next.reply);
        }
        piece
    }

    /// Hands a reply to the sender of the oldest command without one.
    fn take_reply(&mut self, line: &Line) -> Result<(), String> {
        let Line::Text(text) = line else {
            return Err("a reply is too long".into());
        };
        let reply: Reply = serde_json::from_slice(text)
            .map_err(|error| format!("a reply can't be read: {error}"))?;
        let waiting = self.pending.pop_front();
        let waiting = waiting.ok_or("a reply came without a command")?;
        if matches!(reply, Reply::NotOwner { .. }) {
            // A later command could overtake this one.
            self.queue.close();
            while let Ok(unsent) = self.queue.try_recv() {
                let error = self.error("the node does not own the partition", false);
                let _ = unsent.reply.send(Err(error));
            }
        }
        // A client that has disconnected may send the command again under the same id.
        let _ = waiting.send(Ok(reply));
        Ok(())
    }

    fn end(mut self, reason: &str) {
        tracing::debug!(url = self.url, reason, "stream to another node ended");
        self.queue.close();
        let mut pending = std::mem::take(&mut self.pending);
        for reply in pending.drain(..) {
            let _ = reply.send(Err(self.error(reason, true)));
        }
        while let Ok(unsent) = self.queue.try_recv() {
            let _ = unsent.reply.send(Err(self.error(reason, false)));
        }
    }

    fn error(&self, reason: &str, may_have_arrived: bool) -> StreamError {
        StreamError {
            url: self.url.clone(),
            reason: reason.to_owned(),
            may_have_arrived,
        }
    }
}

fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge()
        .http2_adaptive_window(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .http2_keep_alive_while_idle(true)
        .connect_timeout(OPEN_TIMEOUT)
        .build()
}

/// An error with its causes, because the outermost text alone rarely names the cause.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, body::Body, routing::post};
    use futures_util::future::try_join_all;
    use tokio::net::TcpListener;

    /// As many partitions as three journals with 150 each have.
    const PARTITIONS: usize = 450;
    const LONG_ENOUGH: Duration = Duration::from_secs(30);

    /// Answers each line at once, and keeps the stream open.
    async fn answer(body: Body) -> Body {
        let mut lines = Lines::new(body.into_data_stream());
        let (replies, answered) = mpsc::channel(FORWARDED_MAX);
        tokio::spawn(async move {
            let reply = serde_json::to_vec(&Reply::KeyReused).unwrap();
            while let Ok(Some(_)) = lines.next().await {
                let line = [&reply[..], b"\n"].concat();
                let _ = replies.send(Ok::<_, std::io::Error>(line)).await;
            }
        });
        Body::from_stream(ReceiverStream::new(answered))
    }

    /// A node that serves only the route between nodes.
    async fn answering_node() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let node = Router::new().route(PATH, post(answer));
        tokio::spawn(async move { axum::serve(listener, node).await });
        url
    }

    #[tokio::test]
    async fn one_node_answers_on_the_streams_of_hundreds_of_partitions_at_once() {
        let journals = PartitionCounts::uniform(1).journal_partitions().count();
        let of_each = i32::try_from(PARTITIONS.div_ceil(journals)).unwrap();
        let partitions = PartitionCounts::uniform(of_each);
        let node_clients = NodeClients::new(&partitions).unwrap();
        let url = answering_node().await;
        let deadline = Instant::now() + LONG_ENOUGH;
        let targets: Vec<_> = partitions.journal_partitions().collect();
        assert!(
            targets.len() > 2 * STREAMS_MAX,
            "{} targets instead of more than {}",
            targets.len(),
            2 * STREAMS_MAX
        );
        // The second round uses the streams that the first one opened.
        for _ in 0..2 {
            let answers = targets.iter().map(async |target| {
                let to = (url.as_str(), *target);
                let stream = node_clients.stream(&url, *target);
                let line = b"{}\n".to_vec();
                let sent = node_clients.send(to, stream, line, deadline).await;
                sent.expect("the stream is open").await.unwrap()
            });
            let replies = try_join_all(answers).await.unwrap();
            let other: Vec<_> = replies
                .iter()
                .filter(|reply| **reply != Reply::KeyReused)
                .collect();
            assert!(other.is_empty(), "{other:?} instead of KeyReused");
        }
        let streams = node_clients.streams.lock().unwrap();
        assert_eq!(streams.len(), targets.len());
    }

    #[test]
    fn the_streams_of_many_partitions_fit_into_their_connections() {
        for count in [1, 4, 64, 448] {
            let partitions = PartitionCounts::uniform(count);
            let node_clients = NodeClients::new(&partitions).unwrap();
            let mut streams = vec![0; node_clients.http.len()];
            for partition in partitions.journal_partitions() {
                streams[node_clients.client_of[&partition]] += 1;
            }
            let is_shared = streams
                .iter()
                .all(|count| (1..=STREAMS_MAX).contains(count));
            assert!(is_shared, "not each from 1 to {STREAMS_MAX}: {streams:?}");
        }
    }
}
