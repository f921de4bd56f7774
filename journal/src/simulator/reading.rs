//! The readers of a run, who must agree: one from the beginning, and some from checkpoints that it took.

use super::{log::SimLog, tally::Happening, world::World};
use crate::{
    checkpoint::Checkpoint,
    protocol::Protocol,
    reader::{Reader, Valid},
};
use schemas::{ContextEvent, catalog::Event};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// What a reader has seen.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub start: Checkpoint,
    pub commits: Vec<Valid<Event>>,
    pub void: u64,
    /// After each batch; the start comes first.
    pub checkpoints: Vec<Checkpoint>,
    /// Why it reads no further.
    pub halted: Option<String>,
}

/// A reader at work.
pub(super) struct Reading {
    seen: Mutex<Seen>,
    moved: Notify,
}

impl Reading {
    /// Begins to read after a checkpoint.
    pub fn begin<P: Protocol>(log: SimLog<P>, start: Checkpoint, world: Arc<World>) -> Arc<Self> {
        if start.next_offset > 0 {
            world.count(Happening::ReaderMidway);
        }
        let reading = Arc::new(Self {
            seen: Mutex::new(Seen {
                start: start.clone(),
                commits: Vec::new(),
                void: 0,
                checkpoints: vec![start.clone()],
                halted: None,
            }),
            moved: Notify::new(),
        });
        tokio::spawn(reading.clone().read(log, start));
        reading
    }

    async fn read<P: Protocol>(self: Arc<Self>, log: SimLog<P>, start: Checkpoint) {
        let mut reader: Reader<Event, SimLog<P>> = loop {
            match Reader::open(&log, "reader", vec![start.clone()]).await {
                Ok(reader) => break reader,
                Err(error) if error.is_transient() => {}
                Err(error) => return self.halt(error.to_string()),
            }
        };
        loop {
            match reader.next_patiently(|_| {}).await {
                Ok(batch) => {
                    let mut seen = self.seen();
                    seen.commits.extend(batch.commits);
                    seen.void += batch.void;
                    seen.checkpoints.push(batch.checkpoint);
                }
                Err(error) => return self.halt(error.to_string()),
            }
            self.moved.notify_one();
        }
    }

    fn halt(&self, reason: String) {
        self.seen().halted = Some(reason);
        self.moved.notify_one();
    }

    /// What it has seen so far.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no holder panics")
    }

    /// Waits until it has read everything before `end`, or can't.
    pub async fn reaches(&self, end: i64) {
        loop {
            {
                let seen = self.seen();
                let next_offset = seen.checkpoints.last().map_or(0, |last| last.next_offset);
                if next_offset >= end || seen.halted.is_some() {
                    return;
                }
            }
            self.moved.notified().await;
        }
    }
}

/// Before the first record.
pub(super) fn beginning() -> Checkpoint {
    Checkpoint::start(Event::CONTEXT.topic, super::broker::PARTITION)
}
