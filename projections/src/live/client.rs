//! One client: what it missed, then each event as it is recorded, until its stream ends.

use super::{
    cursor::Cursor,
    frame::Frame,
    hub::{End, Hub, Item, Join, Joined},
    resume::{Chunk, ResumeFailed, Resumes},
    target::{LiveEvent, Target},
};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// Longest wait for the hub to reach a client's last event: another node may have been ahead.
const AHEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The next step of a client's stream.
#[derive(Debug)]
pub enum Output {
    /// It is connected: the id from which it would resume now.
    Connected(String),
    /// An event.
    Event(Arc<Frame>),
    /// Nothing was recorded for a while.
    Heartbeat,
    /// Nothing more.
    End(End),
}

/// The parts of a node that its clients share.
pub struct Sources<E> {
    pub hub: Arc<Hub<E>>,
    pub resumes: Resumes,
    /// Changes at each heartbeat.
    pub heartbeats: watch::Receiver<u64>,
    pub stop: CancellationToken,
}

/// A client's stream.
pub struct Client<E: LiveEvent> {
    sources: Arc<Sources<E>>,
    target: Target,
    /// `None` until a client without a last event has joined the hub.
    cursor: Option<Cursor>,
    heartbeats: watch::Receiver<u64>,
    missed: VecDeque<Arc<Frame>>,
    /// The position behind the missed events.
    behind_missed: Option<Cursor>,
    /// The answer that will have the missed events.
    asked: Option<oneshot::Receiver<Result<Chunk, ResumeFailed>>>,
    /// When the hub must have reached the client's last event.
    ahead_until: Option<Instant>,
    joined: Option<Joined<E>>,
    is_connected: bool,
    is_ended: bool,
}

impl<E: LiveEvent> Client<E> {
    /// A client that has got everything up to the cursor; without one, it gets new events only.
    pub fn new(sources: Arc<Sources<E>>, target: Target, cursor: Option<Cursor>) -> Self {
        let mut heartbeats = sources.heartbeats.clone();
        heartbeats.mark_unchanged();
        Self {
            sources,
            target,
            cursor,
            heartbeats,
            missed: VecDeque::new(),
            behind_missed: None,
            asked: None,
            ahead_until: None,
            joined: None,
            is_connected: false,
            is_ended: false,
        }
    }

    /// The next output; `None` after the end.
    pub async fn next(&mut self) -> Option<Output> {
        if self.is_ended {
            return None;
        }
        let stop = self.sources.stop.clone();
        let mut heartbeats = self.heartbeats.clone();
        let output = tokio::select! {
            biased;
            () = stop.cancelled() => Output::End(End::Stopping),
            output = self.advance() => output,
            Ok(()) = heartbeats.changed() => Output::Heartbeat,
        };
        if let Output::Heartbeat = output {
            self.heartbeats = heartbeats;
        }
        self.is_ended = matches!(output, Output::End(_));
        Some(output)
    }

    /// The next output but heartbeats. Cancel-safe: what was taken is kept.
    async fn advance(&mut self) -> Output {
        loop {
            if let Some(frame) = self.missed.pop_front() {
                match self.is_sent(&frame) {
                    true => continue,
                    false => return Output::Event(frame),
                }
            }
            if let Some(cursor) = self.behind_missed.take() {
                self.cursor = Some(cursor);
            }
            if let Some(joined) = &mut self.joined {
                match joined.items.recv().await {
                    Some(Item::Event(frame)) => {
                        self.missed.push_back(frame);
                        continue;
                    }
                    Some(Item::End(end)) => return Output::End(end),
                    // The hub drops a client only after its end.
                    None => return Output::End(End::Stopping),
                }
            }
            match self.connect().await {
                Ok(Some(output)) => return output,
                Ok(None) => {}
                Err(end) => return Output::End(end),
            }
        }
    }

    /// Takes a step towards the hub.
    async fn connect(&mut self) -> Result<Option<Output>, End> {
        let mut moves = self.sources.hub.moves();
        match self.sources.hub.join(&self.target, self.cursor.as_ref()) {
            Join::Joined(mut joined) => {
                self.missed = std::mem::take(&mut joined.backlog);
                let topic = E::CONTEXT.topic;
                let id = joined.cursor.id(topic);
                self.cursor.get_or_insert_with(|| joined.cursor.clone());
                self.joined = Some(joined);
                let is_first = !std::mem::replace(&mut self.is_connected, true);
                Ok(is_first.then_some(Output::Connected(id)))
            }
            Join::Behind => {
                let Chunk { events, cursor } =
                    self.read_missed().await.map_err(|_| End::ResumeFailed)?;
                self.asked = None;
                self.missed = events;
                self.behind_missed = Some(cursor);
                Ok(None)
            }
            Join::Early => {
                self.wait_for(&mut moves).await?;
                Ok(None)
            }
            Join::Halted => Err(End::Halted),
        }
    }

    /// Waits for the events that are no longer in memory. A heartbeat does not interrupt the work.
    async fn read_missed(&mut self) -> Result<Chunk, ResumeFailed> {
        let answer = match &mut self.asked {
            Some(answer) => answer,
            None => {
                let cursor = self.cursor.clone().unwrap_or_default();
                let asked = self.sources.resumes.ask(self.target.clone(), cursor);
                self.asked.insert(asked.await?)
            }
        };
        answer.await.unwrap_or(Err(ResumeFailed))
    }

    /// Waits until the hub has moved. A hub that follows the log and does not reach the client's last event within
    /// [`AHEAD_TIMEOUT`] does not have it.
    async fn wait_for(&mut self, moves: &mut watch::Receiver<u64>) -> Result<(), End> {
        // The hub lives as long as the client.
        let moved = moves.changed();
        if !self.sources.hub.is_following() {
            let _ = moved.await;
            return Ok(());
        }
        let until = self
            .ahead_until
            .get_or_insert_with(|| Instant::now() + AHEAD_TIMEOUT);
        match timeout_at(*until, moved).await {
            Ok(_) => Ok(()),
            Err(_) => Err(End::UnknownLastEvent),
        }
    }

    /// Whether an event was sent; if not, records it as sent.
    fn is_sent(&mut self, frame: &Frame) -> bool {
        let (partition, offset, index) = frame.place;
        let cursor = self.cursor.get_or_insert_default();
        let is_sent = cursor.includes(partition, offset, index);
        if !is_sent {
            cursor.advance(partition, offset, index);
        }
        is_sent
    }
}
