//! Commands from other nodes of the deployment, streamed: one line per command, one line per reply, in order.
//!
//! An owner on this node decides them, or this node refuses them: a forwarded command is not forwarded again.
//! A client of this route can name any principal. So the route is served on loopback addresses only, and not
//! to browsers, until nodes authenticate each other.

use crate::{
    handle::{WriteSide, WriteSideHandle},
    ndjson::{LINE_BYTES_MAX, Line, Lines, check_media_type, respond},
    owners::{AnswerReceiver, TypedCommand},
    routing::{
        in_flight::ANSWER_TIMEOUT,
        node_client::FORWARDED_MAX,
        node_protocol::{Forwarded, Reply, line},
    },
};
use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::Response,
};
use futures_util::StreamExt;
use journal::owner::{Refusal, Status};
use schemas::topics::TopicPartition;
use service::{
    budget::{Budget, Overloaded, Share},
    problem::Problem,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant, time::timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// Longest line, in bytes: a client's longest line, plus the envelope.
const FORWARDED_BYTES_MAX: usize = LINE_BYTES_MAX + (64 << 10);

/// Browsers send it with every request, and pages can't remove it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A line that was read and is not submitted yet.
struct ReadLine {
    line: Line,
    /// The client's wait counts from this time, however long the line waits here.
    arrived: Instant,
    share: Share,
}

/// The reply to a line, or the answer that it waits for.
enum PendingReply {
    Ready(Reply),
    Submitted {
        target: TopicPartition,
        answer: AnswerReceiver,
        deadline: Instant,
        /// Held until the command is answered.
        share: Share,
    },
}

/// One stream of commands.
struct CommandStream {
    write_side: WriteSide,
    /// Whether a command was refused. Later commands of the stream must not be decided before the refused command is
    /// sent again.
    is_broken: Arc<AtomicBool>,
}

/// Receives commands, and replies to each.
///
/// # Errors
/// 403: a browser sent the request. 415: the body does not have the form of lines. 503: the write side has not been
/// started yet.
pub async fn commands(
    State(handle): State<WriteSideHandle>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    refuse_browsers(&headers)?;
    check_media_type(&headers)?;
    let write_side = handle.get()?;
    let is_broken = Arc::new(AtomicBool::new(false));
    let (sender, pending) = mpsc::channel(FORWARDED_MAX);
    let (read, lines) = mpsc::channel(FORWARDED_MAX);
    let (budget, closing) = (handle.budget().clone(), write_side.closing.clone());
    tokio::spawn(read_lines(body, read, budget, closing));
    let stream = CommandStream {
        write_side: write_side.clone(),
        is_broken: is_broken.clone(),
    };
    tokio::spawn(stream.run(lines, sender));
    let replies = ReceiverStream::new(pending).then(move |pending| {
        let (write_side, is_broken) = (write_side.clone(), is_broken.clone());
        async move {
            let reply = reply(&write_side, pending).await;
            if matches!(reply, Reply::NotOwner { .. }) {
                is_broken.store(true, Ordering::Relaxed);
            }
            line(&reply)
        }
    });
    Ok(respond(replies))
}

/// Refuses a request that a browser sends for a page. Nodes send neither `Origin` nor `Sec-Fetch-Site`.
pub(super) fn refuse_browsers(headers: &HeaderMap) -> Result<(), Problem> {
    if !headers.contains_key(header::ORIGIN) && !headers.contains_key(SEC_FETCH_SITE) {
        return Ok(());
    }
    let detail = "only nodes of this deployment may use this route; send commands to /api/v1";
    Err(Problem::new(StatusCode::FORBIDDEN, "NODES_ONLY", detail))
}

/// Reads lines until the body, their receiver or the service ends. It never waits for an owner: unread bytes
/// would use up the flow-control window of the connection, which all partitions share. The sender has at most
/// [`FORWARDED_MAX`] lines without a reply, so there is always room for its next line. For the same reason a line
/// does not wait for its share of the budget. A line that gets no share is dropped, and its reply, which comes in
/// order, is a refusal.
async fn read_lines(
    body: Body,
    read: mpsc::Sender<Result<ReadLine, Overloaded>>,
    budget: Budget,
    closing: CancellationToken,
) {
    let mut lines = Lines::within(FORWARDED_BYTES_MAX, body.into_data_stream());
    while let Some(Ok(Some(line))) = closing.run_until_cancelled(lines.next()).await {
        let arrived = Instant::now();
        let bytes = match &line {
            Line::Text(text) => text.len(),
            Line::TooLong => 0,
        };
        let line = budget.try_take(bytes).map(|share| ReadLine {
            line,
            arrived,
            share,
        });
        if read.send(line).await.is_err() {
            return;
        }
    }
}

impl CommandStream {
    /// Submits lines, one after the other, until there are no more or the receiver of replies is gone. Lines
    /// that were submitted before still get their replies.
    async fn run(
        self,
        mut lines: mpsc::Receiver<Result<ReadLine, Overloaded>>,
        sender: mpsc::Sender<PendingReply>,
    ) {
        while let Some(line) = lines.recv().await {
            let pending = match line {
                Ok(line) => self.submit(line).await,
                Err(overloaded) => PendingReply::Ready(Reply::Busy(overloaded.to_string())),
            };
            if sender.send(pending).await.is_err() {
                return;
            }
        }
    }

    async fn submit(&self, line: ReadLine) -> PendingReply {
        let (command, deadline) = match self.read(&line) {
            Ok(read) => read,
            Err(reply) => return PendingReply::Ready(*reply),
        };
        let target = command.target();
        let TopicPartition { topic, partition } = target;
        self.write_side.router.meters(topic).forwarded.increment(1);
        if let Some(reason) = self.reason_to_refuse(target) {
            let trace_id = command.trace_id();
            tracing::debug!(
                topic,
                partition,
                trace_id,
                reason,
                "forwarded command is refused"
            );
            return PendingReply::Ready(Reply::NotOwner {
                reason,
                was_submitted: false,
                owner: self.write_side.router.owner(target),
            });
        }
        let share = line.share;
        match self.write_side.router.submit(command, deadline).await {
            Ok(answer) => PendingReply::Submitted {
                target,
                answer,
                deadline,
                share,
            },
            Err(refusal) => PendingReply::Ready(Reply::to_submitted(Err(refusal), None)),
        }
    }

    fn read(&self, line: &ReadLine) -> Result<(TypedCommand, Instant), Box<Reply>> {
        let unreadable = |reason: String| Box::new(Reply::Unavailable(reason));
        let Line::Text(text) = &line.line else {
            return Err(unreadable("a forwarded command is too long".into()));
        };
        let forwarded: Forwarded = serde_json::from_slice(text)
            .map_err(|error| unreadable(format!("a forwarded command can't be read: {error}")))?;
        let router = &self.write_side.router;
        if forwarded.hash_key != router.hash_key() {
            tracing::error!(
                sender = forwarded.hash_key,
                own = router.hash_key(),
                "a node with another hash key forwarded a command; commands.hash_key_file must hold the \
                 same key on every node"
            );
            return Err(Box::new(Reply::OtherHashKey {
                hash_key: router.hash_key().to_owned(),
            }));
        }
        let within = Duration::from_millis(forwarded.within_ms).min(ANSWER_TIMEOUT);
        let command = router.prepare(&forwarded.command);
        let command = command.map_err(|error| unreadable(error.to_string()))?;
        Ok((command, line.arrived + within))
    }

    /// The reason why a command must be refused at once; `None` if it can be submitted.
    fn reason_to_refuse(&self, target: TopicPartition) -> Option<String> {
        if self.is_broken.load(Ordering::Relaxed) {
            return Some("an earlier command of this stream was refused".into());
        }
        match &*self.write_side.router.statuses().of(target) {
            // Commands wait for an owner that takes over or is at a barrier.
            Status::Serving { .. } | Status::TakingOver(_) => None,
            Status::Standby => Some("the partition is not assigned to this node".into()),
            Status::SteppingDown => Some("the owner is stepping down".into()),
            Status::Declined { reason, .. } | Status::Ended(reason) => Some(reason.to_string()),
        }
    }
}

async fn reply(write_side: &WriteSide, pending: PendingReply) -> Reply {
    let (target, answer, deadline, _share) = match pending {
        PendingReply::Ready(reply) => return reply,
        PendingReply::Submitted {
            target,
            answer,
            deadline,
            share,
        } => (target, answer, deadline, share),
    };
    let answered = match timeout_at(deadline, answer).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(_)) => Err(Refusal::NotOwner("the owner has ended".into())),
        Err(_) => Err(Refusal::Unavailable("no answer in time".into())),
    };
    Reply::to_submitted(answered, write_side.router.owner(target))
}
