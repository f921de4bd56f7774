//! The writer of the log.

use super::plan::Plan;
use crate::sim::Sim;
use journal::memory_log::MemoryLog;
use std::time::Duration;

/// Writes the first record of every partition.
pub(super) fn begin(log: &MemoryLog, plan: &Plan) {
    for partition in 0..plan.partitions {
        log.announce(partition);
    }
}

/// Writes a burst of records, and waits a while.
pub(super) async fn write_burst(sim: &Sim, log: &MemoryLog, plan: &Plan) {
    let count = sim.rng().between(1, plan.burst_max);
    for _ in 0..count {
        let partition = partition(sim, plan);
        write_one(sim, log, partition);
    }
    let pause_ms = sim.rng().between(0, plan.pause_ms_max);
    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
}

/// Alters the log, if the plan says so; writes one more record to each other partition.
pub(super) fn finish(log: &MemoryLog, plan: &Plan) {
    for partition in 0..plan.partitions {
        match plan.altered == Some(partition) {
            true => log.append_alarm(partition),
            false => log.note(partition, "the last record"),
        }
    }
}

fn partition(sim: &Sim, plan: &Plan) -> i32 {
    let partitions = usize::try_from(plan.partitions).expect("a few");
    i32::try_from(sim.rng().index(partitions)).expect("a few")
}

fn write_one(sim: &Sim, log: &MemoryLog, partition: i32) {
    let kind = sim.rng().between(0, 99);
    match kind {
        0..=4 => log.announce(partition),
        5..=12 => log.no_op(partition),
        13..=24 => log.append_void(partition),
        25..=27 => log.skip_offset(partition),
        _ => log.note(partition, "a note"),
    }
    sim.note(|| format!("{partition}@{}: kind {kind}", log.end_of(partition) - 1));
}
