//! Commands on their way and the answers that come back, in the same order.
//!
//! Three things bound what is under way: the connection's own back-pressure, the queue of
//! unanswered commands, and the time that one answer may take.

use crate::import::{
    answer::{Answer, Verdict},
    command::Command,
};
use bytes::{Bytes, BytesMut};
use reqwest::{Body, RequestBuilder, Response, StatusCode};
use std::{convert::Infallible, time::Duration};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

/// Most commands that are sent and not answered.
pub const UNANSWERED_MAX: usize = 1_024;

/// Longest command, in bytes, its line end included: the service takes no longer line.
pub const COMMAND_BYTES_MAX: usize = 1024 * 1024;

/// The code under which a command is refused here, for the service would not take its line.
pub const COMMAND_TOO_LONG: &str = "COMMAND_TOO_LONG";

const ANSWER_BYTES_MAX: usize = 64 * 1024;
const BODY_QUEUE_COMMANDS: usize = 16;

/// Why the answers to commands could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer for too long.
    #[error(
        "the service has stalled: no answer for {} s after {answered} of {total} {what}; import \
         again: what was taken is not done twice",
        waited.as_secs()
    )]
    Stalled {
        /// What was being sent.
        what: &'static str,
        /// How many were answered.
        answered: u64,
        /// Of how many.
        total: u64,
        /// How long the next answer was waited for.
        waited: Duration,
    },
    /// The connection ended early.
    #[error(
        "the service stopped answering after {answered} of {total} {what}; import again: what \
         was taken is not done twice"
    )]
    StoppedEarly {
        /// What was being sent.
        what: &'static str,
        /// How many were answered.
        answered: u64,
        /// Of how many.
        total: u64,
        /// What the connection says.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// An answer that is none.
    #[error("the answer to line {line} of the {what} cannot be read: {text:?}")]
    Unreadable {
        /// What was being sent.
        what: &'static str,
        /// Which line of the request is to be answered, counted from 1.
        line: u64,
        /// The answer, cut at 200 characters.
        text: String,
    },
    /// An answer to something else.
    #[error("the service answered line {found} of the {what} where {expected:?} was due")]
    OutOfOrder {
        /// What was being sent.
        what: &'static str,
        /// The line that was to be answered; `None` when all had been.
        expected: Option<u64>,
        /// The line that was.
        found: u64,
    },
}

/// What is sent, how much of it, and how long an answer may take.
#[derive(Debug, Clone, Copy)]
pub struct Task {
    /// What the commands are, for people: `invoices`.
    pub what: &'static str,
    /// How many.
    pub total: u64,
    /// Longest time until the next answer.
    pub patience: Duration,
}

/// A request under way.
pub struct Exchange {
    task: Task,
    answered: u64,
    sent: u64,
    unanswered: mpsc::Receiver<Expected>,
    answers: AnswerLines,
}

/// How the service began its response.
pub enum Started {
    /// With status 200: answers follow.
    Answering(Exchange),
    /// With another status: it refuses the request as a whole.
    Refused(Response),
}

/// A command whose verdict is known.
#[derive(Debug, PartialEq, Eq)]
pub struct Answered {
    /// Its idempotency key.
    pub key: String,
    /// Where its first row stands in the file.
    pub line: u64,
    /// What became of it.
    pub verdict: Verdict,
}

/// The next verdict to come.
struct Expected {
    key: String,
    line: u64,
    is_sent: bool,
}

struct AnswerLines {
    response: Response,
    buffer: BytesMut,
}

/// Begins to send commands as the body of a request, and returns when the response begins.
pub async fn begin(
    task: Task,
    request: RequestBuilder,
    commands: impl Iterator<Item = Command> + Send + 'static,
) -> Result<Started, Error> {
    // The command whose answer is being waited for is no longer in the queue.
    let (expect, unanswered) = mpsc::channel(UNANSWERED_MAX - 1);
    let (body, chunks) = mpsc::channel(BODY_QUEUE_COMMANDS);
    // This ends with the commands, or when the exchange or the connection is dropped.
    tokio::spawn(feed(commands, expect, body));
    let chunks = ReceiverStream::new(chunks).map(Ok::<_, Infallible>);
    let sending = request.body(Body::wrap_stream(chunks)).send();
    let response = match timeout(task.patience, sending).await {
        Ok(Ok(response)) => response,
        Ok(Err(source)) => {
            return Err(Error::StoppedEarly {
                what: task.what,
                answered: 0,
                total: task.total,
                source: Some(source),
            });
        }
        Err(_) => {
            return Err(Error::Stalled {
                what: task.what,
                answered: 0,
                total: task.total,
                waited: task.patience,
            });
        }
    };
    if response.status() != StatusCode::OK {
        return Ok(Started::Refused(response));
    }
    Ok(Started::Answering(Exchange {
        task,
        answered: 0,
        sent: 0,
        unanswered,
        answers: AnswerLines {
            response,
            buffer: BytesMut::new(),
        },
    }))
}

impl Exchange {
    /// The next command's verdict, in the order in which they were given; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Answered>, Error> {
        let Some(expected) = self.unanswered.recv().await else {
            self.check_end().await?;
            return Ok(None);
        };
        let verdict = if expected.is_sent {
            self.sent += 1;
            self.next_answer().await?.verdict()
        } else {
            Verdict::Refused {
                code: COMMAND_TOO_LONG.to_owned(),
                reason: format!("the command is longer than {COMMAND_BYTES_MAX} bytes"),
            }
        };
        self.answered += 1;
        Ok(Some(Answered {
            key: expected.key,
            line: expected.line,
            verdict,
        }))
    }

    async fn next_answer(&mut self) -> Result<Answer, Error> {
        let line = self.sent;
        let text = match self.next_text().await? {
            Some(text) => text,
            None => return Err(self.stopped_early(None)),
        };
        let answer: Answer =
            serde_json::from_slice(&text).map_err(|_| self.unreadable(line, &text))?;
        if answer.line != line {
            return Err(Error::OutOfOrder {
                what: self.task.what,
                expected: Some(line),
                found: answer.line,
            });
        }
        Ok(answer)
    }

    /// Holds the end of the commands against the end of the answers.
    async fn check_end(&mut self) -> Result<(), Error> {
        if self.answered < self.task.total {
            return Err(self.stopped_early(None));
        }
        match self.next_text().await? {
            None => Ok(()),
            Some(text) => match serde_json::from_slice::<Answer>(&text) {
                Ok(answer) => Err(Error::OutOfOrder {
                    what: self.task.what,
                    expected: None,
                    found: answer.line,
                }),
                Err(_) => Err(self.unreadable(self.sent + 1, &text)),
            },
        }
    }

    /// The next line of the response, if there is one.
    async fn next_text(&mut self) -> Result<Option<Bytes>, Error> {
        let waited = self.task.patience;
        match timeout(waited, self.answers.next()).await {
            Err(_) => Err(Error::Stalled {
                what: self.task.what,
                answered: self.answered,
                total: self.task.total,
                waited,
            }),
            Ok(Err(LineError::Connection(source))) => Err(self.stopped_early(Some(source))),
            Ok(Err(LineError::TooLong(start))) => Err(self.unreadable(self.sent, &start)),
            Ok(Ok(text)) => Ok(text),
        }
    }

    fn stopped_early(&self, source: Option<reqwest::Error>) -> Error {
        Error::StoppedEarly {
            what: self.task.what,
            answered: self.answered,
            total: self.task.total,
            source,
        }
    }

    fn unreadable(&self, line: u64, text: &[u8]) -> Error {
        Error::Unreadable {
            what: self.task.what,
            line,
            text: String::from_utf8_lossy(text).chars().take(200).collect(),
        }
    }
}

enum LineError {
    Connection(reqwest::Error),
    TooLong(Bytes),
}

impl AnswerLines {
    /// The next whole line, without its end. What the connection cut off is no line.
    async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        let mut searched = 0;
        loop {
            if let Some(found) = self.buffer[searched..].iter().position(|b| *b == b'\n') {
                let mut line = self.buffer.split_to(searched + found + 1);
                line.truncate(line.len() - 1);
                return Ok(Some(line.freeze()));
            }
            searched = self.buffer.len();
            if searched > ANSWER_BYTES_MAX {
                return Err(LineError::TooLong(self.buffer.split().freeze()));
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) => return Ok(None),
                Err(source) => return Err(LineError::Connection(source)),
            }
        }
    }
}

/// Hands each command to the connection, after its place has gone to who waits for answers.
async fn feed(
    commands: impl Iterator<Item = Command> + Send,
    expect: mpsc::Sender<Expected>,
    body: mpsc::Sender<Bytes>,
) {
    for command in commands {
        let is_sent = command.json.len() <= COMMAND_BYTES_MAX;
        let expected = Expected {
            key: command.key,
            line: command.line,
            is_sent,
        };
        // Either end may be gone after an error, which the exchange reports; there is nobody to
        // send for then.
        if expect.send(expected).await.is_err() {
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
    use crate::import::{
        client::{self, Client, Patience},
        service_fake::{Behaviour, ServiceFake},
    };

    /// A command with so many blanks behind it.
    fn command(number: u64, blanks: usize) -> Command {
        let key = format!("sale/{number}");
        let json = format!("{{\"key\":\"{key}\"}}{}\n", " ".repeat(blanks));
        Command {
            key,
            line: number + 1,
            json: json.into(),
        }
    }

    /// Sends commands until the end or an error; what was answered, and that error.
    async fn exchange(
        behaviour: Behaviour,
        patience: Duration,
        commands: Vec<Command>,
    ) -> (Vec<Answered>, Option<client::Error>) {
        let service = ServiceFake::start(behaviour).await;
        let patience = Patience {
            answer: patience,
            ..Patience::default()
        };
        let client = Client::new(service.url(), patience).unwrap();
        let mut answered = Vec::new();
        let mut exchange = match client.send("invoices", commands.into_iter()).await {
            Ok(exchange) => exchange,
            Err(error) => return (answered, Some(error)),
        };
        loop {
            match exchange.next().await {
                Ok(Some(next)) => answered.push(next),
                Ok(None) => return (answered, None),
                Err(error) => return (answered, Some(error.into())),
            }
        }
    }

    async fn error_of(behaviour: Behaviour) -> (usize, String) {
        let commands = (1..=10).map(|number| command(number, 0)).collect();
        let (answered, error) = exchange(behaviour, Duration::from_millis(300), commands).await;
        (answered.len(), error.unwrap().to_string())
    }

    #[tokio::test]
    async fn sends_more_than_any_buffer_holds_and_keeps_the_order() {
        // 40 MB on their way, and ten times as many commands as may be unanswered.
        let count = 10 * UNANSWERED_MAX as u64;
        let commands = (1..=count).map(|number| command(number, 4_000)).collect();
        let (answered, error) =
            exchange(Behaviour::Accept, Duration::from_secs(30), commands).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(answered.len() as u64, count);
        for (number, next) in (1..).zip(answered) {
            let expected = Answered {
                key: format!("sale/{number}"),
                line: number + 1,
                verdict: Verdict::New,
            };
            assert_eq!(next, expected);
        }
    }

    #[tokio::test]
    async fn refuses_a_command_that_the_service_would_not_read() {
        let commands = vec![command(1, 0), command(2, COMMAND_BYTES_MAX), command(3, 0)];
        let (answered, error) =
            exchange(Behaviour::Accept, Duration::from_secs(30), commands).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(answered.len(), 3);
        assert!(matches!(
            &answered[1].verdict,
            Verdict::Refused { code, .. } if code == COMMAND_TOO_LONG
        ));
        assert_eq!(answered[2].verdict, Verdict::New);
    }

    #[tokio::test]
    async fn says_how_far_it_came_when_the_connection_ends() {
        for behaviour in [Behaviour::BreakOffAfter(3), Behaviour::EndAfter(3)] {
            let (answered, error) = error_of(behaviour).await;
            assert_eq!(answered, 3, "{behaviour:?}");
            assert_eq!(
                error,
                "the service stopped answering after 3 of 10 invoices; import again: what was \
                 taken is not done twice"
            );
        }
    }

    #[tokio::test]
    async fn says_that_the_service_has_stalled() {
        let (answered, error) = error_of(Behaviour::StallAfter(3)).await;
        assert_eq!(answered, 3);
        assert!(error.starts_with("the service has stalled"), "{error}");
        assert!(error.contains("after 3 of 10 invoices"), "{error}");
        assert_eq!(error_of(Behaviour::StallAfter(0)).await.0, 0);
    }

    #[tokio::test]
    async fn takes_no_answer_for_another() {
        let another = "{\"line\":7,\"status\":201}\n";
        let (answered, error) = error_of(Behaviour::SayAfter(2, another)).await;
        assert_eq!(answered, 2);
        assert!(error.contains("answered line 7"), "{error}");

        let (answered, error) = error_of(Behaviour::SayAfter(2, "what?\n")).await;
        assert_eq!(answered, 2);
        let expected = "the answer to line 3 of the invoices cannot be read: \"what?\"";
        assert_eq!(error, expected);

        let twice = "{\"line\":10,\"status\":201}\n{\"line\":11,\"status\":201}\n";
        let (answered, error) = error_of(Behaviour::SayAfter(9, twice)).await;
        assert_eq!(answered, 10);
        assert!(error.contains("answered line 11"), "{error}");
    }
}
