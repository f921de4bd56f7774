//! A subscriber: applies batches, stores its checkpoint with them, crashes, and begins again from there.

use super::plan::{Pace, Plan};
use crate::{
    coverage::CoveragePoint,
    faulty_log::{FaultyLog, RECORDS_AT_ONCE_MAX},
    sim::Sim,
};
use journal::{
    Batch, Checkpoint, SharedReader, Update,
    probe::Event,
    protocol::SharingProtocol,
    shared_reader::{Limits, Status},
};
use schemas::ContextEvent;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};

/// Longest time until a subscriber that crashed runs again.
const DOWN_MS_MAX: u64 = 3_000;
/// Rate of pauses of a partition, in thousandths of batches.
const PAUSE_PERMILLE: u64 = 10;
/// Longest pause of a partition.
const PAUSE_MS_MAX: u64 = 5_000;
/// Rate of restarts from a checkpoint before the last one, as from a restored database, in thousandths.
const RESTORED_PERMILLE: u64 = 200;

/// Upper bound on a record's size in the log, in bytes.
const RECORD_BYTES_MAX: usize = 1_000;

/// A subscriber's database.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub checkpoints: BTreeMap<i32, Checkpoint>,
    /// Offsets of the commits that were applied.
    pub applied: BTreeMap<i32, Vec<i64>>,
}

/// A subscriber, whose database outlives it.
pub(super) struct Subscriber {
    pub name: String,
    pub pace: Pace,
    sim: Arc<Sim>,
    log: FaultyLog,
    crash_permille: u64,
    limits: Limits,
    stored: Mutex<Stored>,
    /// An earlier state of the database.
    backup: Mutex<Stored>,
    seen: Mutex<Progress>,
    /// The subscriber has applied a batch, or its health has changed.
    pub moved: Notify,
    /// Ends a stall.
    released: watch::Receiver<bool>,
}

/// The reason why a subscription ends.
enum Ended {
    Crashed,
    /// The pause of a partition is over.
    Resumes,
}

/// The updates of its current subscription, except for the batches.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    pub halted: BTreeMap<i32, String>,
    pub is_failing: bool,
}

impl Subscriber {
    pub fn new(
        number: usize,
        pace: Pace,
        log: &FaultyLog,
        plan: &Plan,
        released: watch::Receiver<bool>,
    ) -> Self {
        let start = |partition| {
            let start = Checkpoint::start(Event::CONTEXT.topic, partition);
            (partition, start)
        };
        let share = &plan.shares[number];
        if share.len() < usize::try_from(plan.partitions).expect("a few") {
            log.sim.count(CoveragePoint::SubscriberOfShare);
        }
        let stored = Stored {
            checkpoints: share.iter().copied().map(start).collect(),
            applied: share
                .iter()
                .map(|partition| (*partition, Vec::new()))
                .collect(),
        };
        Self {
            name: format!("subscriber {number}"),
            pace,
            sim: log.sim.clone(),
            log: log.clone(),
            crash_permille: plan.crash,
            limits: plan.limits,
            backup: Mutex::new(stored.clone()),
            stored: Mutex::new(stored),
            seen: Mutex::default(),
            moved: Notify::new(),
            released,
        }
    }

    pub fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().expect("no holder panics")
    }

    pub fn seen(&self) -> MutexGuard<'_, Progress> {
        self.seen.lock().expect("no holder panics")
    }

    /// Runs until it is aborted.
    pub async fn run<P: SharingProtocol>(
        self: Arc<Self>,
        shared: SharedReader<Event, FaultyLog, P>,
    ) {
        loop {
            match self.subscribe(&shared).await {
                Ended::Resumes => continue,
                Ended::Crashed => {}
            }
            self.sim.count(CoveragePoint::SubscriberCrash);
            self.sim.note(|| format!("{} crashed", self.name));
            let down_ms = self.sim.rng().between(0, DOWN_MS_MAX);
            tokio::time::sleep(Duration::from_millis(down_ms)).await;
            if self.sim.fault(RESTORED_PERMILLE) {
                self.sim.count(CoveragePoint::SubscriberRestored);
                let backup = self.backup.lock().expect("no holder panics").clone();
                *self.stored() = backup;
            }
        }
    }

    /// Applies updates until it crashes, or until it must subscribe again to read a paused partition.
    async fn subscribe<P: SharingProtocol>(
        &self,
        shared: &SharedReader<Event, FaultyLog, P>,
    ) -> Ended {
        *self.seen() = Progress::default();
        let starts = self.stored().checkpoints.values().cloned().collect();
        let mut subscription = shared.subscribe(&self.name, starts);
        // The paused partition, and the end of the pause.
        let mut paused: Option<(i32, Instant)> = None;
        loop {
            let next = subscription.next();
            let update = match paused {
                Some((_, until)) => match timeout_at(until, next).await {
                    Ok(update) => update,
                    Err(_) => return Ended::Resumes,
                },
                None => next.await,
            };
            self.check_memory(shared.status());
            match update {
                Ok(Update::Batch(batch)) => {
                    if paused.is_some_and(|(partition, _)| partition == batch.partition) {
                        self.violate(format!(
                            "a batch of the paused partition {}",
                            batch.partition
                        ));
                    }
                    self.seen().is_failing = false;
                    self.work().await;
                    if self.sim.fault(self.crash_permille) {
                        return Ended::Crashed;
                    }
                    self.apply(&batch);
                    if self.sim.fault(self.crash_permille) {
                        return Ended::Crashed;
                    }
                    if paused.is_none() && self.sim.fault(PAUSE_PERMILLE) {
                        let (partition, until) = self.draw_pause();
                        subscription.pause(partition);
                        paused = Some((partition, until));
                    }
                }
                Ok(Update::Halted {
                    partition, error, ..
                }) => {
                    self.sim.count(CoveragePoint::SubscriberHalted);
                    let before = self.seen().halted.insert(partition, error.to_string());
                    if before.is_some() {
                        self.violate(format!("partition {partition} was halted twice"));
                    }
                }
                Ok(Update::Failing(_)) => self.seen().is_failing = true,
                Ok(Update::Recovered) => self.seen().is_failing = false,
                Err(error) => {
                    self.violate(format!("it can't read: {error}"));
                    return Ended::Crashed;
                }
            }
            self.moved.notify_waiters();
        }
    }

    /// A partition to pause, and the end of the pause.
    fn draw_pause(&self) -> (i32, Instant) {
        self.sim.count(CoveragePoint::SubscriberPaused);
        let partitions: Vec<i32> = self.stored().checkpoints.keys().copied().collect();
        let partition = partitions[self.sim.rng().index(partitions.len())];
        let ms = self.sim.rng().between(1, PAUSE_MS_MAX);
        self.sim
            .note(|| format!("{} pauses {partition} for {ms} ms", self.name));
        (partition, Instant::now() + Duration::from_millis(ms))
    }

    /// The time that applying takes.
    async fn work(&self) {
        let ms = match self.pace {
            Pace::Quick => 0,
            Pace::Uneven => {
                let mut rng = self.sim.rng();
                match rng.chance(200) {
                    true => rng.between(0, 300),
                    false => 0,
                }
            }
            Pace::Slow => self.sim.rng().between(50, 400),
            Pace::Stalls => {
                let mut released = self.released.clone();
                if !*released.borrow() && self.sim.rng().chance(300) {
                    self.sim.count(CoveragePoint::SubscriberStalled);
                    self.sim.note(|| format!("{} stalls", self.name));
                    // The sender lives as long as the run.
                    let _ = released.wait_for(|is_released| *is_released).await;
                }
                0
            }
        };
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// Applies a batch, and compares it with the log.
    fn apply(&self, batch: &Batch<Event>) {
        let partition = batch.partition;
        let valid = self.log.log.valid(partition);
        let mut stored = self.stored();
        let next_offset = stored.checkpoints[&partition].next_offset;
        if next_offset != batch.from {
            self.violate(format!(
                "partition {partition}: a batch from {} at {next_offset}",
                batch.from
            ));
        }
        stored
            .checkpoints
            .insert(partition, batch.checkpoint.clone());
        let applied = stored.applied.entry(partition).or_default();
        for commit in &batch.commits {
            let expected = valid.get(applied.len()).copied();
            if expected != Some(commit.offset) {
                self.violate(format!(
                    "partition {partition}: @{} was applied where the log has {expected:?}",
                    commit.offset
                ));
            }
            applied.push(commit.offset);
        }
        let missing = valid.get(applied.len()).copied();
        if missing.is_some_and(|offset| offset < batch.checkpoint.next_offset) {
            self.violate(format!(
                "partition {partition}: its checkpoint is at {} without {missing:?}",
                batch.checkpoint.next_offset
            ));
        }
        self.sim.note(|| {
            format!(
                "{} has {partition}@{}",
                self.name, batch.checkpoint.next_offset
            )
        });
        if self.sim.rng().chance(100) {
            *self.backup.lock().expect("no holder panics") = stored.clone();
        }
    }

    /// Compares what the shared reader holds with its bounds.
    fn check_memory(&self, status: Status) {
        let batch = usize::try_from(RECORDS_AT_ONCE_MAX).expect("a few");
        let commits_max = self.limits.commits + batch;
        let bytes_max = self.limits.bytes + batch * RECORD_BYTES_MAX;
        if status.commits > commits_max || status.bytes > bytes_max {
            self.violate(format!("{:?} is exceeded: {status:?}", self.limits));
        }
    }

    fn violate(&self, text: String) {
        self.sim.violate(format!("{}: {text}", self.name));
    }
}
