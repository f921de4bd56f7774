//! One run of projectors, from a seed to the verdict.

use super::{
    plan::Plan,
    projector::Projector,
    protocol::WriteProtocol,
    requests::STALL_MS_MAX,
    store::{LATE_MS_MAX, SimStore},
    writer,
};
use crate::{faulty_log::FaultyLog, paused_runtime, run::Run, sim::Sim};
use journal::memory_log::MemoryLog;
use std::{sync::Arc, time::Duration};

/// Within this time after the last fault, a projector must have applied the whole log.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(600);
/// Time until every stalled projector has continued and every late write has come, with a margin.
const SETTLE_TIME: Duration = Duration::from_millis(STALL_MS_MAX + LATE_MS_MAX + 10_000);

/// Runs projectors of a view that follow the protocol `P`, with the faults of the seed.
pub(crate) fn run<P: WriteProtocol>(seed: u64, with_trace: bool) -> Run {
    paused_runtime::block_on(seed, simulate::<P>(seed, with_trace))
}

async fn simulate<P: WriteProtocol>(seed: u64, with_trace: bool) -> Run {
    let sim = Arc::new(Sim::new(seed, with_trace));
    let plan = Plan::draw(&mut sim.rng());
    sim.note(|| format!("{plan:?}"));
    let log = FaultyLog {
        log: MemoryLog::new(plan.partitions),
        sim: sim.clone(),
    };
    let store = Arc::new(SimStore::new(sim.clone(), plan));
    writer::begin(&store, &log.log);
    for number in 0..store.plan.projectors {
        let projector = Projector {
            name: format!("projector {number}"),
            store: store.clone(),
            log: log.clone(),
        };
        tokio::spawn(projector.run::<P>());
    }
    for _ in 0..store.plan.bursts {
        writer::write_burst(&store, &log.log).await;
    }
    sim.end_faults();
    writer::finish(&store, &log.log);
    if tokio::time::timeout(CATCH_UP_TIMEOUT, reach_end(&store, &log.log))
        .await
        .is_err()
    {
        let checkpoints = store.checkpoints().clone();
        sim.violate(format!("no projector reached the end: {checkpoints:?}"));
    }
    tokio::time::sleep(SETTLE_TIME).await;
    store.check_last();
    let digest = blake3::hash(store.digest().as_bytes());
    Run::of(seed, &sim, digest.to_hex().to_string())
}

/// Waits until the checkpoints are at the end of the log.
async fn reach_end(store: &SimStore, log: &MemoryLog) {
    let is_at_end = |(partition, next_offset)| next_offset == log.end_of(partition);
    loop {
        let moved = store.moved.notified();
        let positions: Vec<(i32, i64)> = store
            .checkpoints()
            .iter()
            .map(|(partition, checkpoint)| (*partition, checkpoint.next_offset))
            .collect();
        if positions.into_iter().all(is_at_end) {
            return;
        }
        moved.await;
    }
}
