//! The log of a run without owners: streams that are slow, silent or fail for a moment.

use crate::{coverage::CoveragePoint, sim::Sim};
use journal::{
    log::{ReadLog, RecordStream},
    memory_log::{MemoryLog, MemoryRecords},
};
use kafka::{ConsumerError, Fetched, Registry, admin::AdminError};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Maximum number of records of a partition that a stream returns at once.
pub(crate) const RECORDS_AT_ONCE_MAX: u64 = 20;
/// Longest silence of a stream.
const SILENCE_MS_MAX: u64 = 8_000;

/// A log with faults.
#[derive(Clone)]
pub(crate) struct FaultyLog {
    pub log: MemoryLog,
    pub sim: Arc<Sim>,
}

impl ReadLog for FaultyLog {
    type Records = FaultyRecords;

    async fn end(&self, topic: &str, partition: i32) -> Result<i64, AdminError> {
        let delay_ms = self.sim.rng().between(0, self.sim.plan.delay_ms_max);
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        if self.sim.fault(self.sim.plan.read_error) {
            self.sim.count(CoveragePoint::EndUnknown);
            return Err(AdminError::Unreachable {
                brokers: "the simulator".into(),
                reason: format!("no answer about {topic}"),
            });
        }
        Ok(self.log.end_of(partition))
    }

    fn records(
        &self,
        _: &str,
        _: &str,
        starts: &[(i32, i64)],
    ) -> Result<FaultyRecords, ConsumerError> {
        Ok(FaultyRecords {
            records: self.log.open(starts),
            sim: self.sim.clone(),
            fetched: Fetched::default(),
            next: None,
        })
    }

    fn registry(&self) -> &Registry {
        self.log.registry()
    }
}

/// A stream that returns records late, and sometimes fails.
pub(crate) struct FaultyRecords {
    records: MemoryRecords,
    sim: Arc<Sim>,
    /// Records that are kept if the reader cancels its wait.
    fetched: Fetched,
    /// When the records come, and whether reading fails then.
    next: Option<(Instant, bool)>,
}

impl RecordStream for FaultyRecords {
    async fn next(&mut self) -> Result<Fetched, ConsumerError> {
        if self.fetched == Fetched::default() {
            let count = self.sim.rng().between(1, RECORDS_AT_ONCE_MAX);
            let count = usize::try_from(count).expect("some records");
            self.fetched = self.records.next_records(count).await;
        }
        let (at, fails) = match self.next {
            Some(next) => next,
            None => *self.next.insert(draw(&self.sim)),
        };
        tokio::time::sleep_until(at).await;
        self.next = None;
        if fails {
            self.sim.count(CoveragePoint::ReadError);
            return Err(ConsumerError::Unreachable {
                topic: "the simulator's".into(),
                reason: "a transient error".into(),
            });
        }
        Ok(std::mem::take(&mut self.fetched))
    }
}

fn draw(sim: &Sim) -> (Instant, bool) {
    let mut delay_ms = sim.rng().between(0, sim.plan.delay_ms_max);
    if sim.fault(sim.plan.read_silence) {
        sim.count(CoveragePoint::ReadSilence);
        delay_ms += sim.rng().between(1_000, SILENCE_MS_MAX);
    }
    let at = Instant::now() + Duration::from_millis(delay_ms);
    (at, sim.fault(sim.plan.read_error))
}
