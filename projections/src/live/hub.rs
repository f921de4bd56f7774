//! Passes each event of the journal to the clients that follow its aggregate or its customer.

use super::{
    checkpoints::SparseCheckpoints,
    cursor::{Cursor, Sent},
    event_json::EventJson,
    frame::Frame,
    missed::{Chunk, MissedEvent, Room},
    ring::Ring,
    target::{LiveEvent, Target},
};
use crate::metrics as names;
use journal::{Batch, Checkpoint};
use metrics::{counter, gauge};
use service::budget::Budget;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::sync::{mpsc, watch};

/// Maximum number of events that wait for one client. If there are more, the client is too slow and its stream ends.
pub const QUEUE_EVENTS_MAX: usize = 64;

/// The reason why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// More than [`QUEUE_EVENTS_MAX`] events were waiting for the client.
    TooSlow,
    /// A partition was halted. This ends every stream of the node; a client that does not read the partition can
    /// connect again.
    Halted,
    /// The events since the client's last event can't be read.
    ResumeFailed,
    /// The client's last event is not in the log.
    UnknownLastEvent,
    /// The events that clients have missed take all the memory that the node has for them.
    Overloaded,
    /// The node stops.
    Stopping,
}

/// An item for a joined client.
#[derive(Debug)]
pub enum Item {
    /// An event.
    Event(Arc<Frame>),
    /// The end of the stream.
    End(End),
}

/// The hub of a journal.
pub struct Hub<E> {
    state: Mutex<State<E>>,
    /// Counts the changes of the position, of the phase and of the halted partitions.
    moved: watch::Sender<u64>,
    json: EventJson<E>,
    /// The budget of the events that clients have missed.
    missed: Budget,
}

struct State<E> {
    /// Whether the hub has read everything that was in the log when it started.
    is_following: bool,
    /// The checkpoint after everything that was read, by partition. Empty before the start.
    heads: BTreeMap<i32, Checkpoint>,
    halted: BTreeMap<i32, String>,
    ring: Ring<E>,
    checkpoints: BTreeMap<i32, SparseCheckpoints>,
    by_key: HashMap<String, Vec<Client>>,
    by_customer: HashMap<String, Vec<Client>>,
    next_client: u64,
}

struct Client {
    number: u64,
    /// The capacity is one more than [`QUEUE_EVENTS_MAX`], for the end.
    items: mpsc::Sender<Item>,
}

/// The result of [`Hub::join`].
pub enum Join<E: LiveEvent> {
    /// The client gets every event after its cursor.
    Joined(Joined<E>),
    /// The client has missed more events than it may get at once: it gets these first, and then joins.
    Missed(Chunk),
    /// Events after the cursor are no longer in memory: read them from the log.
    Behind,
    /// The hub has not reached the cursor, or has not started: wait until it has moved.
    Early,
    /// A partition that the client reads is halted.
    Halted,
}

/// A client that gets events as they are recorded. Dropping it removes the client from the hub.
pub struct Joined<E: LiveEvent> {
    /// The client's position before the first of these events.
    pub cursor: Cursor,
    /// The events after the client's position that were in memory.
    pub backlog: VecDeque<MissedEvent>,
    /// Later events, and the end.
    pub items: mpsc::Receiver<Item>,
    hub: Arc<Hub<E>>,
    target: Target,
    number: u64,
}

impl<E: LiveEvent> Hub<E> {
    /// Creates a hub that has read nothing. `missed` is the budget of the events that clients have missed.
    pub fn new(missed: Budget) -> Self {
        Self {
            state: Mutex::new(State {
                is_following: false,
                heads: BTreeMap::new(),
                halted: BTreeMap::new(),
                ring: Ring::new(BTreeMap::new()),
                checkpoints: BTreeMap::new(),
                by_key: HashMap::new(),
                by_customer: HashMap::new(),
                next_client: 0,
            }),
            moved: watch::Sender::new(0),
            json: EventJson::new(),
            missed,
        }
    }

    /// The budget of the events that clients have missed.
    pub fn missed(&self) -> &Budget {
        &self.missed
    }

    /// Writes events as JSON.
    pub fn json(&self) -> &EventJson<E> {
        &self.json
    }

    /// Starts the hub at these checkpoints, one per partition.
    pub fn start(&self, starts: &[Checkpoint]) {
        let mut state = self.lock();
        for start in starts {
            let known = state.checkpoints.entry(start.partition).or_default();
            known.add(start);
        }
        let heads = starts.iter();
        state.heads = heads
            .map(|start| (start.partition, start.clone()))
            .collect();
        let offsets = starts.iter();
        let offsets = offsets.map(|start| (start.partition, start.resume_offset()));
        state.ring = Ring::new(offsets.collect());
        drop(state);
        self.changed();
    }

    /// The checkpoints from which a subscription continues.
    pub fn heads(&self) -> Vec<Checkpoint> {
        self.lock().heads.values().cloned().collect()
    }

    /// Whether the hub has read up to these offsets, by partition. A halted partition counts as read.
    pub fn has_read(&self, ends: &BTreeMap<i32, i64>) -> bool {
        let state = self.lock();
        ends.iter().all(|(partition, end)| {
            let head = state.heads.get(partition);
            state.halted.contains_key(partition)
                || head.is_some_and(|head| head.next_offset >= *end)
        })
    }

    /// Whether the hub has read everything that was in the log when it started.
    pub fn is_following(&self) -> bool {
        self.lock().is_following
    }

    /// Clients that ask for new events may join from now on.
    pub fn follow(&self) {
        self.lock().is_following = true;
        self.changed();
    }

    /// Stores a batch in the ring, and sends its events to their clients.
    pub fn take(&self, batch: Batch<E>) {
        let mut state = self.lock();
        state.pass_on(&batch, &self.json);
        let known = state.checkpoints.entry(batch.partition).or_default();
        known.add(&batch.checkpoint);
        let head = batch.checkpoint.clone();
        state.heads.insert(batch.partition, head);
        state.ring.push(batch);
        drop(state);
        self.changed();
    }

    /// Marks a partition as halted, and ends every stream of the node. Clients that do not read the partition can
    /// connect again.
    pub fn halt(&self, partition: i32, reason: String) {
        let mut state = self.lock();
        state.halted.insert(partition, reason);
        let State {
            by_key,
            by_customer,
            ..
        } = &mut *state;
        // The map has keys without their partitions, so the clients of this partition can't be told apart.
        for clients in by_key.values_mut().chain(by_customer.values_mut()) {
            for client in clients.drain(..) {
                // A disconnected client does not need the end.
                let _ = client.items.try_send(Item::End(End::Halted));
            }
        }
        by_key.clear();
        by_customer.clear();
        drop(state);
        self.changed();
    }

    /// Adds a client. Without a cursor, the client gets the events that are read from now on. `room` is the room for
    /// the first of its missed events; it stays in place if the result is `Early`, `Behind` or `Halted`.
    pub fn join(
        self: &Arc<Self>,
        target: &Target,
        cursor: Option<&Cursor>,
        room: &mut Option<Room>,
    ) -> Join<E> {
        let mut state = self.lock();
        let mut heads = state.heads.values();
        if heads.len() == 0 || (cursor.is_none() && !state.is_following) {
            return Join::Early;
        }
        if heads
            .any(|head| target.reads(head.partition) && state.halted.contains_key(&head.partition))
        {
            return Join::Halted;
        }
        let cursor = cursor.cloned().unwrap_or_else(|| state.now(target));
        for (partition, sent) in cursor.iter() {
            let (Some(head), Some(start)) =
                (state.heads.get(&partition), state.ring.start(partition))
            else {
                return Join::Early;
            };
            if sent.from() > head.next_offset {
                return Join::Early;
            }
            if sent.from() < start {
                return Join::Behind;
            }
        }
        let mut backlog = Chunk::new(cursor.clone(), room.take());
        state.fill(&mut backlog, target, &self.json, &self.missed);
        if backlog.is_full() {
            return Join::Missed(backlog);
        }
        let (sender, items) = mpsc::channel(QUEUE_EVENTS_MAX + 1);
        state.next_client += 1;
        let number = state.next_client;
        let client = Client {
            number,
            items: sender,
        };
        state.clients(target).push(client);
        gauge!(names::LIVE_CLIENTS).increment(1);
        Join::Joined(Joined {
            cursor,
            backlog: backlog.events,
            items,
            hub: self.clone(),
            target: target.clone(),
            number,
        })
    }

    /// A receiver that is notified when the position, the phase or the set of halted partitions changes.
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// The first offset of a partition that is in memory.
    pub fn ring_start(&self, partition: i32) -> Option<i64> {
        self.lock().ring.start(partition)
    }

    /// The last known checkpoint from which a reader reads the record at an offset; otherwise the log's start.
    pub fn checkpoint_before(&self, partition: i32, offset: i64) -> Checkpoint {
        let state = self.lock();
        let known = state.checkpoints.get(&partition);
        let known = known.and_then(|known| known.before(offset)).cloned();
        known.unwrap_or_else(|| Checkpoint::start(E::CONTEXT.topic, partition))
    }

    /// Stores a checkpoint of another reader.
    pub fn note(&self, checkpoint: &Checkpoint) {
        let mut state = self.lock();
        let known = state.checkpoints.entry(checkpoint.partition).or_default();
        known.add(checkpoint);
    }

    fn changed(&self) {
        self.moved.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

impl<E: LiveEvent> State<E> {
    /// The cursor after everything that was read.
    fn now(&self, target: &Target) -> Cursor {
        let heads = self.heads.values();
        let heads = heads.filter(|head| target.reads(head.partition));
        Cursor::new(heads.map(|head| (head.partition, Sent::before(head.next_offset))))
    }

    /// Adds the first events in memory after a chunk's cursor.
    fn fill(&self, chunk: &mut Chunk, target: &Target, json: &EventJson<E>, missed: &Budget) {
        let from: BTreeMap<i32, i64> = chunk
            .cursor
            .iter()
            .map(|(number, sent)| (number, sent.from()))
            .collect();
        for batch in self.ring.batches(|partition| from.get(&partition).copied()) {
            chunk.take(batch, target, json, missed);
        }
    }

    fn clients(&mut self, target: &Target) -> &mut Vec<Client> {
        match target {
            Target::Aggregate { key, .. } => self.by_key.entry(key.clone()).or_default(),
            Target::Customer(id) => self.by_customer.entry(id.clone()).or_default(),
        }
    }

    /// Sends the events of a batch to their clients.
    fn pass_on(&mut self, batch: &Batch<E>, json: &EventJson<E>) {
        if self.by_key.is_empty() && self.by_customer.is_empty() {
            return;
        }
        let partition = batch.partition;
        let mut all = self.now(&Target::Customer(String::new()));
        for valid in &batch.commits {
            let Some(decision) = valid.decision() else {
                continue;
            };
            for (index, event) in decision.events.iter().enumerate() {
                let frame =
                    |cursor: &Cursor| Arc::new(Frame::new(json, partition, valid, index, cursor));
                if let Ok(key) = std::str::from_utf8(&valid.key) {
                    let mut own = Cursor::default();
                    own.advance(partition, valid.offset, index);
                    send(&mut self.by_key, key, || frame(&own));
                }
                if let Some(customer) = event.customer() {
                    all.advance(partition, valid.offset, index);
                    send(&mut self.by_customer, customer, || frame(&all));
                }
            }
        }
    }

    fn remove(&mut self, target: &Target, number: u64) {
        let (clients, name) = match target {
            Target::Aggregate { key, .. } => (&mut self.by_key, key),
            Target::Customer(id) => (&mut self.by_customer, id),
        };
        if let Some(of_target) = clients.get_mut(name) {
            of_target.retain(|client| client.number != number);
            if of_target.is_empty() {
                clients.remove(name);
            }
        }
    }
}

/// Sends an event to the clients of a key or a customer, and removes the clients that are too slow.
fn send(
    clients: &mut HashMap<String, Vec<Client>>,
    name: &str,
    frame: impl FnOnce() -> Arc<Frame>,
) {
    let Some(of_name) = clients.get_mut(name) else {
        return;
    };
    let frame = frame();
    of_name.retain(|client| {
        let is_slow = client.items.capacity() <= 1;
        let item = match is_slow {
            true => Item::End(End::TooSlow),
            false => Item::Event(frame.clone()),
        };
        if is_slow {
            counter!(names::LIVE_SLOW_CLIENTS).increment(1);
        }
        // A disconnected client removes itself from the hub.
        let _ = client.items.try_send(item);
        !is_slow
    });
    if of_name.is_empty() {
        clients.remove(name);
    }
}

impl<E: LiveEvent> Drop for Joined<E> {
    fn drop(&mut self) {
        self.hub.lock().remove(&self.target, self.number);
        gauge!(names::LIVE_CLIENTS).decrement(1);
    }
}
