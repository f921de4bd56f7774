//! An event in the form in which clients receive it.

use super::{cursor::Cursor, event_json::EventJson, target::LiveEvent};
use axum::body::Bytes;
use journal::Valid;
use serde_json::json;
use std::ops::Range;

/// An event with its id. Clients of one target share it.
#[derive(Debug)]
pub struct Frame {
    /// Partition, offset and index in the record.
    pub position: (i32, i64, usize),
    /// The SSE event.
    sse: Bytes,
    /// The range of the JSON in `sse`.
    json: Range<usize>,
}

impl Frame {
    /// The frame of the event at an index of a commit. `cursor` is the client's position after it.
    pub fn new<E: LiveEvent>(
        json: &EventJson<E>,
        partition: i32,
        valid: &Valid<E>,
        index: usize,
        cursor: &Cursor,
    ) -> Self {
        let topic = E::CONTEXT.topic;
        let id = cursor.id(topic);
        let decision = valid.decision();
        let event = decision.and_then(|decision| decision.events.get(index));
        let version = decision.map_or(0, |decision| decision.version);
        let text = json!({
            "id": id,
            "type": event.map(|event| event.name()),
            "aggregate": valid.key_text(),
            "version": version.saturating_add(1).saturating_add_unsigned(index as u64),
            "position": format!("{topic}/{partition}@{}", valid.offset),
            "recorded_at": valid.commit.recorded_at.to_string(),
            "data": event.map(|event| json.data(event)),
        })
        .to_string();
        let head = format!("id: {id}\ndata: ");
        let json = head.len()..head.len() + text.len();
        Self {
            position: (partition, valid.offset, index),
            sse: [&head, &text, "\n\n"].concat().into(),
            json,
        }
    }

    /// The SSE event.
    pub fn sse(&self) -> Bytes {
        self.sse.clone()
    }

    /// The length of the SSE event in bytes.
    pub fn length(&self) -> usize {
        self.sse.len()
    }

    /// The event's JSON.
    pub fn json(&self) -> Bytes {
        self.sse.slice(self.json.clone())
    }
}
