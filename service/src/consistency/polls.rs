//! Reads the stored positions of a view while requests wait for it: one read at a time for all of them.
//!
//! If the reader of this process advances the view, its progress ends the waits without a read. So the first read comes
//! early only if a stored position ended the last wait.

use crate::progress::Progress;
use backoff::Backoff;
use futures_util::future::BoxFuture;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

/// Time from a wait's start to its first read, if another process advances the view.
pub(super) const INTERVAL_MIN: Duration = Duration::from_millis(5);
/// Longest time between two reads; the time to the first read, if this process advances the view.
pub(super) const INTERVAL_MAX: Duration = Duration::from_millis(100);
/// Longest time for one read.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// A stored position: topic, partition and the next offset.
pub type StoredPosition = (String, i32, i64);
/// Reads the stored positions of a view in some topics. The error is a text for the log.
pub type ReadStored = Arc<
    dyn Fn(Vec<String>) -> BoxFuture<'static, Result<Vec<StoredPosition>, String>> + Send + Sync,
>;

/// The reads of one view.
pub(super) struct Polls {
    reader: &'static str,
    progress: Progress,
    read: ReadStored,
    state: Mutex<State>,
    /// Notified when a request begins to wait.
    arrived: Notify,
    /// Whether a stored position ended the last wait.
    is_advanced_elsewhere: AtomicBool,
}

#[derive(Default)]
struct State {
    waits: usize,
    is_running: bool,
    /// The last positions that were read, by topic and partition.
    stored: BTreeMap<(String, i32), i64>,
}

/// A wait, for which positions are read until it is dropped.
pub(super) struct PolledWait<'a>(&'a Polls);

impl Polls {
    pub fn new(reader: &'static str, progress: Progress, read: ReadStored) -> Self {
        Self {
            reader,
            progress,
            read,
            state: Mutex::default(),
            arrived: Notify::new(),
            is_advanced_elsewhere: AtomicBool::new(false),
        }
    }

    /// Begins to wait. The first of several waits starts the reads.
    pub fn wait(self: &Arc<Self>) -> PolledWait<'_> {
        let mut state = self.lock();
        state.waits += 1;
        let was_running = std::mem::replace(&mut state.is_running, true);
        drop(state);
        if was_running {
            self.arrived.notify_one();
        } else {
            tokio::spawn(self.clone().run());
        }
        PolledWait(self)
    }

    /// Records whether another process advanced the view to the position that ended a wait.
    pub fn ended(&self, is_advanced_elsewhere: bool) {
        self.is_advanced_elsewhere
            .store(is_advanced_elsewhere, Ordering::Relaxed);
    }

    /// The last stored position that was read.
    pub fn stored(&self, partition: &(String, i32)) -> Option<i64> {
        self.lock().stored.get(partition).copied()
    }

    async fn run(self: Arc<Self>) {
        let mut is_failing = false;
        let mut intervals = self.intervals();
        let mut next = Instant::now() + intervals.wait();
        loop {
            tokio::select! {
                biased;
                () = sleep_until(next) => {},
                () = self.arrived.notified() => {
                    intervals = self.intervals();
                    next = next.min(Instant::now() + intervals.wait());
                    continue;
                }
            }
            if self.ends() {
                return;
            }
            match timeout(READ_TIMEOUT, (self.read)(self.topics())).await {
                Ok(Ok(positions)) => {
                    is_failing = false;
                    self.take(positions);
                }
                Ok(Err(reason)) => self.failed(&mut is_failing, &reason),
                Err(_) => self.failed(&mut is_failing, "no answer in time"),
            }
            next = Instant::now() + intervals.wait();
        }
    }

    /// The times between reads, after a wait has begun.
    fn intervals(&self) -> Backoff {
        let first = match self.is_advanced_elsewhere.load(Ordering::Relaxed) {
            true => INTERVAL_MIN,
            false => INTERVAL_MAX,
        };
        Backoff::doubling(first, INTERVAL_MAX)
    }

    /// Ends the reads if no request waits. Returns whether they have ended.
    fn ends(&self) -> bool {
        let mut state = self.lock();
        state.is_running = state.waits > 0;
        !state.is_running
    }

    /// The topics that the view reads.
    fn topics(&self) -> Vec<String> {
        let known = self.progress.partitions(self.reader).into_iter();
        let mut topics: Vec<String> = known.map(|(topic, _)| topic).collect();
        topics.dedup();
        topics
    }

    fn take(&self, positions: Vec<StoredPosition>) {
        let mut stored = BTreeMap::new();
        for (topic, partition, next_offset) in positions {
            self.progress
                .reached_elsewhere(self.reader, &topic, partition, next_offset);
            stored.insert((topic, partition), next_offset);
        }
        self.lock().stored = stored;
    }

    /// Handles a failed read. The waits continue; a query whose wait times out is answered as stale. Only the first of
    /// several failures is logged.
    fn failed(&self, is_failing: &mut bool, reason: &str) {
        let view = self.reader;
        if !std::mem::replace(is_failing, true) {
            tracing::warn!(view, reason, "failed to read the stored position of a view");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

impl Drop for PolledWait<'_> {
    fn drop(&mut self) {
        self.0.lock().waits -= 1;
    }
}
