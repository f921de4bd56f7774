//! The faults that nodes suffer during a run, and their repair at the end.

use crate::{
    broker::Broker,
    coverage::CoveragePoint,
    node::Node,
    plan::{Action, StoreFault},
    sim::Sim,
};
use journal::protocol::OwnerProtocol;
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

/// Largest offset of a clock that has no consequences.
const CLOCK_OFFSET_US_MAX: u64 = 3_000_000;
/// The offset of a wrong clock.
pub(super) const WRONG_CLOCK_US: i64 = 13_000_000;
/// Longest time that a node is down.
const DOWN_MS_MAX: u64 = 5_000;
/// Longest time that a node is paused: longer than the producer's time-out.
const PAUSE_MS_MAX: u64 = 15_000;
/// Longest time that the broker is unavailable, or unreachable for one node.
const AWAY_MS_MAX: u64 = 9_000;
/// Longest duration of a store fault or a storm.
const FAULT_MS_MAX: u64 = 6_000;
/// The time after which answers expire, in microseconds of log time.
const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

/// The end of a fault.
#[derive(Debug, Clone, Copy)]
enum Repair {
    Start(usize),
    Resume(usize),
    RightClock(usize),
}

/// Injects faults and repairs them.
pub(super) struct FaultInjector<P> {
    sim: Arc<Sim>,
    broker: Arc<Broker>,
    nodes: Arc<Vec<Node<P>>>,
    /// By time, then in the order in which they were planned.
    repairs: BTreeMap<(u64, u64), Repair>,
    planned: u64,
}

impl<P: OwnerProtocol> FaultInjector<P> {
    pub fn new(sim: Arc<Sim>, broker: Arc<Broker>, nodes: Arc<Vec<Node<P>>>) -> Self {
        Self {
            sim,
            broker,
            nodes,
            repairs: BTreeMap::new(),
            planned: 0,
        }
    }

    /// Injects faults until their time is over, and then repairs all of them.
    pub async fn run(mut self) {
        for number in 0..self.nodes.len() {
            let offset_us = self.small_offset_us();
            let offset = &self.nodes[number].link.clock_offset_us;
            offset.store(offset_us, Ordering::Relaxed);
            self.nodes[number].start();
        }
        self.assign_one();
        let end_ms = self.sim.plan.faults_ms;
        let mut next_action_ms = self.soon();
        loop {
            let next_repair_ms = self
                .repairs
                .keys()
                .next()
                .map_or(u64::MAX, |(at_ms, _)| *at_ms);
            let next_ms = next_action_ms.min(next_repair_ms).min(end_ms);
            tokio::time::sleep_until(self.sim.instant(next_ms)).await;
            if next_ms >= end_ms {
                break;
            }
            if next_ms == next_repair_ms {
                if let Some((_, repair)) = self.repairs.pop_first() {
                    self.repair(repair).await;
                }
            } else {
                let action = {
                    let mut rng = self.sim.rng();
                    let actions = &self.sim.plan.actions;
                    actions[rng.index(actions.len())]
                };
                self.act(action).await;
                next_action_ms = self.soon();
            }
        }
        self.repair_all().await;
    }

    async fn repair_all(mut self) {
        self.sim.end_faults();
        self.broker.make_unavailable_until(0);
        self.sim.storm_until(0);
        while let Some((_, repair)) = self.repairs.pop_first() {
            self.repair(repair).await;
        }
        for node in self.nodes.iter() {
            node.link.cut_until_ms.store(0, Ordering::Relaxed);
            node.store.fill_until(0);
            node.store.slow_until(0);
            if node.store.is_foreign() || node.has_ended() {
                self.replace_store(node.number).await;
            }
            node.start();
        }
        self.assign_one();
    }

    async fn repair(&self, repair: Repair) {
        match repair {
            Repair::Start(number) => {
                let node = &self.nodes[number];
                if node.store.is_foreign() {
                    self.replace_store(number).await;
                }
                node.start();
            }
            Repair::Resume(number) => self.nodes[number].resume(),
            Repair::RightClock(number) => self.set_clock(number, self.small_offset_us()),
        }
    }

    /// The action of an operator whose owner reported that its store was not built from this log.
    async fn replace_store(&self, number: usize) {
        let node = &self.nodes[number];
        node.kill().await;
        node.store.delete();
        self.sim
            .note(|| format!("the store of node {number} is deleted by an operator"));
    }

    async fn act(&mut self, action: Action) {
        let number = self.sim.rng().index(self.nodes.len());
        self.sim.note(|| format!("{action:?} (node {number})"));
        match action {
            Action::Assign => self.assign_any(),
            Action::Kill => {
                self.sim.count(CoveragePoint::Crash);
                self.nodes[number].kill().await;
                if self.sim.rng().chance(500) {
                    let writes = self.sim.rng().index(6);
                    self.nodes[number].store.lose_end(writes, false);
                }
                self.plan(DOWN_MS_MAX, Repair::Start(number));
            }
            Action::Stop => {
                self.sim.count(CoveragePoint::Stop);
                self.nodes[number].stop().await;
                self.plan(DOWN_MS_MAX, Repair::Start(number));
            }
            Action::Pause => {
                self.sim.count(CoveragePoint::Pause);
                self.nodes[number].pause();
                // The group may consider it dead.
                if self.sim.rng().chance(700) {
                    self.assign_to(|other| other != number);
                }
                self.plan(PAUSE_MS_MAX, Repair::Resume(number));
            }
            Action::JumpClock => {
                self.sim.count(CoveragePoint::ClockJump);
                self.set_clock(number, self.small_offset_us());
            }
            Action::SetClockWrong => {
                self.sim.count(CoveragePoint::ClockWrong);
                let sign = [-1, 1][self.sim.rng().index(2)];
                self.set_clock(number, sign * WRONG_CLOCK_US);
                self.plan(4 * DOWN_MS_MAX, Repair::RightClock(number));
            }
            Action::PassDay => {
                self.sim.count(CoveragePoint::DayPassed);
                // Near the limit, owners with different clocks would disagree.
                let off_us = self.small_offset_us();
                self.sim.skip_time(DAY_US + off_us);
            }
            Action::CutOff => {
                self.sim.count(CoveragePoint::Isolation);
                let until_ms = self.until(AWAY_MS_MAX);
                self.nodes[number]
                    .link
                    .cut_until_ms
                    .store(until_ms, Ordering::Relaxed);
            }
            Action::StopBroker => {
                self.sim.count(CoveragePoint::BrokerUnavailable);
                self.broker.make_unavailable_until(self.until(AWAY_MS_MAX));
            }
            Action::Storm => {
                self.sim.count(CoveragePoint::Storm);
                self.sim.storm_until(self.until(FAULT_MS_MAX));
            }
            Action::Store(store_fault) => self.inject_store_fault(store_fault, number).await,
        }
    }

    async fn inject_store_fault(&mut self, store_fault: StoreFault, number: usize) {
        let nodes = self.nodes.clone();
        let node = &nodes[number];
        match store_fault {
            StoreFault::Lose => {
                self.sim.count(CoveragePoint::StoreDeleted);
                node.kill().await;
                node.store.delete();
                self.plan(DOWN_MS_MAX, Repair::Start(number));
            }
            StoreFault::Tear => {
                self.sim.count(CoveragePoint::StoreTorn);
                let stamp = self.sim.rng().chance(300);
                // A running owner has most of it in memory.
                node.kill().await;
                match stamp {
                    true => node.store.tear_stamp(),
                    false => node.store.tear(),
                }
                self.plan(DOWN_MS_MAX, Repair::Start(number));
            }
            StoreFault::Fill => {
                self.sim.count(CoveragePoint::StoreFull);
                node.store.fill_until(self.until(FAULT_MS_MAX));
            }
            StoreFault::Slow => {
                self.sim.count(CoveragePoint::StoreSlow);
                node.store.slow_until(self.until(FAULT_MS_MAX));
            }
            StoreFault::Reopen => {
                let writes = 1 + self.sim.rng().index(4);
                node.store.lose_end(writes, node.handle().is_some());
            }
            StoreFault::Replace => {
                node.kill().await;
                let is_ahead = self.sim.rng().chance(500);
                if node.store.replace_with_other_log(is_ahead) {
                    self.sim.count(CoveragePoint::StoreForeign);
                }
                // Its owner must refuse it before the operator deletes it.
                node.start();
                self.plan(4 * DOWN_MS_MAX, Repair::Start(number));
            }
        }
    }

    fn assign_any(&self) {
        let kind = self.sim.rng().index(10);
        match kind {
            0 => self.assign_to(|_| false),
            1..=3 => self.assign_to(|_| true),
            _ => self.assign_one(),
        }
        let assigned = self.nodes.iter().filter(|node| node.is_assigned()).count();
        match assigned {
            0 => self.sim.count(CoveragePoint::AssignedToNone),
            1 => {}
            _ => self.sim.count(CoveragePoint::AssignedTwice),
        }
    }

    fn assign_one(&self) {
        let chosen = self.sim.rng().index(self.nodes.len());
        self.assign_to(|number| number == chosen);
    }

    fn assign_to(&self, chosen: impl Fn(usize) -> bool) {
        for node in self.nodes.iter() {
            node.assign(chosen(node.number));
        }
        self.sim.note(|| {
            let assigned = self.nodes.iter().filter(|node| node.is_assigned());
            let numbers: Vec<usize> = assigned.map(|node| node.number).collect();
            format!("assigned to {numbers:?}")
        });
    }

    fn set_clock(&self, number: usize, offset_us: i64) {
        let offset = &self.nodes[number].link.clock_offset_us;
        offset.store(offset_us, Ordering::Relaxed);
        self.sim
            .note(|| format!("the clock of node {number} is off by {offset_us} us"));
    }

    fn small_offset_us(&self) -> i64 {
        let us = self.sim.rng().between(0, 2 * CLOCK_OFFSET_US_MAX);
        i64::try_from(us).expect("some seconds") - CLOCK_OFFSET_US_MAX.cast_signed()
    }

    fn soon(&self) -> u64 {
        self.until(self.sim.plan.pause_ms_max)
    }

    fn until(&self, longest_ms: u64) -> u64 {
        self.sim.now_ms() + self.sim.rng().between(1, longest_ms)
    }

    fn plan(&mut self, longest_ms: u64, repair: Repair) {
        self.planned += 1;
        self.repairs
            .insert((self.until(longest_ms), self.planned), repair);
    }
}
