//! The CQL store of a run: replicas of the rows, and the checkpoints.

use super::{
    plan::Plan,
    protocol::{REPLICAS, WriteProtocol},
    replica::{Cell, Replica, Taken, Versioned, newest},
    states::States,
};
use crate::{coverage::CoveragePoint, sim::Sim};
use journal::{Checkpoint, probe::Event};
use schemas::ContextEvent;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Notify, mpsc};

/// Longest time until a late write comes.
pub(super) const LATE_MS_MAX: u64 = 60_000;
/// Time after which the driver gives up a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// No answer: the request may have been executed, or may be executed later.
#[derive(Debug)]
pub(super) struct NoAnswer;

/// The store.
pub(super) struct SimStore {
    pub sim: Arc<Sim>,
    pub plan: Plan,
    pub states: States,
    replicas: [Mutex<Replica>; REPLICAS],
    checkpoints: Mutex<BTreeMap<i32, Checkpoint>>,
    writes: AtomicI64,
    /// A checkpoint was moved.
    pub moved: Notify,
}

impl SimStore {
    pub fn new(sim: Arc<Sim>, plan: Plan) -> Self {
        let start = |partition| {
            let start = Checkpoint::start(Event::CONTEXT.topic, partition);
            (partition, start)
        };
        Self {
            sim,
            checkpoints: Mutex::new((0..plan.partitions).map(start).collect()),
            plan,
            states: States::default(),
            replicas: Default::default(),
            writes: AtomicI64::new(0),
            moved: Notify::new(),
        }
    }

    /// The stored checkpoints.
    pub fn checkpoints(&self) -> MutexGuard<'_, BTreeMap<i32, Checkpoint>> {
        self.checkpoints.lock().expect("no holder panics")
    }

    /// The number of this write, for a mutation that orders writes by it.
    pub fn next_arrival(&self) -> i64 {
        self.writes.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes a value to all replicas, and waits for the acknowledgements. The write goes on if the caller ends.
    pub async fn write<P: WriteProtocol, V: Versioned + Sync>(
        self: &Arc<Self>,
        value: V,
    ) -> Result<(), NoAnswer> {
        let (acknowledge, mut acknowledged) = mpsc::channel(2 * REPLICAS);
        let is_repeated = self.sim.fault(self.plan.repeated_write);
        if is_repeated {
            self.sim.count(CoveragePoint::WriteRepeated);
        }
        for number in (0..REPLICAS).chain((0..REPLICAS).filter(|_| is_repeated)) {
            let Some(delay) = self.delay_of_write() else {
                continue;
            };
            let (store, value, acknowledge) = (self.clone(), value.clone(), acknowledge.clone());
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                store.take(number, &value);
                // The writer may have ended.
                let _ = acknowledge.send(number).await;
            });
        }
        let acknowledgements = async {
            let mut replicas = BTreeSet::new();
            while replicas.len() < P::acknowledgements() {
                match acknowledged.recv().await {
                    Some(number) => replicas.insert(number),
                    None => std::future::pending().await,
                };
            }
        };
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, acknowledgements);
        answer.await.map_err(|_| NoAnswer)
    }

    /// Reads the newest value that some replicas have.
    pub async fn read<P: WriteProtocol, V: Versioned>(
        &self,
        key: &str,
    ) -> Result<Option<V>, NoAnswer> {
        self.delay().await;
        let mut chosen: Vec<usize> = (0..REPLICAS).collect();
        while chosen.len() > P::replicas_per_read() {
            let index = self.sim.rng().index(chosen.len());
            chosen.swap_remove(index);
        }
        let mut answers = Vec::new();
        for number in &chosen {
            self.delay().await;
            answers.push(self.replica(*number).value::<V>(key));
        }
        let newest = newest(answers.iter().cloned());
        for (number, answer) in chosen.into_iter().zip(answers) {
            if let Some(newest) = &newest
                && answer.as_ref() != Some(newest)
                && P::repairs_reads()
            {
                self.delay().await;
                self.sim.count(CoveragePoint::ReadRepaired);
                self.take(number, newest);
            }
        }
        match self.sim.fault(self.plan.failed_request) {
            true => {
                self.sim.count(CoveragePoint::RequestFailed);
                Err(NoAnswer)
            }
            false => Ok(newest),
        }
    }

    /// Moves a checkpoint by a lightweight transaction; `false` if it is no longer at `from`.
    pub async fn move_checkpoint<P: WriteProtocol>(
        &self,
        from: i64,
        checkpoint: &Checkpoint,
    ) -> Result<bool, NoAnswer> {
        self.delay().await;
        self.fail_sometimes()?;
        let (partition, next_offset) = (checkpoint.partition, checkpoint.next_offset);
        {
            let mut checkpoints = self.checkpoints();
            let stored = checkpoints.get_mut(&partition).expect("it was inserted");
            if P::compares_checkpoint() && stored.next_offset != from {
                return Ok(false);
            }
            if stored.next_offset > next_offset {
                self.sim.violate(format!(
                    "the checkpoint of partition {partition} was moved back from {} to {next_offset}",
                    stored.next_offset
                ));
            }
            *stored = checkpoint.clone();
        }
        self.sim
            .note(|| format!("checkpoint {partition}@{next_offset}"));
        self.check_applied(partition, next_offset);
        self.moved.notify_waiters();
        self.delay().await;
        self.fail_sometimes()?;
        Ok(true)
    }

    /// Checks that every quorum has the last rows.
    pub fn check_last(&self) {
        for key in (0..self.plan.partitions).flat_map(|partition| self.states.keys(partition)) {
            for cell in self.quorums(&key) {
                if let Err(violation) = self.states.check_last(&key, cell.as_ref()) {
                    self.sim.violate(violation);
                }
            }
        }
    }

    /// The newest row of every counter at every replica, in words.
    pub fn digest(&self) -> String {
        let keys = (0..self.plan.partitions).flat_map(|partition| self.states.keys(partition));
        let of_replicas = |key: String| {
            let replicas = (0..REPLICAS).map(|number| self.replica(number).value::<Cell>(&key));
            format!("{:?}", replicas.collect::<Vec<_>>())
        };
        keys.map(of_replicas).collect()
    }

    /// Checks that every quorum has the rows that a checkpoint covers.
    fn check_applied(&self, partition: i32, next_offset: i64) {
        for key in self.states.keys(partition) {
            for cell in self.quorums(&key) {
                if let Err(violation) = self.states.check_applied(&key, cell.as_ref(), next_offset)
                {
                    self.sim.violate(violation);
                }
            }
        }
    }

    /// A counter's row, as each quorum has it.
    fn quorums(&self, key: &str) -> Vec<Option<Cell>> {
        let without = |absent: usize| {
            let present = (0..REPLICAS).filter(|number| *number != absent);
            newest(present.map(|number| self.replica(number).value::<Cell>(key)))
        };
        (0..REPLICAS).map(without).collect()
    }

    fn take<V: Versioned>(&self, number: usize, value: &V) {
        let taken = self.replica(number).take(value);
        self.sim
            .note(|| format!("replica {number}: {value:?}: {taken:?}"));
        match taken {
            Ok(Taken::Stored) => self.check_stored(number, value.key()),
            Ok(Taken::Outdated) => self.sim.count(CoveragePoint::WriteOutdated),
            Ok(Taken::Repeated) => {}
            Err(violation) => self.sim.violate(violation),
        }
    }

    fn check_stored(&self, number: usize, key: &str) {
        let row = self
            .replica(number)
            .value::<Cell>(key)
            .and_then(|cell| cell.row);
        if let Some(Err(violation)) = row.map(|row| self.states.check_row(&row)) {
            self.sim.violate(violation);
        }
    }

    fn replica(&self, number: usize) -> MutexGuard<'_, Replica> {
        self.replicas[number].lock().expect("no holder panics")
    }

    /// The time until a replica takes a write; `None` if the write is lost.
    fn delay_of_write(&self) -> Option<Duration> {
        if self.sim.fault(self.plan.lost_write) {
            self.sim.count(CoveragePoint::WriteLost);
            return None;
        }
        let mut delay_ms = self.delay_ms();
        if self.sim.fault(self.plan.late_write) {
            self.sim.count(CoveragePoint::WriteLate);
            delay_ms += self.sim.rng().between(0, LATE_MS_MAX);
        }
        Some(Duration::from_millis(delay_ms))
    }

    fn fail_sometimes(&self) -> Result<(), NoAnswer> {
        match self.sim.fault(self.plan.failed_request) {
            true => {
                self.sim.count(CoveragePoint::RequestFailed);
                Err(NoAnswer)
            }
            false => Ok(()),
        }
    }

    async fn delay(&self) {
        tokio::time::sleep(Duration::from_millis(self.delay_ms())).await;
    }

    fn delay_ms(&self) -> u64 {
        self.sim.rng().between(0, self.sim.plan.delay_ms_max)
    }
}
