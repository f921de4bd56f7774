//! The writer of the log: changes of counters, and records that views skip.

use super::store::SimStore;
use crate::sim::Sim;
use journal::{
    memory_log::MemoryLog,
    probe::{CounterChanged, Event},
};
use std::time::Duration;

/// Highest value of a counter. It is low, so that counters are often 0 and lose their row.
const VALUE_MAX: u64 = 3;
/// Maximum number of events in a commit.
const EVENTS_MAX: u64 = 3;

/// Writes the first record of every partition.
pub(super) fn begin(store: &SimStore, log: &MemoryLog) {
    for partition in 0..store.plan.partitions {
        log.announce(partition);
    }
}

/// Writes a burst of records, and waits a while.
pub(super) async fn write_burst(store: &SimStore, log: &MemoryLog) {
    let sim = &store.sim;
    let count = sim.rng().between(1, store.plan.burst_max);
    for _ in 0..count {
        let partitions = usize::try_from(store.plan.partitions).expect("a few");
        let partition = i32::try_from(sim.rng().index(partitions)).expect("a few");
        let kind = sim.rng().between(0, 99);
        match kind {
            0..=4 => log.announce(partition),
            5..=9 => log.no_op(partition),
            10..=19 => log.append_void(partition),
            20..=24 => log.skip_offset(partition),
            _ => {
                let counter = sim.rng().index(store.plan.counters);
                change(store, log, partition, counter);
            }
        }
    }
    let pause_ms = sim.rng().between(0, store.plan.pause_ms_max);
    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
}

/// Changes every counter once more.
pub(super) fn finish(store: &SimStore, log: &MemoryLog) {
    for partition in 0..store.plan.partitions {
        for counter in 0..store.plan.counters {
            change(store, log, partition, counter);
        }
    }
}

/// Writes one commit of a counter.
fn change(store: &SimStore, log: &MemoryLog, partition: i32, counter: usize) {
    let key = format!("counter_{partition}-{counter}");
    let events = events(&store.sim);
    let version = store.states.version(partition, &key);
    let offset = log.decide(partition, &key, version, events.clone());
    store.states.add(&key, offset, &events);
    store
        .sim
        .note(|| format!("{partition}@{offset}: {key} {version} {events:?}"));
}

fn events(sim: &Sim) -> Vec<Event> {
    let mut rng = sim.rng();
    let count = rng.between(1, EVENTS_MAX);
    let mut value = || i64::try_from(rng.between(0, VALUE_MAX)).expect("a low value");
    let change = |_| {
        Event::CounterChanged(CounterChanged {
            old: None,
            new: value(),
        })
    };
    (0..count).map(change).collect()
}
