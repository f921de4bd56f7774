//! A client's stream over a WebSocket.

use super::{client::Output, hub::End, start::Subscriber};
use axum::{
    body::Bytes,
    extract::ws::{
        CloseCode, CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code,
    },
    http::{HeaderMap, StatusCode, header, uri::Authority},
    response::Response,
};
use serde_json::json;
use service::problem::Problem;

/// Size of the buffer for a client's frames, in bytes. These frames are short.
const READ_BUFFER_BYTES: usize = 1 << 10;
/// Maximum length of a client's message, in bytes. Messages of clients are ignored.
const MESSAGE_BYTES_MAX: usize = 1 << 10;

/// The close code of [`End::TooSlow`]. RFC 6455 reserves 4000 to 4999 for applications.
const TOO_SLOW: CloseCode = 4_000;
const HALTED: CloseCode = 4_001;
const RESUME_FAILED: CloseCode = 4_002;
const UNKNOWN_LAST_EVENT: CloseCode = 4_003;
const OVERLOADED: CloseCode = 4_004;

/// The response that switches the protocol.
pub fn respond(upgrade: WebSocketUpgrade, subscriber: Subscriber) -> Response {
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .on_upgrade(|socket| serve(socket, subscriber))
}

/// Rejects a web page of another origin, because browsers let every page open a WebSocket and read from it.
///
/// # Errors
/// 403: `Origin` is present and differs from `Host`.
pub fn check_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if !headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    let origin = text(header::ORIGIN).and_then(|origin| origin.split_once("://"));
    let origin = origin.and_then(|(_, authority)| authority.parse::<Authority>().ok());
    let host = text(header::HOST).and_then(|host| host.parse::<Authority>().ok());
    match origin.is_some() && origin == host {
        true => Ok(()),
        false => {
            let detail = "Origin: a page of another origin can't open this WebSocket; open it from a page of this \
                service, or from a program";
            Err(Problem::new(
                StatusCode::FORBIDDEN,
                "ORIGIN_NOT_SERVED",
                detail,
            ))
        }
    }
}

async fn serve(mut socket: WebSocket, mut subscriber: Subscriber) {
    loop {
        let output = tokio::select! {
            output = subscriber.client.next() => output,
            received = socket.recv() => match received {
                // The client's messages are ignored; the library answers its pings.
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return,
            },
        };
        let Some(output) = output else { return };
        let is_end = matches!(output, Output::End(_));
        if socket.send(message(output)).await.is_err() || is_end {
            return;
        }
    }
}

fn message(output: Output) -> Message {
    match output {
        Output::Connected(id) => {
            Message::Text(json!({"type": "Connected", "id": id}).to_string().into())
        }
        Output::Event(frame) => match Utf8Bytes::try_from(frame.json()) {
            Ok(text) => Message::Text(text),
            // JSON is always UTF-8, so this does not happen.
            Err(_) => close(End::ResumeFailed),
        },
        Output::Heartbeat => Message::Ping(Bytes::new()),
        Output::End(end) => close(end),
    }
}

fn close(end: End) -> Message {
    let code = match end {
        End::TooSlow => TOO_SLOW,
        End::Halted => HALTED,
        End::ResumeFailed => RESUME_FAILED,
        End::UnknownLastEvent => UNKNOWN_LAST_EVENT,
        End::Overloaded => OVERLOADED,
        End::Stopping => close_code::AWAY,
    };
    Message::Close(Some(CloseFrame {
        code,
        reason: end.code().into(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn only_a_page_of_the_same_origin_may_open_a_websocket() {
        let check = |origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("localhost:8080"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            check_origin(&headers).map_err(|problem| problem.code)
        };
        assert_eq!(check(None), Ok(()));
        assert_eq!(check(Some("http://localhost:8080")), Ok(()));
        for other in [
            "http://page.example",
            "http://localhost:9000",
            "null",
            "localhost:8080",
        ] {
            assert_eq!(check(Some(other)), Err("ORIGIN_NOT_SERVED"), "{other}");
        }
    }
}
