//! The simulation's shared state: randomness, time, coverage and trace.

use crate::{
    coverage::{Coverage, CoveragePoint},
    plan::Plan,
    rng::Rng,
};
use schemas::Timestamp;
use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// When every run starts, in microseconds since 1970; the value does not matter.
const BEGINNING_US: i64 = 1_767_225_600_000_000;
/// How much more often appends fail in a storm.
const STORM_FACTOR: u64 = 8;

/// The state that the parts of a run share.
pub(super) struct Sim {
    pub plan: Plan,
    started: Instant,
    rng: Mutex<Rng>,
    coverage: Mutex<Coverage>,
    violations: Mutex<Vec<String>>,
    trace: Option<Mutex<Vec<String>>>,
    skipped_us: AtomicI64,
    faults_over: AtomicBool,
    storm_until_ms: AtomicU64,
}

impl Sim {
    pub fn new(seed: u64, with_trace: bool) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            plan: Plan::draw(&mut rng),
            started: Instant::now(),
            rng: Mutex::new(rng),
            coverage: Mutex::default(),
            violations: Mutex::default(),
            trace: with_trace.then(Mutex::default),
            skipped_us: AtomicI64::new(0),
            faults_over: AtomicBool::new(false),
            storm_until_ms: AtomicU64::new(0),
        }
    }

    /// The run's only source of randomness.
    pub fn rng(&self) -> MutexGuard<'_, Rng> {
        self.rng.lock().expect("no holder panics")
    }

    /// Simulated time since the start of the run, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).expect("runs are short")
    }

    /// The instant at which [`Sim::now_ms`] will be `at_ms`.
    pub fn instant(&self, at_ms: u64) -> Instant {
        self.started + Duration::from_millis(at_ms)
    }

    /// The reading of a right clock.
    pub fn wall(&self) -> Timestamp {
        let elapsed = i64::try_from(self.started.elapsed().as_micros()).expect("runs are short");
        Timestamp(BEGINNING_US + elapsed + self.skipped_us.load(Ordering::Relaxed))
    }

    /// The duration of the run by a monotonic clock.
    pub fn uptime(&self) -> Duration {
        let skipped_us = u64::try_from(self.skipped_us.load(Ordering::Relaxed)).unwrap_or(0);
        self.started.elapsed() + Duration::from_micros(skipped_us)
    }

    /// Lets time pass for all nodes at once, without events.
    pub fn skip_time(&self, us: i64) {
        self.skipped_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Whether a fault happens now; always `false` once faults are over.
    pub fn fault(&self, permille: u64) -> bool {
        !self.are_faults_over() && self.rng().chance(permille)
    }

    /// The rate of append faults in thousandths, where `permille` is the rate outside storms.
    pub fn stormy(&self, permille: u64) -> u64 {
        match self.now_ms() < self.storm_until_ms.load(Ordering::Relaxed) {
            true => permille * STORM_FACTOR,
            false => permille,
        }
    }

    pub fn storm_until(&self, until_ms: u64) {
        self.storm_until_ms.store(until_ms, Ordering::Relaxed);
    }

    /// Whether faults are over.
    pub fn are_faults_over(&self) -> bool {
        self.faults_over.load(Ordering::Relaxed)
    }

    /// Ends all faults.
    pub fn end_faults(&self) {
        self.faults_over.store(true, Ordering::Relaxed);
        self.note(|| "faults are over".into());
    }

    pub fn count(&self, point: CoveragePoint) {
        let mut coverage = self.coverage.lock().expect("no holder panics");
        coverage.count(point, 1);
    }

    /// Adds the coverage that another part counted.
    pub fn add(&self, coverage: &Coverage) {
        self.coverage
            .lock()
            .expect("no holder panics")
            .add(coverage);
    }

    /// Writes a line of the trace, if there is one.
    pub fn note(&self, text: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            let now_ms = self.now_ms();
            let line = format!("{:>4}.{:03}  {}", now_ms / 1_000, now_ms % 1_000, text());
            trace.lock().expect("no holder panics").push(line);
        }
    }

    /// Records a violation of an invariant.
    pub fn violate(&self, text: String) {
        self.note(|| format!("VIOLATION: {text}"));
        self.violations.lock().expect("no holder panics").push(text);
    }

    /// The violations, the coverage and the trace.
    pub fn close(&self) -> (Vec<String>, Coverage, Vec<String>) {
        let trace = self.trace.as_ref();
        (
            std::mem::take(&mut *self.violations.lock().expect("no holder panics")),
            std::mem::take(&mut *self.coverage.lock().expect("no holder panics")),
            trace.map_or_else(Vec::new, |trace| {
                std::mem::take(&mut *trace.lock().expect("no holder panics"))
            }),
        )
    }
}
