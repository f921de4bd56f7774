//! What the parts of a run share: chance, time, and the book of what happened.

use super::{
    dice::Dice,
    plan::Plan,
    tally::{Happening, Tally},
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

/// When every run begins, in microseconds since 1970: one point in time is as good as another.
const BEGINNING_US: i64 = 1_767_225_600_000_000;
/// How much more often appends fail in a storm.
const STORM_FACTOR: u64 = 8;

/// What the parts of a run share.
pub(super) struct World {
    pub plan: Plan,
    started: Instant,
    dice: Mutex<Dice>,
    tally: Mutex<Tally>,
    violations: Mutex<Vec<String>>,
    trace: Option<Mutex<Vec<String>>>,
    leap_us: AtomicI64,
    calm: AtomicBool,
    storm_until_ms: AtomicU64,
}

impl World {
    pub fn new(seed: u64, with_trace: bool) -> Self {
        let mut dice = Dice::new(seed);
        Self {
            plan: Plan::draw(&mut dice),
            started: Instant::now(),
            dice: Mutex::new(dice),
            tally: Mutex::default(),
            violations: Mutex::default(),
            trace: with_trace.then(Mutex::default),
            leap_us: AtomicI64::new(0),
            calm: AtomicBool::new(false),
            storm_until_ms: AtomicU64::new(0),
        }
    }

    /// All chance.
    pub fn dice(&self) -> MutexGuard<'_, Dice> {
        self.dice.lock().expect("no holder panics")
    }

    /// Simulated time since the run began, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).expect("runs are short")
    }

    /// When [`World::now_ms`] will be so.
    pub fn instant(&self, at_ms: u64) -> Instant {
        self.started + Duration::from_millis(at_ms)
    }

    /// What a good clock shows.
    pub fn wall(&self) -> Timestamp {
        let elapsed = i64::try_from(self.started.elapsed().as_micros()).expect("runs are short");
        Timestamp(BEGINNING_US + elapsed + self.leap_us.load(Ordering::Relaxed))
    }

    /// How long the run has lasted by a clock that nobody sets.
    pub fn uptime(&self) -> Duration {
        let leaps_us = u64::try_from(self.leap_us.load(Ordering::Relaxed)).unwrap_or(0);
        self.started.elapsed() + Duration::from_micros(leaps_us)
    }

    /// Time passes, for everybody, in which nothing happens.
    pub fn leap(&self, us: i64) {
        self.leap_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Whether a fault happens now; none does once the run is calm.
    pub fn fault(&self, permille: u64) -> bool {
        !self.is_calm() && self.dice().chance(permille)
    }

    /// How often appends fail, in thousandths, where it is `permille` in quiet times.
    pub fn stormy(&self, permille: u64) -> u64 {
        match self.now_ms() < self.storm_until_ms.load(Ordering::Relaxed) {
            true => permille * STORM_FACTOR,
            false => permille,
        }
    }

    pub fn storm_until(&self, until_ms: u64) {
        self.storm_until_ms.store(until_ms, Ordering::Relaxed);
    }

    /// No more faults.
    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    pub fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
        self.note(|| "faults are over".into());
    }

    pub fn count(&self, happening: Happening) {
        let mut tally = self.tally.lock().expect("no holder panics");
        tally.count(happening, 1);
    }

    /// Adds what was counted elsewhere.
    pub fn add(&self, tally: &Tally) {
        self.tally.lock().expect("no holder panics").add(tally);
    }

    /// Writes a line of the trace, if there is one.
    pub fn note(&self, text: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            let now_ms = self.now_ms();
            let line = format!("{:>4}.{:03}  {}", now_ms / 1_000, now_ms % 1_000, text());
            trace.lock().expect("no holder panics").push(line);
        }
    }

    /// Something happened that never may.
    pub fn violate(&self, text: String) {
        self.note(|| format!("VIOLATION: {text}"));
        self.violations.lock().expect("no holder panics").push(text);
    }

    /// What never may happen and did, how often what happened, and the trace.
    pub fn close(&self) -> (Vec<String>, Tally, Vec<String>) {
        let trace = self.trace.as_ref();
        (
            std::mem::take(&mut *self.violations.lock().expect("no holder panics")),
            std::mem::take(&mut *self.tally.lock().expect("no holder panics")),
            trace.map_or_else(Vec::new, |trace| {
                std::mem::take(&mut *trace.lock().expect("no holder panics"))
            }),
        )
    }
}
