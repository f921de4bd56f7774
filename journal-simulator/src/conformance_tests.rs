//! The conformance suites over the simulated log and the simulated store, without faults: the simulation keeps the
//! contracts that Kafka and the disk keep.

use crate::{
    broker::{Link, PARTITION},
    environment::Environment,
    log::SimLog,
    sim::Sim,
    store::SimStore,
};
use journal::{conformance, probe::PROBE};
use std::sync::Arc;

fn sim_without_faults() -> Arc<Sim> {
    let sim = Arc::new(Sim::new(0, false));
    sim.end_faults();
    sim
}

#[tokio::test(start_paused = true)]
async fn the_simulated_log_conforms() {
    let environment = Environment::new(sim_without_faults());
    let (broker, registry) = (environment.broker, environment.registry);
    let log = SimLog::new(broker, Arc::new(Link::default()), registry);
    conformance::log::check(&log, PROBE.topic, PARTITION).await;
}

#[tokio::test(start_paused = true)]
async fn the_simulated_store_conforms() {
    let sim = sim_without_faults();
    conformance::state_store::check(|| Arc::new(SimStore::new(sim.clone(), 0))).await;
}
