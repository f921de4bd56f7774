//! One run of subscribers, from a seed to the verdict.

use super::{
    plan::{Pace, Plan},
    subscriber::Subscriber,
    writer,
};
use crate::{coverage::CoveragePoint, faulty_log::FaultyLog, paused_runtime, run::Run, sim::Sim};
use journal::{SharedReader, memory_log::MemoryLog, probe::Event, protocol::SharingProtocol};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle};

/// Within this time after the last fault, every subscriber that does not stall must have the whole log. It is
/// longer than all waits between attempts, silences and delays of slow subscribers.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(600);

/// The parts of a run.
struct Readings<P: SharingProtocol> {
    plan: Plan,
    sim: Arc<Sim>,
    log: FaultyLog,
    shared: Mutex<SharedReader<Event, FaultyLog, P>>,
    subscribers: Vec<Arc<Subscriber>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    release: watch::Sender<bool>,
}

/// Runs subscribers of a shared reader that follows the protocol `P`, with the faults of the seed.
pub(crate) fn run<P: SharingProtocol>(seed: u64, with_trace: bool) -> Run {
    paused_runtime::block_on(seed, simulate::<P>(seed, with_trace))
}

async fn simulate<P: SharingProtocol>(seed: u64, with_trace: bool) -> Run {
    let readings = Readings::<P>::new(seed, with_trace);
    writer::begin(&readings.log.log, &readings.plan);
    readings.start_process();
    for _ in 0..readings.plan.bursts {
        writer::write_burst(&readings.sim, &readings.log.log, &readings.plan).await;
        if readings.sim.fault(readings.plan.process_crash) {
            readings.crash_process();
        }
    }
    readings.sim.end_faults();
    writer::finish(&readings.log.log, &readings.plan);
    readings.check_all(|pace| pace != Pace::Stalls).await;
    readings.release.send_replace(true);
    readings.check_all(|_| true).await;
    readings.check_sharing().await;
    Run::of(seed, &readings.sim, readings.digest())
}

impl<P: SharingProtocol> Readings<P> {
    fn new(seed: u64, with_trace: bool) -> Arc<Self> {
        let sim = Arc::new(Sim::new(seed, with_trace));
        let plan = Plan::draw(&mut sim.rng());
        sim.note(|| format!("{plan:?}"));
        let log = FaultyLog {
            log: MemoryLog::new(plan.partitions),
            sim: sim.clone(),
        };
        let (release, released) = watch::channel(false);
        let subscribers = plan.paces.iter().enumerate().map(|(number, pace)| {
            let released = released.clone();
            Arc::new(Subscriber::new(number, *pace, &log, &plan, released))
        });
        Arc::new(Self {
            subscribers: subscribers.collect(),
            shared: Mutex::new(SharedReader::with_limits(log.clone(), plan.limits)),
            tasks: Mutex::default(),
            plan,
            sim,
            log,
            release,
        })
    }

    fn shared(&self) -> SharedReader<Event, FaultyLog, P> {
        self.shared.lock().expect("no holder panics").clone()
    }

    /// Starts all subscribers on a shared reader of their own.
    fn start_process(&self) {
        let shared = SharedReader::with_limits(self.log.clone(), self.plan.limits);
        *self.shared.lock().expect("no holder panics") = shared.clone();
        let subscribers = self.subscribers.iter().cloned();
        let tasks = subscribers.map(|one| tokio::spawn(one.run(shared.clone())));
        *self.tasks.lock().expect("no holder panics") = tasks.collect();
    }

    /// Kills the process, and starts it again.
    fn crash_process(&self) {
        self.sim.count(CoveragePoint::ReadersCrash);
        self.sim.note(|| "all subscribers crash".into());
        self.count_joins();
        for task in self.tasks.lock().expect("no holder panics").drain(..) {
            task.abort();
        }
        self.start_process();
    }

    /// Waits until the subscribers of these paces have the whole log.
    async fn check_all(&self, is_due: impl Fn(Pace) -> bool) {
        for subscriber in self.subscribers.iter().filter(|one| is_due(one.pace)) {
            let waited = tokio::time::timeout(CATCH_UP_TIMEOUT, async {
                loop {
                    let moved = subscriber.moved.notified();
                    if self.missing(subscriber).is_none() {
                        return;
                    }
                    moved.await;
                }
            });
            if waited.await.is_err() {
                let missing = self.missing(subscriber);
                self.sim
                    .violate(format!("{}: {missing:?}", subscriber.name));
            }
        }
    }

    /// The first difference between a subscriber and the log, in words.
    fn missing(&self, subscriber: &Subscriber) -> Option<String> {
        let (stored, seen) = (subscriber.stored(), subscriber.seen());
        for (partition, applied) in &stored.applied {
            let valid = self.log.log.valid(*partition);
            if *applied != valid {
                return Some(format!(
                    "partition {partition}: {} commits were applied, the log has {}",
                    applied.len(),
                    valid.len()
                ));
            }
            let is_altered = self.plan.altered == Some(*partition);
            if is_altered != seen.halted.contains_key(partition) {
                return Some(format!(
                    "partition {partition} is altered: {is_altered}; halted: {:?}",
                    seen.halted
                ));
            }
        }
        seen.is_failing.then(|| "it reports an outage".into())
    }

    /// Waits until one stream feeds all subscribers; they must have the same reason for a halt. A subscriber whose
    /// partitions are all halted does not join again when its shared reader is replaced: it needs no reader.
    async fn check_sharing(&self) {
        let is_shared = || {
            let status = self.shared().status();
            let reading = self.subscribers.iter().zip(&self.plan.shares);
            let reading = reading.filter(|(one, share)| one.seen().halted.len() < share.len());
            let expected = reading.count()..=self.subscribers.len();
            expected.contains(&status.subscribers) && self.log.log.open_streams() == 1
        };
        let shared = async {
            while !is_shared() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let status = || self.shared().status();
        if tokio::time::timeout(CATCH_UP_TIMEOUT, shared)
            .await
            .is_err()
        {
            let streams = self.log.log.open_streams();
            self.sim
                .violate(format!("{streams} streams, {:?}", status()));
        }
        if status().unconnected > 0 {
            self.sim
                .violate(format!("batches did not connect: {:?}", status()));
        }
        self.count_joins();
        let halted = self.subscribers.iter().map(|one| one.seen().halted.clone());
        let mut reasons = BTreeMap::new();
        for (partition, reason) in halted.flatten() {
            let first = reasons.entry(partition).or_insert_with(|| reason.clone());
            if *first != reason {
                self.sim.violate("the reasons for a halt differ".into());
            }
        }
    }

    fn count_joins(&self) {
        let status = self.shared().status();
        for _ in 0..status.joined {
            self.sim.count(CoveragePoint::SubscriberJoined);
        }
        for _ in 0..status.lagged {
            self.sim.count(CoveragePoint::SubscriberLagged);
        }
        for _ in 0..status.replaced {
            self.sim.count(CoveragePoint::ReaderReplaced);
        }
    }

    fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for subscriber in &self.subscribers {
            hasher.update(format!("{:?}", subscriber.stored()).as_bytes());
        }
        hasher.update(format!("{:?}", self.shared().status()).as_bytes());
        hasher.update(&self.sim.now_ms().to_be_bytes());
        hasher.finalize().to_hex().to_string()
    }
}
