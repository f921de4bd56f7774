//! The service over HTTP: is it there, and will it take commands?

use crate::import::{
    command::Command,
    exchange::{self, Exchange, Started, Task},
};
use reqwest::{Response, StatusCode, Url, header::CONTENT_TYPE};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const COMMANDS_PATH: &str = "/api/v1/admin/commands";
const READY_PATH: &str = "/health/ready";
const PROBLEM_BYTES_MAX: usize = 2 * 1024;
const CONNECT_WAIT: Duration = Duration::from_secs(5);
const PROBE_WAIT: Duration = Duration::from_secs(5);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Why the commands could not be sent, or their answers not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an address, or one of another protocol.
    #[error("{url:?} is not the http address of a service")]
    Url {
        /// What was given.
        url: String,
    },
    /// The HTTP client could not be made.
    #[error("cannot set up the http client")]
    Setup(#[source] reqwest::Error),
    /// Nobody answers there.
    #[error("cannot reach the service at {url}: tried for {} s", waited.as_secs())]
    Unreachable {
        /// Where.
        url: String,
        /// How long it was tried.
        waited: Duration,
        /// The last attempt's error.
        #[source]
        source: reqwest::Error,
    },
    /// Somebody answers who isn't ready.
    #[error(
        "the service at {url} is not ready: it answered {status} for {} s: {problem}",
        waited.as_secs()
    )]
    NotReady {
        /// Where.
        url: String,
        /// How long it was tried.
        waited: Duration,
        /// The last answer's status.
        status: StatusCode,
        /// The last answer's text.
        problem: String,
    },
    /// The service refused the request as a whole.
    #[error("the service refused the {what}: {status}: {problem}")]
    Refused {
        /// What was being sent.
        what: &'static str,
        /// Its status.
        status: StatusCode,
        /// Its text.
        problem: String,
    },
    /// The commands were taken up, but the answers could not be had.
    #[error(transparent)]
    Exchange(#[from] exchange::Error),
}

/// How long the importer waits.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the service to be there and ready.
    pub ready: Duration,
    /// For the next answer.
    pub answer: Duration,
}

/// The service.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    patience: Patience,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            ready: Duration::from_secs(10),
            answer: Duration::from_secs(30),
        }
    }
}

impl Client {
    /// A client of the service at an address such as `http://127.0.0.1:8080`.
    pub fn new(url: &str, patience: Patience) -> Result<Self, Error> {
        let base = Url::parse(url)
            .ok()
            .filter(|base| base.scheme() == "http" && base.has_host())
            .ok_or_else(|| Error::Url {
                url: url.to_owned(),
            })?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_WAIT)
            .build()
            .map_err(Error::Setup)?;
        Ok(Self {
            http,
            base,
            patience,
        })
    }

    /// Returns once the service says that it is ready; asks it with growing pauses.
    pub async fn wait_until_ready(&self) -> Result<(), Error> {
        let url = self.url(READY_PATH);
        let waited = self.patience.ready;
        let deadline = Instant::now() + waited;
        let mut pause = BACKOFF_FIRST;
        loop {
            let attempt = self.http.get(url.clone()).timeout(PROBE_WAIT).send().await;
            let error = match attempt {
                Ok(response) if response.status().is_success() => return Ok(()),
                Ok(response) => Error::NotReady {
                    url: url.to_string(),
                    waited,
                    status: response.status(),
                    problem: read_problem(response, PROBE_WAIT).await,
                },
                Err(source) => Error::Unreachable {
                    url: url.to_string(),
                    waited,
                    source,
                },
            };
            if Instant::now() + pause > deadline {
                return Err(error);
            }
            sleep(pause).await;
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    /// Begins to send commands; `what` they are is for errors. [`Exchange::next`] gives the
    /// answers, and must be called for more to be sent.
    pub async fn send<Commands>(
        &self,
        what: &'static str,
        commands: Commands,
    ) -> Result<Exchange, Error>
    where
        Commands: ExactSizeIterator<Item = Command> + Send + 'static,
    {
        let task = Task {
            what,
            total: commands.len() as u64,
            patience: self.patience.answer,
        };
        let request = self
            .http
            .post(self.url(COMMANDS_PATH))
            .header(CONTENT_TYPE, "application/x-ndjson");
        match exchange::begin(task, request, commands).await? {
            Started::Answering(exchange) => Ok(exchange),
            Started::Refused(response) => Err(Error::Refused {
                what,
                status: response.status(),
                problem: read_problem(response, task.patience).await,
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

/// The beginning of an error's text.
async fn read_problem(mut response: Response, patience: Duration) -> String {
    let mut text = Vec::new();
    let reading = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            text.extend_from_slice(&chunk);
            if text.len() >= PROBLEM_BYTES_MAX {
                break;
            }
        }
    };
    // What has come by then is shown; a problem that can't be read to its end is still one.
    let _ = timeout(patience, reading).await;
    text.truncate(PROBLEM_BYTES_MAX);
    String::from_utf8_lossy(&text).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::service_fake::{Behaviour, ServiceFake};
    use tokio::net::TcpListener;

    const PATIENCE: Patience = Patience {
        ready: Duration::from_millis(500),
        answer: Duration::from_secs(5),
    };

    #[test]
    fn takes_http_addresses_only() {
        for url in [
            "",
            "localhost:8080",
            "https://localhost",
            "ftp://x",
            "http://",
        ] {
            let error = Client::new(url, PATIENCE).err();
            assert!(matches!(error, Some(Error::Url { .. })), "{url:?}");
        }
        let client = Client::new("http://host:1/folder/", PATIENCE).unwrap();
        let url = client.url(READY_PATH);
        assert_eq!(url.as_str(), "http://host:1/folder/health/ready");
    }

    #[tokio::test]
    async fn waits_for_a_service_that_starts() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let client = Client::new(&format!("http://{address}"), Patience::default()).unwrap();
        let (waited, _service) = tokio::join!(client.wait_until_ready(), async {
            // The first attempt is made, and refused, before this one gets its turn.
            tokio::task::yield_now().await;
            let listener = TcpListener::bind(address).await.unwrap();
            ServiceFake::start_on(listener, Behaviour::Accept)
        });
        waited.unwrap();
    }

    #[tokio::test]
    async fn says_that_nobody_is_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let client = Client::new(&url, PATIENCE).unwrap();
        let error = client.wait_until_ready().await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    }

    #[tokio::test]
    async fn says_that_the_service_is_not_ready() {
        let service = ServiceFake::start(Behaviour::NotReady).await;
        let client = Client::new(service.url(), PATIENCE).unwrap();
        let error = client.wait_until_ready().await.unwrap_err().to_string();
        assert!(
            error.contains("503") && error.contains("STARTING"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn says_that_the_whole_request_was_refused() {
        let service = ServiceFake::start(Behaviour::RefuseAll).await;
        let client = Client::new(service.url(), PATIENCE).unwrap();
        let command = Command {
            key: "sale/1".to_owned(),
            line: 2,
            json: "{}\n".into(),
        };
        let error = client.send("invoices", vec![command].into_iter()).await;
        let error = error.err().unwrap().to_string();
        assert!(error.contains("refused the invoices: 503"), "{error}");
        assert!(error.contains("NO_JOURNAL"), "{error}");
    }
}
