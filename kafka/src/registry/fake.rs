//! A fake registry for tests.

use super::Registry;
use crate::settings::RegistrySettings;
use std::sync::{Arc, Mutex};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A registry whose answers the test chooses by method and path.
pub(crate) struct FakeRegistry {
    pub url: String,
    /// `<method> <path>` of each request.
    requests: Arc<Mutex<Vec<String>>>,
}

impl FakeRegistry {
    pub async fn start(answer: fn(&str) -> (u16, &'static str)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = requests.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve_one(stream, answer, &seen).await;
            }
        });
        Self { url, requests }
    }

    /// A client of this registry.
    pub fn registry(&self) -> Registry {
        let settings = RegistrySettings {
            url: self.url.clone(),
            ..RegistrySettings::default()
        };
        Registry::new(&settings).unwrap()
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Answers the only request of a connection.
async fn serve_one(
    mut stream: TcpStream,
    answer: fn(&str) -> (u16, &'static str),
    seen: &Mutex<Vec<String>>,
) {
    let (mut request, mut buffer) = (String::new(), [0; 4096]);
    while !is_whole(&request) {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the request ends early: {request}");
        request += std::str::from_utf8(&buffer[..count]).unwrap();
    }
    let mut words = request.split(' ');
    let line = [words.next().unwrap(), words.next().unwrap()].join(" ");
    let (status, body) = answer(&line);
    seen.lock().unwrap().push(line);
    let length = body.len();
    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close");
    let whole = format!("{head}\r\n\r\n{body}");
    stream.write_all(whole.as_bytes()).await.unwrap();
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse::<usize>().unwrap())
    });
    body.len() >= length.unwrap_or(0)
}
