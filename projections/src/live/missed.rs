//! The events that clients have missed. They wait in memory until their clients read them, so all clients of a process
//! share one budget in bytes for them.

use super::{
    cursor::Cursor,
    event_json::EventJson,
    frame::Frame,
    target::{LiveEvent, Target},
};
use journal::Batch;
use service::budget::{Budget, Share};
use std::{collections::VecDeque, sync::Arc};

/// Maximum number of events that a client gets at once, from memory or from one pass over the log.
pub const CHUNK_EVENTS_MAX: usize = 1_000;
/// Maximum size of the missed events of all clients, in bytes. They are a part of the budget of the process.
pub const MISSED_BYTES_MAX: u32 = 64 << 20;
/// Bytes that an event takes besides its text.
pub const EVENT_BYTES: usize = 256;

/// An event that waits for its client.
#[derive(Debug)]
pub struct MissedEvent {
    /// The event.
    pub frame: Arc<Frame>,
    /// Its share of the budget. The bytes are given back once the event is sent.
    _share: Share,
}

/// The reason why a chunk takes no more events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    /// It has [`CHUNK_EVENTS_MAX`] events.
    Events,
    /// The budget has no room for the next event, which takes this number of bytes.
    Bytes(usize),
}

/// The first of the events that a client has missed, in order.
#[derive(Debug)]
pub struct Chunk {
    /// The events.
    pub events: VecDeque<MissedEvent>,
    /// The client's position after these events.
    pub cursor: Cursor,
    /// A full chunk must not take events of later batches, because it would leave out those before them.
    full: Option<Full>,
}

impl Chunk {
    /// A chunk without events, for a client at this position.
    pub fn new(cursor: Cursor) -> Self {
        Self {
            events: VecDeque::new(),
            cursor,
            full: None,
        }
    }

    /// Whether the chunk takes no more events, although the client may have missed more.
    pub fn is_full(&self) -> bool {
        self.full.is_some()
    }

    /// The bytes that the budget lacked for the chunk's first event; `None` if the chunk has an event, or if the client
    /// has missed none.
    pub fn lacking(&self) -> Option<usize> {
        match self.full {
            Some(Full::Bytes(bytes)) if self.events.is_empty() => Some(bytes),
            Some(Full::Bytes(_) | Full::Events) | None => None,
        }
    }

    /// Adds the events of a batch that concern the target and that the client does not have. Stops at the first event
    /// for which the chunk or the budget has no room.
    pub fn take<E: LiveEvent>(
        &mut self,
        batch: &Batch<E>,
        target: &Target,
        json: &EventJson<E>,
        budget: &Budget,
    ) {
        if self.is_full() {
            return;
        }
        let partition = batch.partition;
        for valid in batch.commits.iter() {
            let decision = valid.decision().into_iter();
            let events = decision.flat_map(|decision| decision.events.iter().enumerate());
            for (index, event) in events {
                let offset = valid.offset;
                if !target.takes(&valid.key, event)
                    || self.cursor.includes(partition, offset, index)
                {
                    continue;
                }
                if self.events.len() >= CHUNK_EVENTS_MAX {
                    self.full = Some(Full::Events);
                    return;
                }
                let mut cursor = self.cursor.clone();
                cursor.advance(partition, offset, index);
                let frame = Frame::new(json, partition, valid, index, &cursor);
                let bytes = EVENT_BYTES + frame.length();
                let Ok(share) = budget.try_take(bytes) else {
                    self.full = Some(Full::Bytes(bytes));
                    return;
                };
                self.cursor = cursor;
                self.events.push_back(MissedEvent {
                    frame: Arc::new(frame),
                    _share: share,
                });
            }
        }
        self.cursor.pass(partition, batch.checkpoint.next_offset);
    }
}
