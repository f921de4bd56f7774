//! Reads the events that clients have missed from the log. One pass over the log serves all clients that wait for it.
//!
//! A pass starts at the nearest checkpoint before the first missed offset of each partition, and ends where the hub's
//! memory begins. It gives each client one [`Chunk`]; a client that has missed more asks again.

use super::{
    cursor::Cursor,
    hub::Hub,
    missed::{Chunk, Room},
    target::{LiveEvent, Target},
};
use journal::{Checkpoint, ReadError, Reader, log::ReadLog};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::{mpsc, oneshot};

/// Maximum number of clients per pass. The others wait for the next pass.
const CLIENTS_MAX: usize = 8_192;
/// Maximum number of clients that wait for a pass.
const WAITING_MAX: usize = 16_384;
/// The name of the reader.
const ROLE: &str = "live-resume";

/// The missed events can't be read, or the node stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumeFailed;

/// A client that waits for a pass.
struct Waiting {
    target: Target,
    chunk: Chunk,
    reply: oneshot::Sender<Result<Chunk, ResumeFailed>>,
}

/// Asks for passes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Resumes(mpsc::Sender<Waiting>);

/// Executes the passes.
pub struct Passes<E: LiveEvent, L: ReadLog> {
    hub: Arc<Hub<E>>,
    log: L,
    waiting: mpsc::Receiver<Waiting>,
}

impl Resumes {
    /// Requests the events of a target after a cursor. The answer may have only the first of them. `room` is the room
    /// for the first one. Cancel-safe: a request that is not sent does not take the room.
    ///
    /// # Errors
    /// The node stops.
    pub async fn request(
        &self,
        target: Target,
        cursor: Cursor,
        room: &mut Option<Room>,
    ) -> Result<oneshot::Receiver<Result<Chunk, ResumeFailed>>, ResumeFailed> {
        let permit = self.0.reserve().await.map_err(|_| ResumeFailed)?;
        let (reply, answer) = oneshot::channel();
        permit.send(Waiting {
            target,
            chunk: Chunk::new(cursor, room.take()),
            reply,
        });
        Ok(answer)
    }
}

impl<E: LiveEvent, L: ReadLog> Passes<E, L> {
    /// The passes over a log, and the handle to request them.
    pub fn new(hub: Arc<Hub<E>>, log: L) -> (Resumes, Self) {
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        let passes = Self { hub, log, waiting };
        (Resumes(sender), passes)
    }

    /// Executes a pass whenever a client waits, until every [`Resumes`] is dropped.
    pub async fn run(mut self) {
        let mut clients = Vec::new();
        while self.waiting.recv_many(&mut clients, CLIENTS_MAX).await > 0 {
            let mut pass = std::mem::take(&mut clients);
            pass.retain(|client| !client.reply.is_closed());
            if let Err(error) = self.pass(&mut pass).await {
                let topic = E::CONTEXT.topic;
                tracing::error!(topic, %error, "failed to read missed events for live clients");
                for client in pass {
                    // A disconnected client does not need an answer.
                    let _ = client.reply.send(Err(ResumeFailed));
                }
                continue;
            }
            for client in pass {
                let _ = client.reply.send(Ok(client.chunk));
            }
        }
    }

    async fn pass(&self, clients: &mut [Waiting]) -> Result<(), ReadError> {
        let starts = self.starts(clients);
        if starts.is_empty() {
            return Ok(());
        }
        let position = |start: &Checkpoint| (start.partition, start.resume_offset());
        let mut position: BTreeMap<i32, i64> = starts.iter().map(position).collect();
        let mut reader = Reader::<E, L>::open(&self.log, ROLE, starts).await?;
        while !self.reaches(&position) && clients.iter().any(|client| !client.chunk.is_full()) {
            let batch = reader.next_with_retries(report).await?;
            position.insert(batch.partition, batch.checkpoint.next_offset);
            self.hub.note(&batch.checkpoint);
            let is_concerned = |client: &&mut Waiting| client.target.reads(batch.partition);
            for client in clients.iter_mut().filter(is_concerned) {
                let (json, budget) = (self.hub.json(), self.hub.missed());
                client.chunk.take(&batch, &client.target, json, budget);
            }
        }
        Ok(())
    }

    /// The checkpoint to start at, for each partition in which a client has missed events that are not in memory.
    fn starts(&self, clients: &[Waiting]) -> Vec<Checkpoint> {
        let mut missed: BTreeMap<i32, i64> = BTreeMap::new();
        for (partition, sent) in clients.iter().flat_map(|client| client.chunk.cursor.iter()) {
            let from = sent.from();
            let is_missed = |start| from < start;
            if self.hub.ring_start(partition).is_some_and(is_missed) {
                let first = missed.entry(partition).or_insert(from);
                *first = from.min(*first);
            }
        }
        let missed = missed.into_iter();
        missed
            .map(|(partition, from)| self.hub.checkpoint_before(partition, from))
            .collect()
    }

    /// Whether the hub has everything from these positions on in memory.
    fn reaches(&self, position: &BTreeMap<i32, i64>) -> bool {
        position.iter().all(|(partition, next)| {
            let start = self.hub.ring_start(*partition);
            start.is_none_or(|start| *next >= start)
        })
    }
}

fn report(error: Option<&ReadError>) {
    if let Some(error) = error {
        tracing::debug!(%error, "failed to read missed events for live clients, retrying");
    }
}
