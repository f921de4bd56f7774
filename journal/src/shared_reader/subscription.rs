//! A subscription: reads with its own reader from its checkpoints, joins the shared reader, and falls back.

mod pause;
mod starting;

use super::{
    follower::{Follower, Step, at},
    position::{Position, Registration, distance, next_offsets},
    running::{Inner, Running, State},
    update::Update,
    window::Entry,
};
use crate::{
    batch::Batch,
    checkpoint::Checkpoint,
    log::{ReadLog, Source},
    metrics as names,
    protocol::{CorrectProtocol, SharingProtocol},
    reader::{ReadError, Reader},
};
use backoff::Backoff;
use schemas::ContextEvent;
use std::{collections::BTreeMap, sync::Arc};
use tokio::{sync::futures::Notified, time::Instant};

/// A subscription to a journal; see the module.
pub struct Subscription<E, L = Source, P = CorrectProtocol>
where
    E: ContextEvent,
    L: ReadLog,
    P: SharingProtocol,
{
    shared: Arc<Inner<E, L, P>>,
    id: u64,
    role: String,
    partitions: BTreeMap<i32, Position>,
    /// Whether the subscriber paused a partition.
    has_paused: bool,
    upstream: Upstream<E, L, P>,
    /// The log's ends, if they were measured since the reader was opened.
    ends: Option<BTreeMap<i32, i64>>,
    registration: Option<Registration>,
    /// Whether the subscriber still has to learn that the log can be read.
    is_unconfirmed: bool,
    /// While the shared reader feeds it: when the log will count as readable if no update shows it before.
    calm_at: Option<Instant>,
    /// The waits between attempts to open a reader.
    waits: Backoff,
    retry_at: Option<Instant>,
}

/// The source of the records.
enum Upstream<E: ContextEvent, L: ReadLog, P: SharingProtocol> {
    /// No reader is open; the next step opens one.
    None,
    Own(Box<Follower<E, L, P>>),
    Shared,
}

/// An entry of the window, as one subscriber takes it.
#[expect(clippy::large_enum_variant, reason = "nearly all are batches")]
enum Taken<E> {
    /// The subscriber already has it, or does not read the partition.
    Nothing,
    Update(Update<E>),
    /// It does not follow the subscriber's position.
    Unconnected,
}

impl<E: ContextEvent, L: ReadLog, P: SharingProtocol> Subscription<E, L, P> {
    pub(super) fn new(shared: Arc<Inner<E, L, P>>, role: &str, starts: Vec<Checkpoint>) -> Self {
        let partitions = starts.iter().map(|start| start.partition).collect();
        Self {
            id: shared.add_subscription(partitions),
            shared,
            role: role.to_owned(),
            partitions: starts
                .into_iter()
                .map(|start| (start.partition, Position::at(start)))
                .collect(),
            has_paused: false,
            upstream: Upstream::None,
            ends: None,
            registration: None,
            is_unconfirmed: true,
            calm_at: None,
            waits: Backoff::for_server(),
            retry_at: None,
        }
    }

    /// Waits for the next update. Cancel-safe, except that a wait for the schema registry begins again.
    ///
    /// # Errors
    /// The error is permanent: subscribe again.
    pub async fn next(&mut self) -> Result<Update<E>, ReadError> {
        let shared = self.shared.clone();
        loop {
            // Created before the state is read, so that no change is missed.
            let changed = shared.changed.notified();
            let update = match &self.upstream {
                Upstream::None => self.open().await?,
                Upstream::Own(_) => self.read(changed).await?,
                Upstream::Shared => self.take(changed).await,
            };
            if let Some(update) = update {
                self.note(&update);
                return Ok(update);
            }
        }
    }

    /// Records whether the subscriber knows that the log can be read.
    fn note(&mut self, update: &Update<E>) {
        match update {
            Update::Batch(_) | Update::Recovered => self.is_unconfirmed = false,
            Update::Failing(_) => self.is_unconfirmed = true,
            Update::Halted { .. } => return,
        }
        self.calm_at = None;
    }

    /// Whether the shared reader feeds it.
    pub fn is_fed_by_shared_reader(&self) -> bool {
        matches!(self.upstream, Upstream::Shared)
    }

    /// Opens a reader of its own after the last checkpoints.
    async fn open(&mut self) -> Result<Option<Update<E>>, ReadError> {
        let read = self.partitions.values().filter(|one| !one.is_halted);
        let starts: Vec<Checkpoint> = read.map(|one| one.checkpoint.clone()).collect();
        if starts.is_empty() {
            // Every partition is halted or paused.
            std::future::pending::<()>().await;
        }
        if let Some(time) = self.retry_at {
            tokio::time::sleep_until(time).await;
        }
        match Reader::<E, L, P>::open_with(&self.shared.log, &self.role, starts).await {
            Ok(reader) => {
                self.retry_at = None;
                self.ends = None;
                self.waits.reset();
                let follower = Follower::new(self.shared.log.clone(), reader);
                self.upstream = Upstream::Own(Box::new(follower));
                Ok(None)
            }
            Err(error) if error.is_transient() => {
                self.retry_at = Some(Instant::now() + self.waits.wait());
                Ok(Some(Update::Failing(Arc::new(error))))
            }
            Err(error) => Err(error),
        }
    }

    /// Joins the shared reader if possible, starts it if it does not run, and otherwise reads on.
    async fn read(&mut self, changed: Notified<'_>) -> Result<Option<Update<E>>, ReadError> {
        if self.join() {
            return Ok((self.is_unconfirmed && self.calm_at.is_none()).then_some(Update::Recovered));
        }
        let start_at = match self.start_at() {
            Some(time) if time <= Instant::now() => {
                let (is_started, failed) = self.start_near_the_end().await;
                if is_started || failed.is_some() {
                    return Ok(failed);
                }
                None
            }
            start_at => start_at,
        };
        let Upstream::Own(follower) = &mut self.upstream else {
            return Ok(None);
        };
        let step = tokio::select! {
            biased;
            step = follower.step() => step?,
            () = changed => return Ok(None),
            () = at(start_at) => return Ok(None),
        };
        Ok(match step {
            Step::Batch(batch) => {
                let position = self.partitions.get_mut(&batch.partition);
                let position = position.expect("its reader has every partition that is not halted");
                position.checkpoint = batch.checkpoint.clone();
                Some(Update::Batch(batch))
            }
            Step::Moved => None,
            Step::Halted(partition, error) => self.halt(partition, error),
            Step::Failing(error) => Some(Update::Failing(error)),
            Step::Recovered => self.is_unconfirmed.then_some(Update::Recovered),
        })
    }

    fn halt(&mut self, partition: i32, error: Arc<ReadError>) -> Option<Update<E>> {
        let position = self.partitions.get_mut(&partition)?;
        let was_halted = std::mem::replace(&mut position.is_halted, true);
        (!was_halted).then_some(Update::Halted {
            topic: E::CONTEXT.topic,
            partition,
            error,
        })
    }

    /// Registers in the shared reader's window if that is near, and switches to it once no record is missing
    /// between the two.
    fn join(&mut self) -> bool {
        let Upstream::Own(follower) = &self.upstream else {
            return false;
        };
        let Some(position) = follower.position() else {
            return false;
        };
        let calm_at = follower.calm_at();
        let shared = self.shared.clone();
        let mut state = shared.state();
        let State {
            running, counts, ..
        } = &mut *state;
        let Some(running) = running else { return false };
        let mut partitions = self.partitions.keys();
        let reads_all = partitions.all(|partition| running.heads.contains_key(partition));
        if running.failing.is_some() || !reads_all {
            return false;
        }
        let join_distance = shared.limits.join_distance;
        let Some(mut registration) = self.register(running, &position, join_distance) else {
            return false;
        };
        while let Some(entry) = running.window.get(registration.next)
            && self.has(&position, entry)
        {
            registration.next += 1;
        }
        let dropped = running.window.move_cursor(self.id, registration.next);
        running.report_subscribers(E::CONTEXT.topic);
        let joins = registration.connects::<P>(&self.partitions, &position)
            && distance(&next_offsets(&position), &running.reached) <= join_distance;
        self.registration = Some(registration);
        if joins {
            counts.joined += 1;
        }
        drop(state);
        drop(dropped);
        // The shared reader may have read on for this subscriber only, so it must check again.
        shared.taken.notify_waiters();
        if joins {
            for (partition, state) in position {
                if let Some(own) = self.partitions.get_mut(&partition) {
                    own.judged = state.next_offset;
                    own.hash = state.hash;
                }
            }
            self.calm_at = calm_at;
            self.upstream = Upstream::Shared;
            tracing::debug!(
                reader = self.role,
                topic = E::CONTEXT.topic,
                "joined the shared reader"
            );
        }
        joins
    }

    /// Returns the subscriber's registration in the window. Registers it if it has none, or again if entries
    /// after its cursor were dropped. Returns `None` if the shared reader is far ahead.
    fn register(
        &self,
        running: &Running<E>,
        position: &BTreeMap<i32, Checkpoint>,
        join_distance: i64,
    ) -> Option<Registration> {
        let is_valid = |registration: &&Registration| {
            registration.generation == running.generation && running.window.holds(registration.next)
        };
        if let Some(registration) = self.registration.as_ref().filter(is_valid) {
            return Some(registration.clone());
        }
        let floor = running.next_offsets();
        let is_near = distance(&floor, &next_offsets(position)) <= join_distance;
        is_near.then(|| Registration {
            generation: running.generation,
            next: running.window.end(),
            floor,
            halted: running.halted.clone(),
            health_version: running.health_version,
        })
    }

    /// Whether the subscription's reader has already read the content of an entry.
    fn has(&self, position: &BTreeMap<i32, Checkpoint>, entry: &Entry<E>) -> bool {
        match entry {
            Entry::Batch { batch, .. } => position
                .get(&batch.partition)
                .is_none_or(|state| batch.checkpoint.next_offset <= state.next_offset),
            Entry::Halted { partition, .. } => !position.contains_key(partition),
        }
    }

    /// The next update from the window.
    async fn take(&mut self, changed: Notified<'_>) -> Option<Update<E>> {
        let update = self.take_next();
        if update.is_some() || !self.is_fed_by_shared_reader() {
            return update;
        }
        let calm_at = self.calm_at;
        tokio::select! {
            biased;
            () = changed => None,
            () = at(calm_at) => {
                self.calm_at = None;
                self.is_unconfirmed.then_some(Update::Recovered)
            }
        }
    }

    /// The next update from the window, if there is one. Falls back if there are entries that it can't take.
    fn take_next(&mut self) -> Option<Update<E>> {
        let shared = self.shared.clone();
        let mut state = shared.state();
        let State {
            running, counts, ..
        } = &mut *state;
        let mut registration = self.registration.take()?;
        let is_own = |running: &&mut Running<E>| running.generation == registration.generation;
        let Some(running) = running.as_mut().filter(is_own) else {
            drop(state);
            self.fall_back();
            return None;
        };
        let begun_at = registration.next;
        let mut update = None;
        let mut falls_back = false;
        while update.is_none() && !falls_back {
            if !running.window.holds(registration.next) {
                falls_back = P::falls_back();
                registration.next = running.window.first();
                counts.lagged += 1;
                metrics::counter!(
                    names::FALL_BACKS, "topic" => E::CONTEXT.topic, "reader" => self.role.clone()
                )
                .increment(1);
                continue;
            }
            let Some(entry) = running.window.get(registration.next) else {
                break;
            };
            registration.next += 1;
            match self.take_entry(entry) {
                Taken::Nothing => {}
                Taken::Update(taken) => update = Some(taken),
                Taken::Unconnected => {
                    counts.unconnected += 1;
                    falls_back = true;
                }
            }
        }
        if falls_back {
            drop(state);
            self.fall_back();
            return None;
        }
        let mut dropped = Vec::new();
        if registration.next != begun_at {
            dropped = running.window.move_cursor(self.id, registration.next);
            shared.taken.notify_waiters();
        }
        // Entries that the subscriber already has gave no update, and a change of the health may have come with them.
        if update.is_none() && registration.health_version != running.health_version {
            registration.health_version = running.health_version;
            update = match &running.failing {
                Some(error) => Some(Update::Failing(error.clone())),
                None => self.is_unconfirmed.then_some(Update::Recovered),
            };
        }
        self.registration = Some(registration);
        // Freeing commits takes time, so release the lock first.
        drop(state);
        drop(dropped);
        update
    }

    /// Compares an entry with the position of this subscriber.
    fn take_entry(&mut self, entry: &Entry<E>) -> Taken<E> {
        let (batch, from, before) = match entry {
            Entry::Halted { partition, error } => {
                let halted = self.halt(*partition, error.clone());
                return halted.map_or(Taken::Nothing, Taken::Update);
            }
            Entry::Batch {
                batch,
                from,
                before,
            } => (batch, *from, before),
        };
        let Some(own) = self.partitions.get_mut(&batch.partition) else {
            return Taken::Nothing;
        };
        let next_offset = batch.checkpoint.next_offset;
        if own.is_halted || next_offset <= own.judged {
            return Taken::Nothing;
        }
        let Some(first) = P::takes_from(own.judged, from) else {
            return Taken::Unconnected;
        };
        // Two readers of one log have the same chain.
        if from == own.judged && *before != own.hash {
            return Taken::Unconnected;
        }
        let commits = batch.commits.starting_at(first);
        own.judged = next_offset;
        own.hash = batch.checkpoint.hash;
        if commits.is_empty() && next_offset <= own.checkpoint.next_offset {
            return Taken::Nothing;
        }
        let from = std::mem::replace(&mut own.checkpoint, batch.checkpoint.clone()).next_offset;
        Taken::Update(Update::Batch(Batch {
            from,
            commits,
            ..batch.clone()
        }))
    }

    /// Falls back to a reader of its own.
    fn fall_back(&mut self) {
        self.registration = None;
        self.calm_at = None;
        self.upstream = Upstream::None;
        self.shared.forget(self.id);
        tracing::debug!(
            reader = self.role,
            topic = E::CONTEXT.topic,
            "fell back to its own reader"
        );
    }
}

impl<E: ContextEvent, L: ReadLog, P: SharingProtocol> Drop for Subscription<E, L, P> {
    fn drop(&mut self) {
        self.shared.remove_subscription(self.id);
    }
}
