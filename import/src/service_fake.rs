//! A fake service for tests: it implements the batch endpoint over a real connection, and records executed
//! commands in memory.

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

/// Behaviour of the fake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Executes every command; one with a known key is answered as replayed.
    Accept,
    /// Refuses the command with this key.
    Refuse(&'static str),
    /// Fails to execute the command with this key.
    Fail(&'static str),
    /// Breaks the connection after this number of answers.
    BreakAfter(usize),
    /// Ends the response without an error after this number of answers.
    EndAfter(usize),
    /// Stops answering after this number of answers, and keeps the connection open.
    StallAfter(usize),
    /// Sends this text after this number of answers.
    SendAfter(usize, &'static str),
    /// Refuses the whole request.
    RefuseAll,
    /// Is never ready.
    NotReady,
}

/// A fake service that runs until it is dropped.
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

    fn text_after(self, answered: usize) -> Option<&'static str> {
        match self {
            Self::SendAfter(count, text) => (count == answered).then_some(text),
            Self::Accept
            | Self::Refuse(_)
            | Self::Fail(_)
            | Self::BreakAfter(_)
            | Self::EndAfter(_)
            | Self::StallAfter(_)
            | Self::RefuseAll
            | Self::NotReady => None,
        }
    }
}

impl ServiceFake {
    /// Starts a fake on a free port.
    pub async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(listener, behaviour)
    }

    /// Starts a fake on a listener.
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

    /// Base URL of the fake.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Keys of the executed commands, in the order of their arrival.
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

/// Answers line by line while the request is still being received.
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
            if shared.behaviour == Behaviour::BreakAfter(answered) {
                discard(&mut body).await;
                // The importer may have closed the connection already.
                let _ = answers
                    .send(Err(io::Error::other("connection broken by the test")))
                    .await;
                return;
            }
            if shared.behaviour == Behaviour::EndAfter(answered) {
                drop(answers);
                return discard(&mut body).await;
            }
            if shared.behaviour == Behaviour::StallAfter(answered) {
                std::future::pending::<()>().await;
            }
            let text = match shared.behaviour.text_after(answered) {
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

/// Reads the rest of a request. A connection that is closed with unread data is reset, and the importer may then lose
/// answers that it has not read yet.
async fn discard(body: &mut BodyDataStream) {
    while let Some(Ok(_)) = body.next().await {}
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
