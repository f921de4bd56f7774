//! A client of server-sent events.

use crate::http::Client;
use anyhow::{Context, Result, bail, ensure};
use reqwest::{Method, Response};
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// Longest wait for an event.
const EVENT_TIMEOUT: Duration = Duration::from_secs(20);

/// A stream of events.
pub struct Events {
    response: Response,
    unread: String,
    /// The id of the last event, from which a client resumes.
    pub last_id: String,
}

/// An event with data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// The event's name; `message` if the server sent no name.
    pub name: String,
    /// The id of the event, or of the last event before it that has one.
    pub id: String,
    /// Its data.
    pub data: Value,
}

impl Events {
    /// Opens a stream that begins after the event `last`, or with the next new event if `last` is `None`. Returns once
    /// the stream is connected.
    pub async fn open(client: &Client, path: &str, last: Option<&str>) -> Result<Self> {
        let request = client.request(Method::GET, path);
        let request = match last {
            Some(last) => request.header("last-event-id", last),
            None => request,
        };
        let response = request.send().await?;
        ensure!(
            response.status() == 200,
            "{path}: {} instead of 200",
            response.status()
        );
        let mut events = Self {
            response,
            unread: String::new(),
            last_id: last.unwrap_or_default().to_owned(),
        };
        // The first block of a connection has the id from which the client would resume. Heartbeats may come before
        // this block.
        while events.last_id.is_empty() {
            let block = timeout(EVENT_TIMEOUT, events.block()).await;
            let block = block.context("not connected in time")??;
            block.context("the stream has ended")?;
        }
        Ok(events)
    }

    /// The next event; an error if the stream ends first.
    pub async fn next(&mut self) -> Result<SseEvent> {
        loop {
            let block = timeout(EVENT_TIMEOUT, self.block()).await;
            let block = block.context("no event in time")??;
            match block {
                Some(Some(event)) => return Ok(event),
                Some(None) => {}
                None => bail!("the stream has ended after event {}", self.last_id),
            }
        }
    }

    /// The next events.
    pub async fn take(&mut self, count: usize) -> Result<Vec<SseEvent>> {
        let mut events = Vec::new();
        while events.len() < count {
            let event = self.next().await?;
            ensure!(event.name == "message", "{event:?} instead of a message");
            events.push(event);
        }
        Ok(events)
    }

    /// The next block of lines: an event, or `Some(None)` without data; `None` at the end.
    async fn block(&mut self) -> Result<Option<Option<SseEvent>>> {
        let block = loop {
            if let Some((block, rest)) = self.unread.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.unread = rest;
                break block;
            }
            match self.response.chunk().await? {
                Some(chunk) => self.unread.push_str(std::str::from_utf8(&chunk)?),
                None => return Ok(None),
            }
        };
        let (mut name, mut data) = ("message", None);
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("id", id)) => id.clone_into(&mut self.last_id),
                Some(("event", event)) => name = event,
                Some(("data", text)) => data = Some(serde_json::from_str(text)?),
                Some(_) | None => {}
            }
        }
        let event = data.map(|data| SseEvent {
            name: name.to_owned(),
            id: self.last_id.clone(),
            data,
        });
        Ok(Some(event))
    }
}
