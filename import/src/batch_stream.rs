//! Sends a batch of commands as one streaming request, and receives their outcomes in the same order.
//!
//! Three bounds apply: the back-pressure of the connection, the queue of unanswered commands, and the time
//! that one answer may take.

use crate::{
    answer::{Answer, Outcome},
    command::Command,
};
use bytes::Bytes;
use reqwest::{Body, RequestBuilder, Response, StatusCode};
use std::{convert::Infallible, io, pin::Pin, time::Duration};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt},
    sync::mpsc,
    time::timeout,
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::io::StreamReader;

/// Maximum number of commands that are sent and not answered.
pub const UNANSWERED_MAX: usize = 1_024;

/// Maximum length of a command, in bytes, including its line feed. The service accepts no line that is
/// longer.
pub const COMMAND_BYTES_MAX: usize = 1024 * 1024;

/// Code of a command that is refused here, because the service would not accept its length.
pub const COMMAND_TOO_LONG: &str = "COMMAND_TOO_LONG";

/// Maximum length of an answer, in bytes, without its line feed.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Length of an answer in an error, in characters.
const SHOWN_CHARS_MAX: usize = 200;
const BODY_QUEUE_COMMANDS: usize = 16;

/// Reasons why answers are missing or invalid.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The next answer did not arrive in time.
    #[error(
        "the service has stalled: no answer for {} s after {answered} of {total} {batch}; import \
         again: accepted commands are not executed twice",
        waited.as_secs()
    )]
    Stalled {
        /// Name of the batch.
        batch: &'static str,
        /// Number of answered commands.
        answered: u64,
        /// Number of commands in the batch.
        total: u64,
        /// Duration of the wait for the next answer.
        waited: Duration,
    },
    /// The connection ended before the last answer.
    #[error(
        "the service stopped answering after {answered} of {total} {batch}; import again: \
         accepted commands are not executed twice"
    )]
    StoppedEarly {
        /// Name of the batch.
        batch: &'static str,
        /// Number of answered commands.
        answered: u64,
        /// Number of commands in the batch.
        total: u64,
        /// The connection's error, if it had one.
        #[source]
        source: Option<io::Error>,
    },
    /// An answer can't be parsed.
    #[error("the answer to line {line} of the {batch} cannot be read: {text:?}")]
    Unreadable {
        /// Name of the batch.
        batch: &'static str,
        /// The line of the request whose answer was expected, counted from 1.
        line: u64,
        /// The answer, truncated to 200 characters.
        text: String,
    },
    /// An answer belongs to another command.
    #[error("the service answered line {found} of the {batch} instead of {expected:?}")]
    OutOfOrder {
        /// Name of the batch.
        batch: &'static str,
        /// The line whose answer was expected; `None` if all had been answered.
        expected: Option<u64>,
        /// The line that was answered.
        found: u64,
    },
}

/// A batch of commands of one kind.
#[derive(Debug, Clone, Copy)]
pub struct Batch {
    /// Name of the batch for people, such as `invoices`.
    pub name: &'static str,
    /// Number of commands.
    pub total: u64,
    /// Longest wait for the next answer.
    pub answer_timeout: Duration,
}

/// A batch that is being sent and answered.
pub struct BatchStream {
    batch: Batch,
    answered: u64,
    sent: u64,
    unanswered: mpsc::Receiver<InFlight>,
    answers: Pin<Box<dyn AsyncBufRead + Send>>,
}

/// The service's response to a batch.
pub enum Opened {
    /// Status 200: answers follow.
    Answering(BatchStream),
    /// Another status: the service refuses the whole request.
    Refused(Response),
}

/// A command and its outcome.
#[derive(Debug, PartialEq, Eq)]
pub struct Answered {
    /// The command's idempotency key.
    pub key: String,
    /// Position of the command's first row in the file.
    pub line: u64,
    /// The command's outcome.
    pub outcome: Outcome,
}

/// A command without an outcome yet.
struct InFlight {
    key: String,
    line: u64,
    is_sent: bool,
}

/// Starts to send commands as the body of a request, and returns when the response begins.
///
/// # Errors
/// [`Error`]: the connection failed, or no response began within the batch's timeout.
pub async fn open(
    batch: Batch,
    request: RequestBuilder,
    commands: impl Iterator<Item = Command> + Send + 'static,
) -> Result<Opened, Error> {
    // One less than the bound, because the command whose answer is awaited has left the queue.
    let (in_flight, unanswered) = mpsc::channel(UNANSWERED_MAX - 1);
    let (body, chunks) = mpsc::channel(BODY_QUEUE_COMMANDS);
    // This task ends with the last command, or when the batch stream or the connection is dropped.
    tokio::spawn(write_commands(commands, in_flight, body));
    let chunks = ReceiverStream::new(chunks).map(Ok::<_, Infallible>);
    let sending = request.body(Body::wrap_stream(chunks)).send();
    let response = match timeout(batch.answer_timeout, sending).await {
        Ok(Ok(response)) => response,
        Ok(Err(source)) => return Err(batch.stopped_early(0, Some(io::Error::other(source)))),
        Err(_) => return Err(batch.stalled(0)),
    };
    if response.status() != StatusCode::OK {
        return Ok(Opened::Refused(response));
    }
    let chunks = response.bytes_stream();
    let chunks = chunks.map(|chunk| chunk.map_err(io::Error::other));
    Ok(Opened::Answering(BatchStream {
        batch,
        answered: 0,
        sent: 0,
        unanswered,
        answers: Box::pin(StreamReader::new(chunks)),
    }))
}

impl Batch {
    fn stalled(&self, answered: u64) -> Error {
        Error::Stalled {
            batch: self.name,
            answered,
            total: self.total,
            waited: self.answer_timeout,
        }
    }

    fn stopped_early(&self, answered: u64, source: Option<io::Error>) -> Error {
        Error::StoppedEarly {
            batch: self.name,
            answered,
            total: self.total,
            source,
        }
    }

    fn unreadable(&self, line: u64, text: &[u8]) -> Error {
        let text = String::from_utf8_lossy(text);
        Error::Unreadable {
            batch: self.name,
            line,
            text: text.chars().take(SHOWN_CHARS_MAX).collect(),
        }
    }
}

impl BatchStream {
    /// The outcome of the next command, in the order of the commands; `None` after the last one. At most
    /// [`UNANSWERED_MAX`] commands are sent before their outcomes are taken by this function.
    ///
    /// # Errors
    /// [`Error`]: an answer is late, missing, unreadable or out of order. The outcomes of the remaining commands are
    /// unknown.
    pub async fn next(&mut self) -> Result<Option<Answered>, Error> {
        let Some(command) = self.unanswered.recv().await else {
            self.check_end().await?;
            return Ok(None);
        };
        let outcome = if command.is_sent {
            self.sent += 1;
            self.next_answer().await?.outcome()
        } else {
            Outcome::Refused {
                code: COMMAND_TOO_LONG.to_owned(),
                reason: format!("the command is longer than {COMMAND_BYTES_MAX} bytes"),
            }
        };
        self.answered += 1;
        Ok(Some(Answered {
            key: command.key,
            line: command.line,
            outcome,
        }))
    }

    async fn next_answer(&mut self) -> Result<Answer, Error> {
        let line = self.sent;
        let Some(text) = self.next_line().await? else {
            return Err(self.batch.stopped_early(self.answered, None));
        };
        let answer: Answer =
            serde_json::from_slice(&text).map_err(|_| self.batch.unreadable(line, &text))?;
        if answer.line != line {
            return Err(Error::OutOfOrder {
                batch: self.batch.name,
                expected: Some(line),
                found: answer.line,
            });
        }
        Ok(answer)
    }

    /// Checks that the answers end after the last command's.
    async fn check_end(&mut self) -> Result<(), Error> {
        if self.answered < self.batch.total {
            return Err(self.batch.stopped_early(self.answered, None));
        }
        match self.next_line().await? {
            None => Ok(()),
            Some(text) => match serde_json::from_slice::<Answer>(&text) {
                Ok(answer) => Err(Error::OutOfOrder {
                    batch: self.batch.name,
                    expected: None,
                    found: answer.line,
                }),
                Err(_) => Err(self.batch.unreadable(self.sent + 1, &text)),
            },
        }
    }

    /// The next complete line of the response, without its line feed; `None` at the end. An incomplete line
    /// at the end is not an answer.
    async fn next_line(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let mut line = Vec::new();
        // The line feed is not part of the bound.
        let mut bounded = (&mut self.answers).take(ANSWER_BYTES_MAX as u64 + 1);
        let reading = bounded.read_until(b'\n', &mut line);
        match timeout(self.batch.answer_timeout, reading).await {
            Err(_) => Err(self.batch.stalled(self.answered)),
            Ok(Err(source)) => Err(self.batch.stopped_early(self.answered, Some(source))),
            Ok(Ok(_)) if line.ends_with(b"\n") => {
                line.pop();
                Ok(Some(line))
            }
            Ok(Ok(_)) if line.len() > ANSWER_BYTES_MAX => {
                Err(self.batch.unreadable(self.sent, &line))
            }
            Ok(Ok(_)) => Ok(None),
        }
    }
}

/// Announces each command to the receiver of answers, then passes it to the connection.
async fn write_commands(
    commands: impl Iterator<Item = Command> + Send,
    in_flight: mpsc::Sender<InFlight>,
    body: mpsc::Sender<Bytes>,
) {
    for command in commands {
        let is_sent = command.json.len() <= COMMAND_BYTES_MAX;
        let announced = InFlight {
            key: command.key,
            line: command.line,
            is_sent,
        };
        // Either receiver may be dropped after an error, which the batch stream reports.
        if in_flight.send(announced).await.is_err() {
            return;
        }
        if is_sent && body.send(command.json).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service_fake::{Behaviour, ServiceFake};

    /// A command followed by this number of blanks.
    fn command(number: u64, blanks: usize) -> Command {
        let key = format!("sale/{number}");
        let json = format!("{{\"key\":\"{key}\"}}{}\n", " ".repeat(blanks));
        Command {
            key,
            line: number + 1,
            json: json.into(),
        }
    }

    /// Sends commands until the end or an error; returns the outcomes and that error.
    async fn send(
        behaviour: Behaviour,
        answer_timeout: Duration,
        commands: Vec<Command>,
    ) -> (Vec<Answered>, Option<Error>) {
        let service = ServiceFake::start(behaviour).await;
        let url = format!("{}/api/v1/admin/commands", service.url());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let batch = Batch {
            name: "invoices",
            total: commands.len() as u64,
            answer_timeout,
        };
        let mut answered = Vec::new();
        let mut stream = match open(batch, client.post(url), commands.into_iter()).await {
            Ok(Opened::Answering(stream)) => stream,
            Ok(Opened::Refused(response)) => panic!("refused: {response:?}"),
            Err(error) => return (answered, Some(error)),
        };
        loop {
            match stream.next().await {
                Ok(Some(next)) => answered.push(next),
                Ok(None) => return (answered, None),
                Err(error) => return (answered, Some(error)),
            }
        }
    }

    /// Sends ten commands; returns the number of outcomes and the error.
    async fn error_of(behaviour: Behaviour) -> (usize, String) {
        let commands = (1..=10).map(|number| command(number, 0)).collect();
        let (answered, error) = send(behaviour, Duration::from_millis(300), commands).await;
        let error = error.unwrap_or_else(|| panic!("no error from {behaviour:?}: {answered:?}"));
        (answered.len(), error.to_string())
    }

    #[tokio::test]
    async fn outcomes_keep_the_order_of_more_commands_than_any_buffer_holds() {
        // 40 MB are sent, and ten times as many commands as may be unanswered.
        let count = 10 * UNANSWERED_MAX as u64;
        let commands = (1..=count).map(|number| command(number, 4_000)).collect();
        let (answered, error) = send(Behaviour::Accept, Duration::from_secs(30), commands).await;
        assert!(error.is_none(), "{error:?} instead of no error");
        assert_eq!(answered.len() as u64, count);
        for (number, next) in (1..).zip(answered) {
            let expected = Answered {
                key: format!("sale/{number}"),
                line: number + 1,
                outcome: Outcome::New,
            };
            assert_eq!(next, expected);
        }
    }

    #[tokio::test]
    async fn a_command_that_is_too_long_is_refused_without_being_sent() {
        let commands = vec![command(1, 0), command(2, COMMAND_BYTES_MAX), command(3, 0)];
        let (answered, error) = send(Behaviour::Accept, Duration::from_secs(30), commands).await;
        assert!(error.is_none(), "{error:?} instead of no error");
        let outcomes: Vec<_> = answered.into_iter().map(|one| one.outcome).collect();
        let too_long = Outcome::Refused {
            code: COMMAND_TOO_LONG.to_owned(),
            reason: "the command is longer than 1048576 bytes".to_owned(),
        };
        assert_eq!(outcomes, [Outcome::New, too_long, Outcome::New]);
    }

    #[tokio::test]
    async fn an_interrupted_connection_is_reported_with_the_number_of_answers() {
        for behaviour in [Behaviour::BreakAfter(3), Behaviour::EndAfter(3)] {
            let (answered, error) = error_of(behaviour).await;
            assert_eq!(answered, 3, "{behaviour:?}");
            assert_eq!(
                error,
                "the service stopped answering after 3 of 10 invoices; import again: accepted \
                 commands are not executed twice"
            );
        }
    }

    #[tokio::test]
    async fn an_incomplete_line_at_the_end_is_not_an_answer() {
        let incomplete = "{\"line\":10,\"status\":201}";
        let (answered, error) = error_of(Behaviour::SendAfter(9, incomplete)).await;
        assert_eq!(answered, 9);
        assert!(
            error.contains("after 9 of 10 invoices"),
            "no \"after 9 of 10 invoices\" in: {error}"
        );
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_is_an_error() {
        let long: &'static str = "x".repeat(ANSWER_BYTES_MAX + 1).leak();
        let (answered, error) = error_of(Behaviour::SendAfter(2, long)).await;
        assert_eq!(answered, 2);
        let shown = "x".repeat(SHOWN_CHARS_MAX);
        let expected = format!("the answer to line 3 of the invoices cannot be read: \"{shown}\"");
        assert_eq!(error, expected);
    }

    #[tokio::test]
    async fn a_stalled_service_is_an_error() {
        let (answered, error) = error_of(Behaviour::StallAfter(3)).await;
        assert_eq!(answered, 3);
        assert!(
            error.starts_with("the service has stalled"),
            "no \"the service has stalled\" at the start of: {error}"
        );
        assert!(
            error.contains("after 3 of 10 invoices"),
            "no \"after 3 of 10 invoices\" in: {error}"
        );
        let (answered, error) = error_of(Behaviour::StallAfter(0)).await;
        assert_eq!(answered, 0);
        assert!(
            error.contains("after 0 of 10 invoices"),
            "no \"after 0 of 10 invoices\" in: {error}"
        );
    }

    #[tokio::test]
    async fn an_answer_to_another_line_is_an_error() {
        let other = "{\"line\":7,\"status\":201}\n";
        let (answered, error) = error_of(Behaviour::SendAfter(2, other)).await;
        assert_eq!(answered, 2);
        assert!(
            error.contains("answered line 7"),
            "no \"answered line 7\" in: {error}"
        );

        let (answered, error) = error_of(Behaviour::SendAfter(2, "what?\n")).await;
        assert_eq!(answered, 2);
        let expected = "the answer to line 3 of the invoices cannot be read: \"what?\"";
        assert_eq!(error, expected);

        let surplus = "{\"line\":10,\"status\":201}\n{\"line\":11,\"status\":201}\n";
        let (answered, error) = error_of(Behaviour::SendAfter(9, surplus)).await;
        assert_eq!(answered, 10);
        assert!(
            error.contains("answered line 11"),
            "no \"answered line 11\" in: {error}"
        );
    }
}
