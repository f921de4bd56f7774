//! The log of a run as owners and readers use it, with the same traits as Kafka's log.

use crate::{
    broker::{Broker, Link, leader_of},
    coverage::CoveragePoint,
};
use journal::log::{LimitsError, Log, PartitionAppender, ReadLog, RecordStream};
use kafka::{
    ConsumerError, Fetched, Registry, Report,
    admin::AdminError,
    appender::{AppendError, AppenderError, RECORD_BYTES_MAX},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};

/// Longest silence of a stream that has records to return: longer than an owner waits.
const SILENCE_MS_MAX: u64 = 14_000;
/// Maximum number of records in a batch.
const RECORDS_AT_ONCE_MAX: u64 = 40;

/// One node's view of the log.
#[derive(Clone)]
pub(super) struct SimLog {
    broker: Arc<Broker>,
    link: Arc<Link>,
    registry: Registry,
}

impl SimLog {
    pub fn new(broker: Arc<Broker>, link: Arc<Link>, registry: Registry) -> Self {
        Self {
            broker,
            link,
            registry,
        }
    }
}

impl ReadLog for SimLog {
    type Records = SimRecordStream;

    async fn end(&self, topic: &str, _: i32) -> Result<i64, AdminError> {
        let sim = &self.broker.sim;
        let open_ms = open_ms(&self.broker, &self.link);
        let now_ms = sim.now_ms();
        // The client gives up after a while.
        if open_ms > now_ms + 5_000 || sim.fault(sim.plan.read_error) {
            tokio::time::sleep(Duration::from_millis((open_ms - now_ms).min(5_000))).await;
            return Err(AdminError::Unreachable {
                brokers: "the simulator".into(),
                reason: format!("no answer about {topic}"),
            });
        }
        let delay_ms = sim.rng().between(0, sim.plan.delay_ms_max);
        tokio::time::sleep_until(sim.instant(open_ms + delay_ms)).await;
        Ok(match is_next(&self.link.short_ends) {
            true => 0,
            false => self.broker.end(),
        })
    }

    async fn leader(&self, _: &str, partition: i32) -> Option<i32> {
        Some(leader_of(partition))
    }

    fn records(
        &self,
        role: &str,
        topic: &str,
        starts: &[(i32, i64)],
    ) -> Result<SimRecordStream, ConsumerError> {
        let fatal = |reason: &str| ConsumerError::Fatal {
            topic: topic.to_owned(),
            reason: format!("{role}: {reason}"),
        };
        if is_next(&self.link.unstarted_readers) {
            return Err(ConsumerError::NotStarted {
                topic: topic.to_owned(),
                reason: format!("{role}: no thread"),
            });
        }
        let [(partition, start)] = starts else {
            return Err(fatal("a reader reads one partition"));
        };
        if *partition != self.broker.partition {
            return Err(fatal("this log has another partition"));
        }
        Ok(SimRecordStream {
            broker: self.broker.clone(),
            link: self.link.clone(),
            topic: topic.to_owned(),
            position: usize::try_from(*start).map_err(|_| fatal("no such offset"))?,
            next: None,
        })
    }

    fn registry(&self) -> &Registry {
        &self.registry
    }
}

impl Log for SimLog {
    type Appender = SimAppender;

    fn appender(
        &self,
        _: &str,
        _: i32,
        in_flight_max: usize,
    ) -> (SimAppender, mpsc::Receiver<Report>) {
        let (number, reports) = self.broker.open_appender(self.link.clone(), in_flight_max);
        let broker = self.broker.clone();
        (SimAppender { broker, number }, reports)
    }

    async fn refresh_limits(&self, _: &str) -> Result<(), LimitsError> {
        Ok(())
    }
}

/// Appends to the partition, on behalf of one owner.
pub(super) struct SimAppender {
    broker: Arc<Broker>,
    number: usize,
}

impl PartitionAppender for SimAppender {
    fn append(
        &self,
        key: &[u8],
        value: &[u8],
        _: &[(&str, &[u8])],
        number: u64,
    ) -> Result<(), AppendError> {
        self.broker.append(self.number, key, value, number)
    }

    fn record_bytes_max(&self) -> usize {
        RECORD_BYTES_MAX
    }

    fn recover(&self) -> Result<(), AppenderError> {
        self.broker.recover(self.number);
        Ok(())
    }
}

/// Returns records in batches, sometimes late.
pub(super) struct SimRecordStream {
    broker: Arc<Broker>,
    link: Arc<Link>,
    topic: String,
    position: usize,
    /// When the next batch comes, and whether reading it fails; `None` until a batch is due. It is kept if the
    /// reader cancels its wait.
    next: Option<(Instant, bool)>,
}

impl RecordStream for SimRecordStream {
    async fn next(&mut self) -> Result<Fetched, ConsumerError> {
        self.broker.goes_beyond(self.position).await;
        let (at, fails) = match self.next {
            Some(next) => next,
            None => *self.next.insert(self.draw()),
        };
        tokio::time::sleep_until(at).await;
        self.next = None;
        let sim = &self.broker.sim;
        if fails {
            sim.count(CoveragePoint::ReadError);
            return Err(ConsumerError::Unreachable {
                topic: self.topic.clone(),
                reason: "a transient error".into(),
            });
        }
        let count = match sim.are_faults_over() {
            true => RECORDS_AT_ONCE_MAX,
            false => sim.rng().between(1, RECORDS_AT_ONCE_MAX),
        };
        let count = usize::try_from(count).expect("some records");
        let records = self.broker.read(self.position, count);
        self.position += records.len();
        Ok(Fetched {
            records,
            // Every offset of this log has a record.
            ends: Vec::new(),
        })
    }
}

impl SimRecordStream {
    fn draw(&self) -> (Instant, bool) {
        let sim = &self.broker.sim;
        let open_ms = open_ms(&self.broker, &self.link);
        let mut at_ms = open_ms + sim.rng().between(0, sim.plan.delay_ms_max);
        if sim.fault(sim.plan.read_silence) {
            sim.count(CoveragePoint::ReadSilence);
            at_ms += sim.rng().between(1_000, SILENCE_MS_MAX);
        }
        (sim.instant(at_ms), sim.fault(sim.plan.read_error))
    }
}

/// Whether this call has a fault. Takes one from `left`, the number of calls that still have the fault.
fn is_next(left: &AtomicU64) -> bool {
    let take = |left: u64| left.checked_sub(1);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        .is_ok()
}

/// The earliest time at which the broker can be reached.
fn open_ms(broker: &Broker, link: &Link) -> u64 {
    let cut_until_ms = link.cut_until_ms.load(Ordering::Relaxed);
    broker
        .sim
        .now_ms()
        .max(cut_until_ms)
        .max(broker.away_until_ms())
}
