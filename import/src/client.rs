//! HTTP client of the service: waits until it is ready, and sends it commands.

use crate::{
    batch_stream::{self, Batch, BatchStream, Opened},
    command::Command,
};
use reqwest::{Response, StatusCode, Url, header::CONTENT_TYPE};
use std::{io, time::Duration};
use tokio::{
    io::AsyncReadExt,
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::StreamExt;
use tokio_util::io::StreamReader;

const COMMANDS_PATH: &str = "/api/v1/admin/commands";
const READY_PATH: &str = "/health/ready";
/// Maximum length of a problem in an error, in bytes.
const PROBLEM_BYTES_MAX: u64 = 2 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Reasons why commands can't be sent or answers can't be received.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is invalid or has another scheme.
    #[error("{url:?} is not the address of a service; give one such as http://127.0.0.1:8080")]
    Url {
        /// The invalid URL.
        url: String,
    },
    /// The HTTP client can't be created.
    #[error("cannot set up the http client")]
    Setup(#[source] reqwest::Error),
    /// The service can't be reached.
    #[error("cannot reach the service at {url} within {} s", waited.as_secs())]
    Unreachable {
        /// URL of the last attempt.
        url: String,
        /// Duration of all attempts.
        waited: Duration,
        /// Error of the last attempt.
        #[source]
        source: reqwest::Error,
    },
    /// The service is not ready.
    #[error(
        "the service at {url} is not ready within {} s; it answered {status}: {problem}",
        waited.as_secs()
    )]
    NotReady {
        /// URL of the last attempt.
        url: String,
        /// Duration of all attempts.
        waited: Duration,
        /// Status of the last answer.
        status: StatusCode,
        /// Text of the last answer.
        problem: String,
    },
    /// The service refused the whole request.
    #[error("the service refused the {batch}: {status}: {problem}")]
    Refused {
        /// Name of the batch.
        batch: &'static str,
        /// Status of the response.
        status: StatusCode,
        /// Text of the response.
        problem: String,
    },
    /// Answers are missing or invalid.
    #[error(transparent)]
    Batch(#[from] batch_stream::Error),
}

/// Longest waits.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Until the service is ready.
    pub ready: Duration,
    /// Until the next answer.
    pub answer: Duration,
}

/// A client of one service.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    timeouts: Timeouts,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            ready: Duration::from_secs(10),
            answer: Duration::from_secs(30),
        }
    }
}

impl Client {
    /// A client of the service at an address such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// [`Error::Url`] or [`Error::Setup`].
    pub fn new(url: &str, timeouts: Timeouts) -> Result<Self, Error> {
        let base = Url::parse(url)
            .ok()
            .filter(|base| base.scheme() == "http" && base.has_host())
            .ok_or_else(|| Error::Url {
                url: url.to_owned(),
            })?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(Error::Setup)?;
        Ok(Self {
            http,
            base,
            timeouts,
        })
    }

    /// Waits until the service is ready, by probing it with back-off.
    ///
    /// # Errors
    /// [`Error::Unreachable`] or [`Error::NotReady`] after the timeout.
    pub async fn wait_until_ready(&self) -> Result<(), Error> {
        let deadline = Instant::now() + self.timeouts.ready;
        let mut waits = service::Backoff::for_server();
        loop {
            let Err(error) = self.probe().await else {
                return Ok(());
            };
            match waits.next() {
                Some(wait) if Instant::now() < deadline => {
                    // The last attempt is made at the deadline.
                    sleep_until(deadline.min(Instant::now() + wait)).await;
                }
                Some(_) | None => return Err(error),
            }
        }
    }

    async fn probe(&self) -> Result<(), Error> {
        let url = self.url(READY_PATH);
        let waited = self.timeouts.ready;
        let attempt = self.http.get(url.clone()).timeout(PROBE_TIMEOUT).send();
        match attempt.await {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => Err(Error::NotReady {
                url: url.into(),
                waited,
                status: response.status(),
                problem: read_problem(response, PROBE_TIMEOUT).await,
            }),
            Err(source) => Err(Error::Unreachable {
                url: url.into(),
                waited,
                source,
            }),
        }
    }

    /// Starts to send a batch of commands; `name` is its name in errors. [`BatchStream::next`] returns the
    /// outcomes.
    ///
    /// # Errors
    /// [`Error::Refused`], or [`Error::Batch`] if the connection fails or no response begins in time.
    pub async fn send<Commands>(
        &self,
        name: &'static str,
        commands: Commands,
    ) -> Result<BatchStream, Error>
    where
        Commands: ExactSizeIterator<Item = Command> + Send + 'static,
    {
        let batch = Batch {
            name,
            total: commands.len() as u64,
            answer_timeout: self.timeouts.answer,
        };
        let request = self
            .http
            .post(self.url(COMMANDS_PATH))
            .header(CONTENT_TYPE, "application/x-ndjson");
        match batch_stream::open(batch, request, commands).await? {
            Opened::Answering(stream) => Ok(stream),
            Opened::Refused(response) => Err(Error::Refused {
                batch: name,
                status: response.status(),
                problem: read_problem(response, self.timeouts.answer).await,
            }),
        }
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let folder = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{folder}{path}"));
        url
    }
}

/// The beginning of the response's text; only the part that arrives in time.
async fn read_problem(response: Response, longest: Duration) -> String {
    let chunks = response.bytes_stream();
    let body = StreamReader::new(chunks.map(|chunk| chunk.map_err(io::Error::other)));
    let mut text = Vec::new();
    let mut beginning = body.take(PROBLEM_BYTES_MAX);
    // After an error or a timeout, the text received before it is the best explanation.
    let _ = timeout(longest, beginning.read_to_end(&mut text)).await;
    String::from_utf8_lossy(&text).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service_fake::{Behaviour, ServiceFake};
    use tokio::net::{TcpListener, TcpSocket};

    const TIMEOUTS: Timeouts = Timeouts {
        ready: Duration::from_millis(500),
        answer: Duration::from_secs(5),
    };

    #[test]
    fn only_http_addresses_are_accepted() {
        for url in [
            "",
            "localhost:8080",
            "https://localhost",
            "ftp://x",
            "http://",
        ] {
            let error = Client::new(url, TIMEOUTS).err();
            assert!(
                matches!(error, Some(Error::Url { .. })),
                "{url}: {error:?} instead of Some(Error::Url)"
            );
        }
        let client = Client::new("http://host:1/folder/", TIMEOUTS).unwrap();
        let url = client.url(READY_PATH);
        assert_eq!(url.as_str(), "http://host:1/folder/health/ready");
    }

    #[tokio::test]
    async fn the_client_waits_for_a_service_that_is_starting() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = Client::new(&url, Timeouts::default()).unwrap();
        let (waited, _service) = tokio::join!(client.wait_until_ready(), async {
            let first_attempt = listener.accept().await.unwrap();
            drop(first_attempt);
            ServiceFake::start_on(listener, Behaviour::Accept)
        });
        waited.unwrap();
    }

    #[tokio::test]
    async fn an_unreachable_service_is_an_error() {
        // A port that is bound and not listened on refuses connections, and no other process can take it.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        let client = Client::new(&url, TIMEOUTS).unwrap();
        let error = client.wait_until_ready().await.unwrap_err();
        assert!(
            matches!(error, Error::Unreachable { .. }),
            "{error:?} instead of Error::Unreachable"
        );
    }

    #[tokio::test]
    async fn a_service_that_is_not_ready_is_an_error() {
        let service = ServiceFake::start(Behaviour::NotReady).await;
        let client = Client::new(service.url(), TIMEOUTS).unwrap();
        let error = client.wait_until_ready().await.unwrap_err().to_string();
        for part in ["503", "STARTING"] {
            assert!(error.contains(part), "no {part:?} in: {error}");
        }
    }

    #[tokio::test]
    async fn a_refusal_of_the_whole_request_is_an_error() {
        let service = ServiceFake::start(Behaviour::RefuseAll).await;
        let client = Client::new(service.url(), TIMEOUTS).unwrap();
        let command = Command {
            key: "sale/1".to_owned(),
            line: 2,
            json: "{}\n".into(),
        };
        let opened = client.send("invoices", vec![command].into_iter()).await;
        let error = opened.err().unwrap().to_string();
        for part in ["refused the invoices: 503", "NO_JOURNAL"] {
            assert!(error.contains(part), "no {part:?} in: {error}");
        }
    }
}
