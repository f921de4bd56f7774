//! The state that subscribers share, and the task that reads for them.

use super::{
    follower::{Follower, Step},
    window::{Entry, Limits, Window},
};
use crate::{
    chain::Hash,
    checkpoint::Checkpoint,
    log::ReadLog,
    metrics as names,
    protocol::SharingProtocol,
    reader::{ReadError, Reader},
};
use backoff::Backoff;
use schemas::ContextEvent;
use std::{
    collections::{BTreeMap, BTreeSet},
    marker::PhantomData,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::{sync::Notify, time::Instant};

/// The state of a shared reader, for tests and operators.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether the task runs.
    pub is_running: bool,
    /// Subscribers that it keeps batches for.
    pub subscribers: usize,
    /// Commits that it keeps; a batch without one counts as one.
    pub commits: usize,
    /// Size of these commits in the log.
    pub bytes: usize,
    /// How often subscribers joined.
    pub joined: u64,
    /// How often a subscriber fell back because it had not taken a batch in time.
    pub lagged: u64,
    /// How often a subscriber fell back because a batch did not follow its position: another log, or a bug.
    pub unconnected: u64,
    /// How often a subscriber replaced the task by one that reads more partitions.
    pub replaced: u64,
}

/// The state that the handles of a shared reader, its subscriptions and its task have in common.
pub(super) struct Inner<E, L, P> {
    pub log: L,
    pub limits: Limits,
    state: Mutex<State<E>>,
    /// The task has added an entry, or its health has changed, or it has ended.
    pub changed: Notify,
    /// A subscriber has taken entries, or needs no more.
    pub taken: Notify,
    protocol: PhantomData<fn() -> P>,
}

pub(super) struct State<E> {
    pub running: Option<Running<E>>,
    /// Number of tasks so far.
    generations: u64,
    subscriptions: u64,
    /// The partitions that each subscription reads, by the subscription's id.
    needed: BTreeMap<u64, BTreeSet<i32>>,
    /// The waits between a task that ended with an error and the next one.
    waits: Backoff,
    start_after: Option<Instant>,
    pub counts: Status,
}

/// The state of a task.
pub(super) struct Running<E> {
    pub generation: u64,
    pub window: Window<E>,
    /// The positions after all batches that were passed to the subscriptions.
    pub heads: BTreeMap<i32, Head>,
    /// The positions after all records that were read. Void records that were known before the start are not
    /// passed on.
    pub reached: BTreeMap<i32, i64>,
    pub halted: BTreeSet<i32>,
    /// The transient error after which it retries.
    pub failing: Option<Arc<ReadError>>,
    /// Counts the changes of `failing`.
    pub health_version: u64,
}

/// The shared reader's position in a partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub next: i64,
    pub hash: Hash,
}

impl<E, L, P> Inner<E, L, P> {
    pub fn new(log: L, limits: Limits) -> Self {
        Self {
            log,
            limits,
            state: Mutex::new(State {
                running: None,
                generations: 0,
                subscriptions: 0,
                needed: BTreeMap::new(),
                waits: Backoff::for_server(),
                start_after: None,
                counts: Status::default(),
            }),
            changed: Notify::new(),
            taken: Notify::new(),
            protocol: PhantomData,
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().expect("no holder panics")
    }

    /// Adds a subscription to these partitions, and returns its id. Ends a task that reads a partition which no
    /// subscription needs any more, as after a change of the assignment: the subscribers start another one.
    pub fn add_subscription(&self, partitions: BTreeSet<i32>) -> u64 {
        let mut state = self.state();
        state.subscriptions += 1;
        let id = state.subscriptions;
        state.needed.insert(id, partitions);
        let State {
            running, needed, ..
        } = &mut *state;
        let is_needed = |partition: &i32| needed.values().any(|of_one| of_one.contains(partition));
        let ended = running.take_if(|running| !running.heads.keys().all(is_needed));
        drop(state);
        if ended.is_some() {
            self.task_is_over();
        }
        id
    }

    /// Tells a task and its subscribers that its state was removed.
    fn task_is_over(&self) {
        self.taken.notify_waiters();
        self.changed.notify_waiters();
    }

    pub fn status(&self) -> Status {
        let state = self.state();
        let Some(running) = &state.running else {
            return state.counts;
        };
        Status {
            is_running: true,
            subscribers: running.window.subscribers(),
            commits: running.window.commits(),
            bytes: running.window.bytes(),
            ..state.counts
        }
    }
}

impl<E: ContextEvent, L: ReadLog, P: SharingProtocol> Inner<E, L, P> {
    /// Starts the task from these checkpoints, with a first subscription, unless [`State::start_at`] forbids it now.
    /// Replaces a task of fewer partitions, whose subscribers fall back and join this one.
    pub fn start(self: &Arc<Self>, starts: Vec<Checkpoint>, first_subscription: u64) {
        let mut state = self.state();
        let start_at = state.start_at(first_subscription);
        if start_at.is_none_or(|at| at > Instant::now()) {
            return;
        }
        state.generations += 1;
        let generation = state.generations;
        let mut window = Window::new(self.limits);
        window.move_cursor(first_subscription, window.end());
        let head = |start: &Checkpoint| Head {
            next: start.resume_offset(),
            hash: start.hash,
        };
        let replaced = state.running.replace(Running {
            generation,
            window,
            heads: starts
                .iter()
                .map(|start| (start.partition, head(start)))
                .collect(),
            reached: starts
                .iter()
                .map(|start| (start.partition, start.resume_offset()))
                .collect(),
            halted: BTreeSet::new(),
            failing: None,
            health_version: 0,
        });
        if replaced.is_some() {
            state.counts.replaced += 1;
        }
        drop(state);
        if replaced.is_some() {
            self.task_is_over();
        }
        tokio::spawn(self.clone().run(generation, starts));
    }

    /// Removes a subscription that ends.
    pub fn remove_subscription(&self, id: u64) {
        self.state().needed.remove(&id);
        self.forget(id);
    }

    /// Removes a subscription's cursor: it needs no more entries.
    pub fn forget(&self, subscription: u64) {
        let mut state = self.state();
        let Some(running) = &mut state.running else {
            return;
        };
        let dropped = running.window.remove_cursor(subscription);
        running.report_subscribers(E::CONTEXT.topic);
        drop(state);
        drop(dropped);
        self.taken.notify_waiters();
    }

    /// Reads until no subscription is left, or until a permanent error.
    async fn run(self: Arc<Self>, generation: u64, starts: Vec<Checkpoint>) {
        let topic = E::CONTEXT.topic;
        let _ending = Ending {
            inner: &self,
            generation,
        };
        let error = tokio::select! {
            biased;
            () = self.abandoned(generation) => return,
            error = self.read(generation, starts) => error,
        };
        tracing::warn!(topic, %error, "shared reader ended, its subscribers fall back to their own readers");
    }

    async fn read(&self, generation: u64, starts: Vec<Checkpoint>) -> ReadError {
        let role = format!("shared-{}", E::CONTEXT.topic);
        let mut waits = Backoff::for_server();
        let reader = loop {
            match Reader::<E, L, P>::open_with(&self.log, &role, starts.clone()).await {
                Ok(reader) => break reader,
                Err(error) if error.is_transient() => {
                    self.publish(generation, Step::Failing(Arc::new(error)));
                    tokio::time::sleep(waits.wait()).await;
                }
                Err(error) => return error,
            }
        };
        let mut follower = Follower::new(self.log.clone(), reader);
        let mut has_passed_starts = false;
        loop {
            self.may_read_on(generation).await;
            match follower.step().await {
                Ok(step) => self.publish(generation, step),
                Err(error) => return error,
            }
            if !has_passed_starts && let Some(position) = follower.position() {
                has_passed_starts = starts.iter().all(|start| {
                    let state = position.get(&start.partition);
                    state.is_none_or(|state| state.next_offset >= start.next_offset)
                });
                self.moved(generation, &position);
            }
        }
    }

    /// Returns once there is room in the window, or a subscriber waits. Never returns for a task that was replaced.
    async fn may_read_on(&self, generation: u64) {
        loop {
            let taken = self.taken.notified();
            let may = match self.state().running_of(generation) {
                Some(Running { window, .. }) => P::reads_on(window.is_full(), window.is_awaited()),
                None => false,
            };
            if may {
                return;
            }
            taken.await;
        }
    }

    /// Returns once no subscription is left, or the task was replaced.
    async fn abandoned(&self, generation: u64) {
        loop {
            let taken = self.taken.notified();
            {
                let mut state = self.state();
                let running = state.running_of(generation);
                match running.map(|running| running.window.subscribers()) {
                    None => return,
                    Some(0) => {
                        // Under the same lock, so that no new subscription counts on this task.
                        state.running = None;
                        return;
                    }
                    Some(_) => {}
                }
            }
            taken.await;
        }
    }

    /// Records the positions after reading records that are not passed to the subscriptions.
    fn moved(&self, generation: u64, position: &BTreeMap<i32, Checkpoint>) {
        if let Some(running) = self.state().running_of(generation) {
            for (partition, state) in position {
                running.reached.insert(*partition, state.next_offset);
            }
        }
        self.changed.notify_waiters();
    }

    /// Passes a task's step to the subscriptions, unless the task was replaced.
    pub fn publish(&self, generation: u64, step: Step<E>) {
        let mut dropped = Vec::new();
        let mut state = self.state();
        let State { running, waits, .. } = &mut *state;
        let own = |running: &&mut Running<E>| running.generation == generation;
        let Some(running) = running.as_mut().filter(own) else {
            return;
        };
        match step {
            Step::Batch(batch) => {
                running.set_failing(None);
                waits.reset();
                let Some(head) = running.heads.get_mut(&batch.partition) else {
                    return;
                };
                let (from, before) = (head.next, head.hash);
                head.next = batch.checkpoint.next_offset;
                head.hash = batch.checkpoint.hash;
                running.reached.insert(batch.partition, head.next);
                if P::keeps_batch(running.window.is_full()) {
                    let entry = Entry::Batch {
                        batch,
                        from,
                        before,
                    };
                    dropped = running.window.push(entry, P::drops_oldest());
                }
            }
            Step::Halted(partition, error) => {
                running.halted.insert(partition);
                if P::passes_halts_on() {
                    let entry = Entry::Halted { partition, error };
                    dropped = running.window.push(entry, P::drops_oldest());
                }
            }
            Step::Failing(error) => running.set_failing(Some(error)),
            Step::Recovered => running.set_failing(None),
            Step::Moved => return,
        }
        // Freeing commits takes time, so release the lock first.
        drop(state);
        drop(dropped);
        self.changed.notify_waiters();
    }
}

impl<E> State<E> {
    /// When a subscription may start the task, if its reader is near the end of the log. `None` while a task runs,
    /// unless that task reads fewer partitions, and all of them are the subscription's.
    pub fn start_at(&self, subscription: u64) -> Option<Instant> {
        let needed = self.needed.get(&subscription)?;
        let may_start = self.running.as_ref().is_none_or(|running| {
            let mut read = running.heads.keys();
            running.heads.len() < needed.len() && read.all(|partition| needed.contains(partition))
        });
        may_start.then(|| self.start_after.unwrap_or_else(Instant::now))
    }

    /// The state of a task; `None` if it has ended or was replaced.
    fn running_of(&mut self, generation: u64) -> Option<&mut Running<E>> {
        let own = |running: &&mut Running<E>| running.generation == generation;
        self.running.as_mut().filter(own)
    }
}

impl<E> Running<E> {
    /// Reports how many subscribers it keeps batches for.
    pub fn report_subscribers(&self, topic: &'static str) {
        #[expect(clippy::cast_precision_loss, reason = "a node has few readers")]
        metrics::gauge!(names::SHARED_SUBSCRIBERS, "topic" => topic)
            .set(self.window.subscribers() as f64);
    }

    fn set_failing(&mut self, error: Option<Arc<ReadError>>) {
        if self.failing.is_some() || error.is_some() {
            self.failing = error;
            self.health_version += 1;
        }
    }
}

/// When dropped, notifies the subscriptions that the task has ended, for any reason.
struct Ending<'a, E, L, P> {
    inner: &'a Inner<E, L, P>,
    generation: u64,
}

impl<E, L, P> Drop for Ending<'_, E, L, P> {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        let is_own = |running: &mut Running<E>| running.generation == self.generation;
        let running = state.running.take_if(is_own);
        if running.is_some() {
            let wait = state.waits.wait();
            state.start_after = Some(Instant::now() + wait);
        }
        drop(state);
        drop(running);
        self.inner.changed.notify_waiters();
    }
}
