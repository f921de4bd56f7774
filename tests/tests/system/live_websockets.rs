//! Live updates over a WebSocket: an order is followed as over server-sent events, and each connection is closed with a
//! reason.

use crate::live::{
    END_TIMEOUT, EVENTS, LARGE_LINES, LARGE_SALES, RECEIVE_BUFFER_BYTES, SHUTDOWN_TIMEOUT,
    followed, sell,
};
use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use std::net::SocketAddr;
use system_tests::{Answer, Client, Deployment, Events, expect_eq, http::send};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{ClientRequestBuilder, Message, http::Uri},
};

/// The close code of a node that stops.
const STOPPING: u16 = 1001;
/// The close code of a client that reads too slowly.
const TOO_SLOW: u16 = 4000;
/// The type of the message that tells a client that it is connected.
const CONNECTED: &str = "Connected";
/// The headers of a request for a WebSocket.
const UPGRADE: [(&str, &str); 3] = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
];
/// The header that such a request also needs, with any key.
const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");

pub async fn an_order_is_followed_over_a_websocket_until_the_node_stops(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.serve().await?;
    let sold = sell(node.client(), "an order", "eve", 2).await?;
    sell(node.client(), "another order", "eve", 1).await?;
    let (path, before) = (sold.events(), sold.before()?);
    let mut events = Events::open(node.client(), &path, Some(&before)).await?;
    let event = events.next().await?.data;
    expect_eq("the position", &event["position"], &json!(sold.position))?;
    drop(events);
    let mut socket = open(deployment.listen(), &path, &before).await?;
    expect_eq("the event", &next_event(&mut socket).await?, &event)?;
    let stopping = node.terminate(SHUTDOWN_TIMEOUT);
    let (_, (messages, end)) = tokio::try_join!(stopping, until_closed(&mut socket))?;
    expect_eq("the end", &end, &(STOPPING, "NODE_STOPPING".to_owned()))?;
    let others: Vec<Value> = messages.into_iter().filter(is_event).collect();
    expect_eq("the other events", &others, &Vec::new())
}

pub async fn a_websocket_of_an_order_that_can_not_begin_is_refused(
    deployment: &Deployment,
) -> Result<()> {
    let node = deployment.serve().await?;
    let sold = sell(node.client(), "an order", "eve", 1).await?;
    let known = format!("{}?last_event_id={}", sold.events(), sold.before()?);
    let unknown = "/api/v1/orders/order_01h455vb4pex5vsknk084sn02q/events";
    let foreign = ("origin", "http://page.example");
    for (path, headers, status, code) in [
        (unknown, [KEY].as_slice(), 404, "ORDER_NOT_FOUND"),
        ("/api/v1/orders/17/events", &[KEY], 400, "INVALID_ORDER_ID"),
        (&known, &[], 400, "WEBSOCKET_INVALID"),
        (&known, &[KEY, foreign], 403, "ORIGIN_NOT_SERVED"),
    ] {
        let answer = upgrade(node.client(), path, headers).await?;
        answer.problem(status, code)?;
    }
    Ok(())
}

pub async fn a_websocket_client_that_does_not_read_is_closed_with_the_reason(
    deployment: &Deployment,
) -> Result<()> {
    let node = deployment.serve().await?;
    let last = followed(&node, "first").await?.last_id;
    let mut socket = open(deployment.listen(), EVENTS, &last).await?;
    // The node queues the client's events once the client is connected.
    let connected = next_json(&mut socket).await?;
    expect_eq("the type", &connected["type"], &json!(CONNECTED))?;
    for number in 0..LARGE_SALES {
        let name = format!("large {number}");
        sell(node.client(), &name, "eve", LARGE_LINES).await?;
    }
    let (_, end) = until_closed(&mut socket).await?;
    expect_eq("the end", &end, &(TOO_SLOW, "CLIENT_TOO_SLOW".to_owned()))
}

/// Opens a WebSocket that resumes after the event `last`.
async fn open(listen: SocketAddr, path: &str, last: &str) -> Result<WebSocketStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    let stream = socket.connect(listen).await?;
    let address: Uri = format!("ws://{listen}{path}").parse()?;
    let request = ClientRequestBuilder::new(address).with_header("last-event-id", last);
    let (socket, _) = client_async(request, stream).await?;
    Ok(socket)
}

/// Sends a request for a WebSocket that the node refuses.
async fn upgrade(client: &Client, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    let request = client.request(Method::GET, path);
    let headers = UPGRADE.iter().chain(headers);
    send(headers.fold(request, |request, (name, value)| {
        request.header(*name, *value)
    }))
    .await
}

/// Whether a message has an event, and not the position of a connected client.
fn is_event(message: &Value) -> bool {
    message["type"] != CONNECTED
}

/// The next event.
async fn next_event(socket: &mut WebSocketStream<TcpStream>) -> Result<Value> {
    loop {
        let message = next_json(socket).await?;
        if is_event(&message) {
            return Ok(message);
        }
    }
}

/// The next message. Heartbeats may come before it.
async fn next_json(socket: &mut WebSocketStream<TcpStream>) -> Result<Value> {
    loop {
        match next(socket).await? {
            Message::Text(text) => return Ok(serde_json::from_str(text.as_str())?),
            Message::Ping(_) | Message::Pong(_) => {}
            other => bail!("{other:?} instead of a text"),
        }
    }
}

/// The messages until the node closes the connection, and the code and the reason of the end.
async fn until_closed(
    socket: &mut WebSocketStream<TcpStream>,
) -> Result<(Vec<Value>, (u16, String))> {
    let mut messages = Vec::new();
    loop {
        match next(socket).await? {
            Message::Text(text) => messages.push(serde_json::from_str(text.as_str())?),
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(Some(end)) => {
                return Ok((messages, (end.code.into(), end.reason.to_string())));
            }
            other => bail!("{other:?} instead of a text or a reason"),
        }
    }
}

async fn next(socket: &mut WebSocketStream<TcpStream>) -> Result<Message> {
    let message = timeout(END_TIMEOUT, socket.next()).await;
    let message = message.context("no message in time")?;
    Ok(message.context("the connection has ended without a reason")??)
}
