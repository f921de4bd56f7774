//! A batch, streamed both ways: each line of the request is answered with one line, in order.
//!
//! Reading and answering do not wait for each other, so that a client may send all its lines before it reads an
//! answer, as long as lines and answers fit into [`BYTES_AHEAD_MAX`]. If the batch is interrupted, the response's
//! last line names the first line that was not taken, and its body then breaks off, so that no client mistakes a part
//! of the answers for all of them.

mod ending;
#[cfg(test)]
mod tests;

use self::ending::{Activity, Interruption, LastLine};
use crate::ndjson::{Line, Lines, MEDIA_TYPE, chunks};
use axum::{
    body::{Body, BodyDataStream, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use service::{
    budget::{Budget, Share},
    connection::ClientConnection,
    problem::Problem,
    shutdown::CONNECTIONS_TIMEOUT,
};
use std::{future::ready, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument;

pub use self::ending::IDLE_TIMEOUT;

/// Maximum number of lines that were read and are not answered yet.
pub const LINES_AHEAD_MAX: usize = 1_024;
/// Maximum number of bytes of one batch's unanswered lines and unread answers.
pub const BYTES_AHEAD_MAX: u32 = 16 << 20;
/// Bytes that are reserved for a line's answer until it is written.
pub const ANSWER_BYTES: usize = 1 << 10;
/// Capacity of the queue of unread answers. The queue is never full, because so many answers exceed
/// [`BYTES_AHEAD_MAX`].
const ANSWERS_MAX: usize = 1 << 18;
/// Longest time that a line waits for a share of the process's budget before it is refused.
const BUDGET_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest time for which lines are read and discarded after an interruption, so that the connection of a
/// client that keeps sending does not break before the client receives the last line.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between the flush of the last line and the error that ends the body. The error closes the connection, so the
/// client gets this time to read the line: if it still sends then, its operating system discards what it has not read.
pub const LAST_LINE_GRACE: Duration = Duration::from_millis(500);

/// Submits the lines of a batch.
pub trait Submit: Send + 'static {
    /// A submitted line.
    type Submitted: Send + 'static;

    /// Submits a line, which keeps its share of the budget until it is decided.
    fn submit(
        &mut self,
        line: &Line,
        share: Share,
    ) -> impl Future<Output = Result<Self::Submitted, Problem>> + Send;
}

/// Answers the lines of a batch.
pub trait Answer<Submitted>: Send + 'static {
    /// Waits for the answer to a line, and returns it as text with a line feed.
    fn answer(
        &mut self,
        number: u64,
        submitted: Result<Submitted, Problem>,
    ) -> impl Future<Output = Vec<u8>> + Send;
}

/// A line that needs an answer.
enum PendingLine<Submitted> {
    Taken {
        number: u64,
        submitted: Result<Submitted, Problem>,
        /// The answer's share of the budget; `None` if the line was refused for lack of one.
        share: Option<Share>,
    },
    /// The first line that was not taken.
    Last(LastLine),
    /// Every line was taken.
    End,
}

/// An answer that the client has not read.
struct UnreadAnswer {
    text: Vec<u8>,
    _share: Option<Share>,
}

/// The response's body broke off after a last line with the reason.
#[derive(Debug, thiserror::Error)]
#[error("not all lines were taken")]
struct Incomplete;

/// Reads the request of a batch.
struct BatchReader<S: Submit> {
    lines: Lines<BodyDataStream>,
    submit: S,
    /// This batch's part of the process's budget.
    room: Budget,
    activity: Activity,
    /// Cancelled to stop.
    closing: CancellationToken,
    pending: mpsc::Sender<PendingLine<S::Submitted>>,
}

/// Answers each line of `body`, until `closing`. Lines and unread answers take shares of `budget`. `connection` is that
/// of the client.
pub fn batch_stream<S: Submit>(
    body: Body,
    submit: S,
    answer: impl Answer<S::Submitted>,
    budget: &Budget,
    closing: CancellationToken,
    connection: ClientConnection,
) -> Response {
    let (pending, submitted) = mpsc::channel(LINES_AHEAD_MAX);
    let (to_client, answers) = mpsc::channel(ANSWERS_MAX);
    let (ending, ended) = oneshot::channel();
    let over = CancellationToken::new();
    let activity = Activity::begin();
    let reader = BatchReader {
        lines: Lines::new(body.into_data_stream()),
        submit,
        room: budget.part(BYTES_AHEAD_MAX),
        activity: activity.clone(),
        closing,
        pending,
    };
    tokio::spawn(reader.run(over.clone()).in_current_span());
    let writing = write_answers(submitted, to_client, ending, answer);
    tokio::spawn(writing.in_current_span());
    let texts = ReceiverStream::new(answers).map(move |answer: UnreadAnswer| {
        activity.note();
        answer.text
    });
    let end = end_of_body(ended, connection, over.drop_guard());
    let body = chunks(texts).map(Ok).chain(end);
    (
        [(header::CONTENT_TYPE, MEDIA_TYPE)],
        Body::from_stream(body),
    )
        .into_response()
}

/// Ends the response's body after its lines, with an error if not all lines were taken. The error makes the connection
/// drop the data that a slow reader has not made room for, so this waits until the last line was flushed.
fn end_of_body(
    ended: oneshot::Receiver<Result<(), Incomplete>>,
    connection: ClientConnection,
    over: DropGuard,
) -> impl stream::Stream<Item = Result<Bytes, Incomplete>> {
    let end = async move {
        let ended = ended.await.unwrap_or(Err(Incomplete));
        if ended.is_err() {
            connection.flushed(CONNECTIONS_TIMEOUT).await;
            sleep(LAST_LINE_GRACE).await;
        }
        drop(over);
        ended
    };
    stream::once(end).filter_map(|ended| ready(ended.err().map(Err)))
}

impl<S: Submit> BatchReader<S> {
    /// Reads to the end of the body, or to an interruption. After that, lines are discarded until the
    /// response is `over`.
    async fn run(mut self, over: CancellationToken) {
        // The client may have disconnected, here and below.
        let Err(last) = self.read().await else {
            let _ = self.pending.send(PendingLine::End).await;
            return;
        };
        tracing::info!(line = last.number, reason = %last.reason, "batch was not read to its end");
        let _ = self.pending.send(PendingLine::Last(last)).await;
        let discard = async { while let Ok(Some(_)) = self.lines.next().await {} };
        over.run_until_cancelled(timeout(DISCARD_TIMEOUT, discard))
            .await;
    }

    /// Submits each line. Returns `Ok` once the body has ended, or the client reads no more answers.
    async fn read(&mut self) -> Result<(), LastLine> {
        for number in 1.. {
            let stopped = |reason| LastLine { number, reason };
            let Some(line) = self.next_line().await.map_err(stopped)? else {
                return Ok(());
            };
            self.activity.note();
            let share = self.share_of(&line).await.map_err(stopped)?;
            let (submitted, share) = match share {
                Ok(mut share) => {
                    let of_answer = share.split(ANSWER_BYTES);
                    let submitted = self.submit.submit(&line, share).await;
                    (submitted, Some(of_answer))
                }
                Err(overloaded) => (Err(overloaded), None),
            };
            let line = PendingLine::Taken {
                number,
                submitted,
                share,
            };
            if self.pending.send(line).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn next_line(&mut self) -> Result<Option<Line>, Interruption> {
        // Checked first, because a line may always be ready.
        if self.closing.is_cancelled() {
            return Err(Interruption::Stopping);
        }
        tokio::select! {
            biased;
            line = self.lines.next() => {
                line.map_err(|error| Interruption::CutOff(error.to_string()))
            }
            () = self.closing.cancelled() => Err(Interruption::Stopping),
            () = self.activity.idle() => Err(Interruption::Idle),
        }
    }

    /// Waits for room for a line and its answer. The inner error refuses only this line.
    async fn share_of(&mut self, line: &Line) -> Result<Result<Share, Problem>, Interruption> {
        let bytes = match line {
            Line::Text(text) => text.len() + ANSWER_BYTES,
            Line::TooLong => ANSWER_BYTES,
        };
        tokio::select! {
            biased;
            share = self.room.take(bytes, BUDGET_TIMEOUT) => Ok(share.map_err(Problem::from)),
            () = self.closing.cancelled() => Err(Interruption::Stopping),
            () = self.activity.idle() => Err(Interruption::Idle),
        }
    }
}

/// Writes the answer to each line, in order. `ending` gets `Ok` only if each line was taken and answered.
async fn write_answers<Submitted>(
    mut pending: mpsc::Receiver<PendingLine<Submitted>>,
    to_client: mpsc::Sender<UnreadAnswer>,
    ending: oneshot::Sender<Result<(), Incomplete>>,
    mut answer: impl Answer<Submitted>,
) {
    while let Some(line) = pending.recv().await {
        let (unread, is_last) = match line {
            PendingLine::Taken {
                number,
                submitted,
                share,
            } => {
                let text = answer.answer(number, submitted).await;
                (UnreadAnswer::new(text, share), false)
            }
            PendingLine::Last(last) => (UnreadAnswer::new(last.text(), None), true),
            PendingLine::End => {
                // The client may have disconnected, here and below.
                let _ = ending.send(Ok(()));
                return;
            }
        };
        if to_client.send(unread).await.is_err() {
            return;
        }
        if is_last {
            let _ = ending.send(Err(Incomplete));
            return;
        }
    }
}

impl UnreadAnswer {
    fn new(text: Vec<u8>, mut share: Option<Share>) -> Self {
        if let Some(share) = &mut share {
            share.keep(text.len());
        }
        Self {
            text,
            _share: share,
        }
    }
}
