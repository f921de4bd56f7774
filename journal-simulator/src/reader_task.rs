//! The readers of a run, which must agree: one from offset 0, and some from checkpoints of that reader.

use crate::{broker::PARTITION, coverage::CoveragePoint, log::SimLog, sim::Sim};
use journal::{
    checkpoint::Checkpoint,
    probe::Event,
    protocol::OwnerProtocol,
    reader::{Reader, Valid},
};
use schemas::ContextEvent;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// The observations of a reader.
#[derive(Debug, Clone)]
pub(super) struct Observed {
    pub start: Checkpoint,
    pub commits: Vec<Valid<Event>>,
    pub void: u64,
    /// The start, then the checkpoint after each batch.
    pub checkpoints: Vec<Checkpoint>,
    /// Why the reader halted, if it did.
    pub halted: Option<String>,
}

/// A reader that runs as a task.
pub(super) struct ReaderTask {
    observed: Mutex<Observed>,
    moved: Notify,
}

impl ReaderTask {
    /// Starts to read after a checkpoint.
    pub fn start<P: OwnerProtocol>(log: SimLog, start: Checkpoint, sim: Arc<Sim>) -> Arc<Self> {
        if start.next_offset > 0 {
            sim.count(CoveragePoint::ReaderMidway);
        }
        let task = Arc::new(Self {
            observed: Mutex::new(Observed {
                start: start.clone(),
                commits: Vec::new(),
                void: 0,
                checkpoints: vec![start.clone()],
                halted: None,
            }),
            moved: Notify::new(),
        });
        tokio::spawn(task.clone().read::<P>(log, start));
        task
    }

    async fn read<P: OwnerProtocol>(self: Arc<Self>, log: SimLog, start: Checkpoint) {
        let mut reader: Reader<Event, SimLog, P> = loop {
            match Reader::open_with(&log, "reader", vec![start.clone()]).await {
                Ok(reader) => break reader,
                Err(error) if error.is_transient() => {}
                Err(error) => return self.halt(error.to_string()),
            }
        };
        loop {
            match reader.next_with_retries(|_| {}).await {
                Ok(batch) => {
                    let mut observed = self.observed();
                    observed.commits.extend_from_slice(&batch.commits);
                    observed.void += batch.void;
                    observed.checkpoints.push(batch.checkpoint);
                }
                Err(error) => return self.halt(error.to_string()),
            }
            self.moved.notify_one();
        }
    }

    fn halt(&self, reason: String) {
        self.observed().halted = Some(reason);
        self.moved.notify_one();
    }

    /// The observations so far.
    pub fn observed(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().expect("no holder panics")
    }

    /// Waits until it has read all records before `end`, or has halted.
    pub async fn reaches(&self, end: i64) {
        loop {
            {
                let observed = self.observed();
                let next_offset = observed
                    .checkpoints
                    .last()
                    .map_or(0, |last| last.next_offset);
                if next_offset >= end || observed.halted.is_some() {
                    return;
                }
            }
            self.moved.notified().await;
        }
    }
}

/// The checkpoint before the first record.
pub(super) fn first_checkpoint() -> Checkpoint {
    Checkpoint::start(Event::CONTEXT.topic, PARTITION)
}
