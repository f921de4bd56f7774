//! A small service for tests: it speaks the batch endpoint's contract over a real connection and
//! keeps what it was asked in memory.

use axum::{
    Router,
    body::{Body, BodyDataStream},
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use serde_json::{Value, json};
use std::{
    io,
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

/// What the service does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Carries out everything, a key for the second time not again.
    Accept,
    /// Refuses the command of one key.
    Refuse(&'static str),
    /// Fails at the command of one key.
    Fail(&'static str),
    /// Breaks the connection off after so many answers.
    BreakOffAfter(usize),
    /// Ends its answers, in good order, after so many.
    EndAfter(usize),
    /// Answers no more after so many.
    StallAfter(usize),
    /// Gives this text after so many answers.
    SayAfter(usize, &'static str),
    /// Refuses the whole request.
    RefuseAll,
    /// Is never ready.
    NotReady,
}

/// A service that runs until it is dropped.
pub struct ServiceFake {
    url: String,
    keys: Arc<Mutex<Vec<String>>>,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    behaviour: Behaviour,
    keys: Arc<Mutex<Vec<String>>>,
}

impl Behaviour {
    fn refuses(self, key: &str) -> bool {
        matches!(self, Self::Refuse(refused) if refused == key)
    }

    fn fails(self, key: &str) -> bool {
        matches!(self, Self::Fail(failed) if failed == key)
    }

    fn says_after(self, answered: usize) -> Option<&'static str> {
        match self {
            Self::SayAfter(count, text) => (count == answered).then_some(text),
            Self::Accept
            | Self::Refuse(_)
            | Self::Fail(_)
            | Self::BreakOffAfter(_)
            | Self::EndAfter(_)
            | Self::StallAfter(_)
            | Self::RefuseAll
            | Self::NotReady => None,
        }
    }
}

impl ServiceFake {
    /// Starts one on a free port.
    pub async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(listener, behaviour)
    }

    /// Starts one on a port that was taken before.
    pub fn start_on(listener: TcpListener, behaviour: Behaviour) -> Self {
        let keys = Arc::new(Mutex::new(Vec::new()));
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/health/ready", get(ready))
            .route("/api/v1/admin/commands", post(commands))
            .with_state(Shared {
                behaviour,
                keys: keys.clone(),
            });
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, keys, server }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The keys of what it carried out, in the order in which they came.
    pub fn keys(&self) -> Vec<String> {
        self.keys.lock().unwrap().clone()
    }
}

impl Drop for ServiceFake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn ready(State(shared): State<Shared>) -> Response {
    if shared.behaviour == Behaviour::NotReady {
        (StatusCode::SERVICE_UNAVAILABLE, r#"{"code":"STARTING"}"#).into_response()
    } else {
        StatusCode::OK.into_response()
    }
}

async fn commands(State(shared): State<Shared>, request: Request) -> Response {
    if shared.behaviour == Behaviour::RefuseAll {
        return (StatusCode::SERVICE_UNAVAILABLE, r#"{"code":"NO_JOURNAL"}"#).into_response();
    }
    let (answers, stream) = mpsc::channel(1);
    tokio::spawn(answer_all(
        shared,
        request.into_body().into_data_stream(),
        answers,
    ));
    Body::from_stream(ReceiverStream::new(stream)).into_response()
}

/// Answers line by line, while the request still comes in.
async fn answer_all(
    shared: Shared,
    mut body: BodyDataStream,
    answers: mpsc::Sender<io::Result<Bytes>>,
) {
    let mut buffer = Vec::new();
    let mut answered = 0;
    while let Some(Ok(chunk)) = body.next().await {
        buffer.extend_from_slice(&chunk);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            if shared.behaviour == Behaviour::BreakOffAfter(answered) {
                // The importer may have given up already; then there is nobody to disappoint.
                let _ = answers.send(Err(io::Error::other("broken off"))).await;
                return;
            }
            if shared.behaviour == Behaviour::EndAfter(answered) {
                return;
            }
            if shared.behaviour == Behaviour::StallAfter(answered) {
                std::future::pending::<()>().await;
            }
            let text = match shared.behaviour.says_after(answered) {
                Some(text) => text.to_owned(),
                None => shared.answer(answered + 1, &line),
            };
            answered += 1;
            if answers.send(Ok(Bytes::from(text))).await.is_err() {
                return;
            }
        }
    }
}

impl Shared {
    fn answer(&self, number: usize, line: &[u8]) -> String {
        let command: Value = serde_json::from_slice(line).unwrap();
        let key = command["key"].as_str().unwrap();
        let answer = if self.behaviour.refuses(key) {
            json!({"line": number, "status": 422, "code": "LINE_QUANTITY_ZERO",
                "title": "no pieces"})
        } else if self.behaviour.fails(key) {
            json!({"line": number, "status": 503, "code": "NO_JOURNAL"})
        } else {
            let mut keys = self.keys.lock().unwrap();
            let replayed = keys.iter().any(|known| known == key);
            if !replayed {
                keys.push(key.to_owned());
            }
            json!({"line": number, "status": 201, "id": "order_1", "version": 1, "events": 1,
                "position": "journal.orders/3@1234", "replayed": replayed})
        };
        format!("{answer}\n")
    }
}
