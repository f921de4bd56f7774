//! Streams of commands to other nodes: one connection a node (HTTP/2), one stream a partition, lines
//! in, lines out, in order. So a partition that waits for its owner holds up no other.
//!
//! A stream that breaks, or on which the other node turned a command away, takes nothing more: what
//! went on it without a reply is for its sender to try again.

use super::wire::Reply;
use crate::http::{
    forwarded::PATH,
    lines::{Line, Lines, MEDIA_TYPE},
};
use futures_util::StreamExt;
use reqwest::header::CONTENT_TYPE;
use schemas::owners::Place;
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

/// Most commands of one stream without a reply; as many again wait to be sent.
pub const FORWARDED_MAX: usize = 1_024;
/// Lines sent together, if they are there.
const LINES_TOGETHER_MAX: usize = 256;
/// Pieces of a stream's body on their way into the connection.
const PIECES_MAX: usize = 4;
/// Longest time to connect, and longest time from the request to the response's head.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two signs of life that are asked of a node, and longest wait for one: after that its
/// streams break, be it stopped, frozen or cut off.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// See [`PING_INTERVAL`].
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// A stream without commands for so long ends.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections to other nodes.
#[derive(Clone)]
pub struct Peers {
    http: reqwest::Client,
    streams: Arc<Mutex<HashMap<(String, Place), Stream>>>,
    next_stream: Arc<AtomicU64>,
}

/// No reply: the command may have arrived or not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url}: {reason}")]
pub struct Broken {
    /// The node.
    pub url: String,
    /// What happened.
    pub reason: String,
    /// Whether it may have arrived.
    pub is_sent: bool,
}

/// A reply to come.
pub type ReplyComing = oneshot::Receiver<Result<Reply, Broken>>;

/// A stream that takes commands.
#[derive(Clone)]
struct Stream {
    id: u64,
    queue: mpsc::Sender<Outgoing>,
}

struct Outgoing {
    line: Vec<u8>,
    reply: oneshot::Sender<Result<Reply, Broken>>,
}

/// One end of a stream's work.
struct Sending {
    url: String,
    queue: mpsc::Receiver<Outgoing>,
    pending: VecDeque<oneshot::Sender<Result<Reply, Broken>>>,
}

impl Peers {
    /// No connections yet.
    ///
    /// # Errors
    /// The HTTP client can't be made.
    pub fn new() -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .http2_prior_knowledge()
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .http2_keep_alive_while_idle(true)
            .connect_timeout(OPEN_TIMEOUT)
            .build()?;
        Ok(Self {
            http,
            streams: Arc::default(),
            next_stream: Arc::default(),
        })
    }

    /// The number of the stream that a command to this place would go on now.
    pub fn stream(&self, url: &str, place: Place) -> u64 {
        self.open(url, place).id
    }

    /// Sends a line on a stream, once there is room, until `deadline`; gives the reply to come, or
    /// nothing if that stream takes no more.
    pub async fn send(
        &self,
        (url, place): (&str, Place),
        stream: u64,
        line: Vec<u8>,
        deadline: Instant,
    ) -> Option<ReplyComing> {
        let open = self.open(url, place);
        if open.id != stream {
            return None;
        }
        let (reply, coming) = oneshot::channel();
        let sent = timeout_at(deadline, open.queue.send(Outgoing { line, reply })).await;
        matches!(sent, Ok(Ok(()))).then_some(coming)
    }

    /// The stream to a place, opened if there is none that takes commands.
    fn open(&self, url: &str, place: Place) -> Stream {
        let mut streams = self.streams.lock().expect("no holder of this lock panics");
        let name = (url.to_owned(), place);
        if let Some(stream) = streams.get(&name)
            && !stream.queue.is_closed()
        {
            return stream.clone();
        }
        let id = self.next_stream.fetch_add(1, Ordering::Relaxed);
        let (sender, queue) = mpsc::channel(FORWARDED_MAX);
        let stream = Stream { id, queue: sender };
        streams.insert(name, stream.clone());
        let sending = Sending {
            url: url.to_owned(),
            queue,
            pending: VecDeque::new(),
        };
        tokio::spawn(sending.run(self.http.clone()));
        stream
    }
}

impl Sending {
    async fn run(mut self, http: reqwest::Client) {
        let (body, pieces) = mpsc::channel::<Vec<u8>>(PIECES_MAX);
        let pieces = ReceiverStream::new(pieces).map(Ok::<_, std::convert::Infallible>);
        let request = http
            .post(format!("{}{PATH}", self.url))
            .header(CONTENT_TYPE, MEDIA_TYPE)
            .body(reqwest::Body::wrap_stream(pieces));
        let opened = match timeout(OPEN_TIMEOUT, request.send()).await {
            Ok(Ok(response)) if response.status().is_success() => Ok(response),
            Ok(Ok(response)) => Err(format!("it answered {}", response.status())),
            Ok(Err(error)) => Err(words(&error)),
            Err(_) => Err(format!("no answer within {OPEN_TIMEOUT:?}")),
        };
        match opened {
            Ok(response) => {
                let reason = self.exchange(body, response).await;
                self.give_up(&reason);
            }
            Err(reason) => self.give_up(&reason),
        }
    }

    /// Sends and hears; gives why it ended.
    async fn exchange(
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
                        if let Err(reason) = self.hear(&line) {
                            return reason;
                        }
                    }
                    Ok(None) => return "it ended the stream".into(),
                    Err(error) => return words(&error),
                },
                outgoing = self.queue.recv(), if has_room && body.is_some() => {
                    let Some(piece) = outgoing.map(|first| self.take(first)) else {
                        // Nothing more is sent; the replies still come.
                        body = None;
                        continue;
                    };
                    let sent = match &body {
                        Some(body) => body.send(piece).await.is_ok(),
                        None => false,
                    };
                    if !sent {
                        return "the connection is gone".into();
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

    /// Some of what waits to be sent, as one piece.
    fn take(&mut self, first: Outgoing) -> Vec<u8> {
        let mut piece = first.line;
        self.pending.push_back(first.reply);
        let room = LINES_TOGETHER_MAX.min(FORWARDED_MAX - self.pending.len());
        for _ in 0..room {
            let Ok(next) = self.queue.try_recv() else {
                break;
            };
            piece.extend_from_slice(&next.line);
            self.pending.push_back(next.reply);
        }
        piece
    }

    /// Hands a reply to whoever waits for it.
    fn hear(&mut self, line: &Line) -> Result<(), String> {
        let Line::Text(text) = line else {
            return Err("a reply is too long".into());
        };
        let reply: Reply =
            serde_json::from_slice(text).map_err(|error| format!("a reply is none: {error}"))?;
        let waiting = self.pending.pop_front();
        let waiting = waiting.ok_or("there is a reply to nothing")?;
        if matches!(reply, Reply::NotOwner { .. }) {
            // What is sent after it could overtake it.
            self.queue.close();
            while let Ok(unsent) = self.queue.try_recv() {
                let broken = self.broken("it does not own the partition", false);
                let _ = unsent.reply.send(Err(broken));
            }
        }
        // Whoever has gone away may ask again under the same id.
        let _ = waiting.send(Ok(reply));
        Ok(())
    }

    fn give_up(mut self, reason: &str) {
        tracing::debug!(url = self.url, reason, "a stream to another node ends");
        self.queue.close();
        let mut pending = std::mem::take(&mut self.pending);
        for reply in pending.drain(..) {
            let _ = reply.send(Err(self.broken(reason, true)));
        }
        while let Ok(unsent) = self.queue.try_recv() {
            let _ = unsent.reply.send(Err(self.broken(reason, false)));
        }
    }

    fn broken(&self, reason: &str, is_sent: bool) -> Broken {
        Broken {
            url: self.url.clone(),
            reason: reason.to_owned(),
            is_sent,
        }
    }
}

/// An error with its causes: the first one rarely says anything.
fn words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let words: Vec<String> = causes.map(ToString::to_string).collect();
    words.join(": ")
}
