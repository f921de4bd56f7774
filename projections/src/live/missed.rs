//! The events that clients have missed. They wait in memory until their clients read them, so all clients of a process
//! share one budget in bytes for them.

use super::{
    cursor::Cursor,
    event_json::EventJson,
    frame::Frame,
    target::{LiveEvent, Target},
};
use journal::Batch;
use service::budget::{Budget, Overloaded, Share};
use std::{collections::VecDeque, sync::Arc, time::Duration};

/// Maximum number of events that a client gets at once, from memory or from one pass over the log.
pub const CHUNK_EVENTS_MAX: usize = 1_000;
/// Maximum size of the events that a client gets at once, in bytes. A larger event is sent alone.
pub const CHUNK_BYTES_MAX: usize = 256 << 10;
/// Maximum size of the missed events of all clients, in bytes. They are a part of the budget of the process.
const MISSED_BYTES_MAX: u32 = 64 << 20;
/// The missed events of all clients take at most the budget of the process divided by this number, so that clients that
/// do not read leave the rest to requests.
const PROCESS_BUDGET_DIVISOR: u32 = 4;
/// Bytes that an event takes besides its text.
const EVENT_BYTES: usize = 256;
/// Bytes by which an event may grow while its client waits for room: its id names the client's position in every
/// partition, and the positions may have more digits by then.
pub const GROWTH_BYTES: usize = 256;

/// The budget of the missed events of all clients, a part of the budget of the process.
pub fn budget_of(process: &Budget) -> Budget {
    process.part(MISSED_BYTES_MAX.min(process.bytes() / PROCESS_BUDGET_DIVISOR))
}

/// An event that waits for its client.
#[derive(Debug)]
pub struct MissedEvent {
    /// The event.
    pub frame: Arc<Frame>,
    /// Its share of the budget. The bytes are given back once the event is sent.
    _share: Share,
}

/// A share of the budget for the first event of a client's next chunk. The budget gives room to waiting clients in
/// turn, so a client that gave its room back would lose its turn.
#[derive(Debug)]
pub struct Room {
    /// Maximum size of the event.
    bytes: usize,
    share: Share,
}

impl Room {
    /// Waits for room for an event of this size, which may grow by [`GROWTH_BYTES`]. [`Budget::take`] describes the
    /// limit.
    ///
    /// # Errors
    /// The budget of the process had no room within `limit`.
    pub async fn wait(budget: &Budget, bytes: usize, limit: Duration) -> Result<Self, Overloaded> {
        let bytes = bytes + GROWTH_BYTES;
        let share = budget.take(bytes, limit).await?;
        Ok(Self { bytes, share })
    }
}

/// The reason why a chunk takes no more events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    /// It has [`CHUNK_EVENTS_MAX`] events, or the next one would exceed [`CHUNK_BYTES_MAX`].
    Chunk,
    /// The budget has no room for the next event, which takes this number of bytes.
    Budget(usize),
}

/// The first of the events that a client has missed, in order.
#[derive(Debug)]
pub struct Chunk {
    /// The events.
    pub events: VecDeque<MissedEvent>,
    /// The client's position after these events.
    pub cursor: Cursor,
    /// The room for the first event. `None` once the chunk has an event.
    pub room: Option<Room>,
    /// The size of the events.
    bytes: usize,
    /// A full chunk must not take events of later batches, because it would leave out those before them.
    full: Option<Full>,
}

impl Chunk {
    /// A chunk without events, for a client at this position. `room` is for the first event.
    pub fn new(cursor: Cursor, room: Option<Room>) -> Self {
        Self {
            events: VecDeque::new(),
            cursor,
            room,
            bytes: 0,
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
            Some(Full::Budget(bytes)) if self.events.is_empty() => Some(bytes),
            Some(Full::Budget(_) | Full::Chunk) | None => None,
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
                    self.full = Some(Full::Chunk);
                    return;
                }
                let mut cursor = self.cursor.clone();
                cursor.advance(partition, offset, index);
                let frame = Frame::new(json, partition, valid, index, &cursor);
                let share = match self.share(EVENT_BYTES + frame.length(), budget) {
                    Ok(share) => share,
                    Err(full) => {
                        self.full = Some(full);
                        return;
                    }
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

    /// The share of the next event.
    fn share(&mut self, bytes: usize, budget: &Budget) -> Result<Share, Full> {
        if !self.events.is_empty() && self.bytes + bytes > CHUNK_BYTES_MAX {
            return Err(Full::Chunk);
        }
        // The first event may differ from the one that the client waited for, because partitions have no order between
        // them. Too little room is given back here.
        let room = self.room.take().filter(|room| room.bytes >= bytes);
        let share = match room {
            Some(Room { mut share, .. }) => {
                share.keep(bytes);
                share
            }
            None => budget.try_take(bytes).map_err(|_| Full::Budget(bytes))?,
        };
        self.bytes += bytes;
        Ok(share)
    }
}
