//! The environment that the nodes of a run share: the broker, the history, and the codec of the probe
//! context.

use crate::{
    broker::{Broker, Link},
    history::History,
    sim::Sim,
};
use journal::{owner::OwnerSettings, probe::codec};
use kafka::{Encoder, Registry};
use schemas::{Timestamp, owners::ProvedRecord};
use std::sync::{Arc, Mutex, atomic::Ordering};

/// The environment that all nodes of a run share.
#[derive(Clone)]
pub(super) struct Environment {
    pub sim: Arc<Sim>,
    pub broker: Arc<Broker>,
    pub history: Arc<History>,
    pub registry: Registry,
    pub encoder: Encoder,
    /// The record that an owner has published as proved, as in the directory of owners. No log of a run loses
    /// it.
    pub published: Arc<Mutex<Option<ProvedRecord>>>,
}

impl Environment {
    /// An environment with an empty log, whose broker runs.
    pub fn new(sim: Arc<Sim>) -> Self {
        let (registry, encoder) = codec().clone();
        let broker = Arc::new(Broker::new(sim.clone(), Vec::new()));
        tokio::spawn(broker.clone().run());
        Self {
            sim,
            broker,
            history: Arc::default(),
            registry,
            encoder,
            published: Arc::default(),
        }
    }

    /// The environment of another partition of the same run, with an empty log and a broker of its own.
    #[cfg(test)]
    pub fn beside(&self, partition: i32) -> Self {
        let broker = Arc::new(Broker::of(self.sim.clone(), partition, Vec::new()));
        tokio::spawn(broker.clone().run());
        Self {
            broker,
            history: Arc::default(),
            published: Arc::default(),
            ..self.clone()
        }
    }

    /// Publishes the last record that a serving owner has proved.
    pub fn publish(&self, proved: Option<ProvedRecord>) {
        let mut published = self.published.lock().expect("no holder panics");
        *published = (*published)
            .into_iter()
            .chain(proved)
            .max_by_key(|record| record.offset);
    }

    /// The settings of a node's owner.
    pub fn settings(&self, number: usize, link: &Arc<Link>) -> OwnerSettings {
        let (sim, link) = (self.sim.clone(), link.clone());
        let clock = move || {
            let offset_us = link.clock_offset_us.load(Ordering::Relaxed);
            Timestamp(sim.wall().0 + offset_us)
        };
        let (uptime, sim) = (self.sim.clone(), self.sim.clone());
        let published = self.published.clone();
        OwnerSettings {
            partitions: 1,
            owner_url: format!("node {number}"),
            clock: Arc::new(clock),
            uptime: Arc::new(move || uptime.uptime()),
            fresh_term: Arc::new(move || sim.rng().id()),
            published: Arc::new(move || *published.lock().expect("no holder panics")),
            ..OwnerSettings::new(String::new(), 1)
        }
    }
}
