//! What is done to the processes of a run while faults last, and how it is made good in the end.

use super::{
    broker::Broker,
    node::Node,
    plan::{Action, Harm},
    tally::Happening,
    world::World,
};
use crate::protocol::Protocol;
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

/// How far a clock may be off without harm.
const CLOCK_OFFSET_US_MAX: u64 = 3_000_000;
/// How far a wrong clock is off.
pub(super) const WRONG_CLOCK_US: i64 = 13_000_000;
/// Longest time that a process is down.
const DOWN_MS_MAX: u64 = 5_000;
/// Longest time that a process stands still: longer than a producer tries.
const PAUSE_MS_MAX: u64 = 15_000;
/// Longest time that the broker is away, or out of a process's reach.
const AWAY_MS_MAX: u64 = 9_000;
/// Longest time for which a store or the whole is in trouble.
const TROUBLE_MS_MAX: u64 = 6_000;
/// After how long answers expire, in log time.
const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

/// What makes good again.
#[derive(Debug, Clone, Copy)]
enum Repair {
    Start(usize),
    Resume(usize),
    RightClock(usize),
}

/// Does things to the processes.
pub(super) struct Chaos<P> {
    world: Arc<World>,
    broker: Arc<Broker>,
    nodes: Arc<Vec<Node<P>>>,
    /// By time, then in the order in which they were planned.
    repairs: BTreeMap<(u64, u64), Repair>,
    planned: u64,
}

impl<P: Protocol> Chaos<P> {
    pub fn new(world: Arc<World>, broker: Arc<Broker>, nodes: Arc<Vec<Node<P>>>) -> Self {
        Self {
            world,
            broker,
            nodes,
            repairs: BTreeMap::new(),
            planned: 0,
        }
    }

    /// Goes on until faults are over, and then makes all good.
    pub async fn run(mut self) {
        for number in 0..self.nodes.len() {
            let offset_us = self.small_offset_us();
            let offset = &self.nodes[number].link.clock_offset_us;
            offset.store(offset_us, Ordering::Relaxed);
            self.nodes[number].start();
        }
        self.assign_one();
        let end_ms = self.world.plan.chaos_ms;
        let mut next_action_ms = self.soon();
        loop {
            let next_repair_ms = self
                .repairs
                .keys()
                .next()
                .map_or(u64::MAX, |(at_ms, _)| *at_ms);
            let next_ms = next_action_ms.min(next_repair_ms).min(end_ms);
            tokio::time::sleep_until(self.world.instant(next_ms)).await;
            if next_ms >= end_ms {
                break;
            }
            if next_ms == next_repair_ms {
                if let Some((_, repair)) = self.repairs.pop_first() {
                    self.repair(repair).await;
                }
            } else {
                let action = {
                    let mut dice = self.world.dice();
                    let actions = &self.world.plan.actions;
                    actions[dice.index(actions.len())]
                };
                self.act(action).await;
                next_action_ms = self.soon();
            }
        }
        self.make_good().await;
    }

    async fn make_good(mut self) {
        self.world.calm_down();
        self.broker.stop_until(0);
        self.world.storm_until(0);
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

    /// What somebody does whom an owner told that its store is not of this log.
    async fn replace_store(&self, number: usize) {
        let node = &self.nodes[number];
        node.kill().await;
        node.store.delete();
        self.world
            .note(|| format!("the store of node {number} is deleted by hand"));
    }

    async fn act(&mut self, action: Action) {
        let number = self.world.dice().index(self.nodes.len());
        self.world.note(|| format!("{action:?} (node {number})"));
        match action {
            Action::Assign => self.assign_any(),
            Action::Kill => {
                self.world.count(Happening::Crash);
                self.nodes[number].kill().await;
                if self.world.dice().chance(500) {
                    let writes = self.world.dice().index(6);
                    self.nodes[number].store.lose_end(writes, false);
                }
                self.plan(DOWN_MS_MAX, Repair::Start(number));
            }
            Action::Stop => {
                self.world.count(Happening::Stop);
                self.nodes[number].stop().await;
                self.plan(DOWN_MS_MAX, Repair::Start(number));
            }
            Action::Pause => {
                self.world.count(Happening::Pause);
                self.nodes[number].pause();
                // The others may take it for dead.
                if self.world.dice().chance(700) {
                    self.assign_to(|other| other != number);
                }
                self.plan(PAUSE_MS_MAX, Repair::Resume(number));
            }
            Action::JumpClock => {
                self.world.count(Happening::ClockJump);
                self.set_clock(number, self.small_offset_us());
            }
            Action::SetClockWrong => {
                self.world.count(Happening::ClockWrong);
                let sign = [-1, 1][self.world.dice().index(2)];
                self.set_clock(number, sign * WRONG_CLOCK_US);
                self.plan(4 * DOWN_MS_MAX, Repair::RightClock(number));
            }
            Action::PassDay => {
                self.world.count(Happening::DayPassed);
                // Near the limit owners with different clocks would not agree.
                let off_us = self.small_offset_us();
                self.world.leap(DAY_US + off_us);
            }
            Action::CutOff => {
                self.world.count(Happening::Isolation);
                let until_ms = self.until(AWAY_MS_MAX);
                self.nodes[number]
                    .link
                    .cut_until_ms
                    .store(until_ms, Ordering::Relaxed);
            }
            Action::StopBroker => {
                self.world.count(Happening::BrokerAway);
                self.broker.stop_until(self.until(AWAY_MS_MAX));
            }
            Action::Storm => {
                self.world.count(Happening::Storm);
                self.world.storm_until(self.until(TROUBLE_MS_MAX));
            }
            Action::Store(harm) => self.harm_store(harm, number).await,
        }
    }

    async fn harm_store(&mut self, harm: Harm, number: usize) {
        let nodes = self.nodes.clone();
        let node = &nodes[number];
        match harm {
            Harm::Lose => {
                self.world.count(Happening::StoreDeleted);
                node.kill().await;
                node.store.delete();
                self.plan(DOWN_MS_MAX, Repair::Start(number));
            }
            Harm::Tear => {
                self.world.count(Happening::StoreTorn);
                let stamp = self.world.dice().chance(300);
                // A running owner has most of it in memory.
                node.kill().await;
                match stamp {
                    true => node.store.tear_stamp(),
                    false => node.store.tear(),
                }
                self.plan(DOWN_MS_MAX, Repair::Start(number));
            }
            Harm::Fill => {
                self.world.count(Happening::StoreFull);
                node.store.fill_until(self.until(TROUBLE_MS_MAX));
            }
            Harm::Slow => {
                self.world.count(Happening::StoreSlow);
                node.store.slow_until(self.until(TROUBLE_MS_MAX));
            }
            Harm::Reopen => {
                let writes = 1 + self.world.dice().index(4);
                node.store.lose_end(writes, node.handle().is_some());
            }
            Harm::Replace => {
                node.kill().await;
                let is_ahead = self.world.dice().chance(500);
                if node.store.make_foreign(is_ahead) {
                    self.world.count(Happening::StoreForeign);
                }
                // Its owner shall see it before somebody deletes it.
                node.start();
                self.plan(4 * DOWN_MS_MAX, Repair::Start(number));
            }
        }
    }

    fn assign_any(&self) {
        let kind = self.world.dice().index(10);
        match kind {
            0 => self.assign_to(|_| false),
            1..=3 => self.assign_to(|_| true),
            _ => self.assign_one(),
        }
        let assigned = self.nodes.iter().filter(|node| node.is_assigned()).count();
        match assigned {
            0 => self.world.count(Happening::AssignedToNobody),
            1 => {}
            _ => self.world.count(Happening::AssignedTwice),
        }
    }

    fn assign_one(&self) {
        let chosen = self.world.dice().index(self.nodes.len());
        self.assign_to(|number| number == chosen);
    }

    fn assign_to(&self, chosen: impl Fn(usize) -> bool) {
        for node in self.nodes.iter() {
            node.assign(chosen(node.number));
        }
        self.world.note(|| {
            let assigned = self.nodes.iter().filter(|node| node.is_assigned());
            let numbers: Vec<usize> = assigned.map(|node| node.number).collect();
            format!("assigned to {numbers:?}")
        });
    }

    fn set_clock(&self, number: usize, offset_us: i64) {
        let offset = &self.nodes[number].link.clock_offset_us;
        offset.store(offset_us, Ordering::Relaxed);
        self.world
            .note(|| format!("the clock of node {number} is off by {offset_us} us"));
    }

    fn small_offset_us(&self) -> i64 {
        let us = self.world.dice().between(0, 2 * CLOCK_OFFSET_US_MAX);
        i64::try_from(us).expect("some seconds") - CLOCK_OFFSET_US_MAX.cast_signed()
    }

    fn soon(&self) -> u64 {
        self.until(self.world.plan.calm_ms_max)
    }

    fn until(&self, longest_ms: u64) -> u64 {
        self.world.now_ms() + self.world.dice().between(1, longest_ms)
    }

    fn plan(&mut self, longest_ms: u64, repair: Repair) {
        self.planned += 1;
        self.repairs
            .insert((self.until(longest_ms), self.planned), repair);
    }
}
