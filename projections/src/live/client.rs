//! One client's stream: the events that the client missed, then each event as it is recorded.

use super::{
    cursor::Cursor,
    frame::Frame,
    hub::{End, Hub, Item, Join, Joined},
    missed::{Chunk, MissedEvent, Room},
    resume::{ResumeFailed, Resumes},
    target::{LiveEvent, Target},
};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// Longest wait for the hub to reach a client's last event. The client's previous node may have been ahead of this one.
const AHEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for room in the budget of missed events.
const ROOM_TIMEOUT: Duration = Duration::from_secs(10);

/// The next step of a client's stream.
#[derive(Debug)]
pub enum Output {
    /// The client is connected. The text is the id from which it would resume now.
    Connected(String),
    /// An event.
    Event(Arc<Frame>),
    /// Tells the client that the connection is alive.
    Heartbeat,
    /// The end of the stream.
    End(End),
}

/// The parts of a node that its clients share.
pub struct Sources<E> {
    pub hub: Arc<Hub<E>>,
    pub resumes: Resumes,
    /// Changes with each heartbeat.
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
    missed: VecDeque<MissedEvent>,
    /// The position after the missed events.
    cursor_after_missed: Option<Cursor>,
    /// Receives the missed events, if they were requested.
    requested: Option<oneshot::Receiver<Result<Chunk, ResumeFailed>>>,
    /// The deadline for the hub to reach the client's last event.
    ahead_deadline: Option<Instant>,
    /// The bytes that the budget lacked for the client's next event.
    lacking: Option<usize>,
    /// The room that the client got for its next event.
    room: Option<Room>,
    /// The deadline for room in the budget.
    room_deadline: Option<Instant>,
    joined: Option<Joined<E>>,
    is_connected: bool,
    is_ended: bool,
}

impl<E: LiveEvent> Client<E> {
    /// Creates a client that has received everything up to `cursor`. Without a cursor it gets new events only.
    pub fn new(sources: Arc<Sources<E>>, target: Target, cursor: Option<Cursor>) -> Self {
        let mut heartbeats = sources.heartbeats.clone();
        heartbeats.mark_unchanged();
        Self {
            sources,
            target,
            cursor,
            heartbeats,
            missed: VecDeque::new(),
            cursor_after_missed: None,
            requested: None,
            ahead_deadline: None,
            lacking: None,
            room: None,
            room_deadline: None,
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

    /// The next output other than a heartbeat. Cancel-safe: `self` keeps each event and each answer that has arrived.
    async fn advance(&mut self) -> Output {
        loop {
            if let Some(MissedEvent { frame, .. }) = self.missed.pop_front() {
                match self.is_sent(&frame) {
                    true => continue,
                    false => return Output::Event(frame),
                }
            }
            if let Some(cursor) = self.cursor_after_missed.take() {
                self.cursor = Some(cursor);
            }
            if let Some(joined) = &mut self.joined {
                match joined.items.recv().await {
                    Some(Item::Event(frame)) => match self.is_sent(&frame) {
                        true => continue,
                        false => return Output::Event(frame),
                    },
                    Some(Item::End(end)) => return Output::End(end),
                    // The hub sends the end before it drops a client, so this does not happen.
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

    /// Joins the hub, or does one step that must happen before: waits for room, reads missed events, or waits for the
    /// hub.
    async fn connect(&mut self) -> Result<Option<Output>, End> {
        if let Some(bytes) = self.lacking {
            self.room = Some(self.wait_for_room(bytes).await?);
            self.lacking = None;
        }
        let hub = &self.sources.hub;
        let mut moves = hub.moves();
        match hub.join(&self.target, self.cursor.as_ref(), &mut self.room) {
            Join::Joined(mut joined) => {
                self.missed = std::mem::take(&mut joined.backlog);
                let topic = E::CONTEXT.topic;
                let id = joined.cursor.id(topic);
                self.cursor.get_or_insert_with(|| joined.cursor.clone());
                self.joined = Some(joined);
                let is_first = !std::mem::replace(&mut self.is_connected, true);
                Ok(is_first.then_some(Output::Connected(id)))
            }
            Join::Missed(chunk) => {
                self.queue(chunk);
                Ok(None)
            }
            Join::Behind => {
                let chunk = self.read_missed().await.map_err(|_| End::ResumeFailed)?;
                self.requested = None;
                self.queue(chunk);
                Ok(None)
            }
            Join::Early => {
                // Other clients can use the room during this wait.
                self.room = None;
                self.wait_for(&mut moves).await?;
                Ok(None)
            }
            Join::Halted => Err(End::Halted),
        }
    }

    /// Stores missed events, which are sent before the client joins the hub.
    fn queue(&mut self, chunk: Chunk) {
        self.lacking = chunk.lacking();
        if self.lacking.is_none() {
            self.room_deadline = None;
        }
        self.room = chunk.room;
        self.missed = chunk.events;
        self.cursor_after_missed = Some(chunk.cursor);
    }

    /// Waits until the budget of missed events has room for an event of this size. The client waits again after a
    /// heartbeat, or if its next event is much larger; all these waits together last [`ROOM_TIMEOUT`] at most.
    async fn wait_for_room(&mut self, bytes: usize) -> Result<Room, End> {
        let deadline = self.room_deadline;
        let until = deadline.unwrap_or_else(|| Instant::now() + ROOM_TIMEOUT);
        self.room_deadline = Some(until);
        if deadline.is_some_and(|until| until <= Instant::now()) {
            return Err(End::Overloaded);
        }
        let room = Room::wait(self.sources.hub.missed(), bytes, ROOM_TIMEOUT);
        match timeout_at(until, room).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) | Err(_) => Err(End::Overloaded),
        }
    }

    /// Reads missed events that are no longer in memory. A heartbeat does not cancel the request, which `self` keeps.
    async fn read_missed(&mut self) -> Result<Chunk, ResumeFailed> {
        let answer = match &mut self.requested {
            Some(answer) => answer,
            None => {
                let cursor = self.cursor.clone().unwrap_or_default();
                let (resumes, target) = (&self.sources.resumes, self.target.clone());
                let requested = resumes.request(target, cursor, &mut self.room).await?;
                self.requested.insert(requested)
            }
        };
        answer.await.unwrap_or(Err(ResumeFailed))
    }

    /// Waits until the hub has moved. While the hub follows the log, it must reach the client's last event within
    /// [`AHEAD_TIMEOUT`]; otherwise the last event is unknown.
    async fn wait_for(&mut self, moves: &mut watch::Receiver<u64>) -> Result<(), End> {
        // This can't fail: the client keeps the hub alive.
        let moved = moves.changed();
        if !self.sources.hub.is_following() {
            let _ = moved.await;
            return Ok(());
        }
        let until = self
            .ahead_deadline
            .get_or_insert_with(|| Instant::now() + AHEAD_TIMEOUT);
        match timeout_at(*until, moved).await {
            Ok(_) => Ok(()),
            Err(_) => Err(End::UnknownLastEvent),
        }
    }

    /// Whether an event was sent already; otherwise records it as sent.
    fn is_sent(&mut self, frame: &Frame) -> bool {
        let (partition, offset, index) = frame.position;
        let cursor = self.cursor.get_or_insert_default();
        let is_sent = cursor.includes(partition, offset, index);
        if !is_sent {
            cursor.advance(partition, offset, index);
        }
        is_sent
    }
}
