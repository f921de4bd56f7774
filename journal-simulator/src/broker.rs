//! The broker of a run: one partition in memory. One schedule orders the landings, losses and reports of appends, so
//! that a run can be repeated.

mod network;

pub(crate) use self::network::{LATE_MS_MAX, Link, PARTITION};

use self::network::{AppenderState, Delivery, Due, ReportPlan, State, TIMEOUT_MS, unknown};
use crate::{
    coverage::CoveragePoint, plan::AppendFault, record::StoredRecord, sim::Sim, trace_format,
};
use bytes::Bytes;
use kafka::{Record, Report, appender::AppendError};
use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicI64, Ordering},
};
use tokio::sync::{Notify, mpsc};

/// The id of the broker that leads a partition. Each partition has its own.
pub(super) fn leader_of(partition: i32) -> i32 {
    100 + partition
}

/// One partition, and the broker that leads it.
pub(super) struct Broker {
    pub sim: Arc<Sim>,
    pub partition: i32,
    /// The error of the clock with which it stamps records, in milliseconds.
    pub clock_offset_ms: AtomicI64,
    state: Mutex<State>,
    scheduled: Notify,
    /// Not a watch channel, because the seed does not determine the order in which a watch channel wakes its waiters.
    landed: Notify,
}

impl Broker {
    /// The only partition of a run, with these records.
    pub fn new(sim: Arc<Sim>, records: Vec<StoredRecord>) -> Self {
        Self::of(sim, PARTITION, records)
    }

    /// A partition beside others, with these records.
    pub fn of(sim: Arc<Sim>, partition: i32, records: Vec<StoredRecord>) -> Self {
        Self {
            sim,
            partition,
            clock_offset_ms: AtomicI64::new(0),
            state: Mutex::new(State {
                records,
                ..State::default()
            }),
            scheduled: Notify::new(),
            landed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Runs the schedule; never returns.
    pub async fn run(self: Arc<Self>) {
        loop {
            let next = self.run_due();
            let scheduled = self.scheduled.notified();
            match next {
                Some(at_ms) => tokio::select! {
                    biased;
                    () = scheduled => {}
                    () = tokio::time::sleep_until(self.sim.instant(at_ms)) => {}
                },
                None => scheduled.await,
            }
        }
    }

    /// Runs the events that are due, and returns the time of the next one.
    fn run_due(&self) -> Option<u64> {
        let now_ms = self.sim.now_ms();
        loop {
            let mut state = self.state();
            let entry = state.due.first_entry()?;
            let at_ms = entry.key().0;
            if at_ms > now_ms {
                return Some(at_ms);
            }
            match entry.remove() {
                Due::Land { record, report } => self.land(&mut state, record, report),
                Due::Report { appender, report } => {
                    self.sim.note(|| format!("appender {appender}: {report:?}"));
                    // The owner may be dead.
                    let _ = state.appenders[appender].reports.try_send(report);
                }
            }
        }
    }

    fn land(&self, state: &mut State, mut record: StoredRecord, report: Option<ReportPlan>) {
        let offset = i64::try_from(state.records.len()).expect("logs are short");
        let clock_offset_ms = self.clock_offset_ms.load(Ordering::Relaxed);
        record.stamp_ms = self.sim.wall().0 / 1_000 + clock_offset_ms;
        record.landed_ms = self.sim.now_ms();
        self.sim
            .note(|| format!("@{offset} {}", trace_format::record(&record)));
        state.records.push(record);
        self.landed.notify_waiters();
        if let Some(plan) = report {
            let number = plan.number;
            let result = Ok(plan.offset.unwrap_or(offset));
            let appender = &mut state.appenders[plan.appender];
            let at_ms = (self.sim.now_ms() + plan.after_ms).max(appender.last_report_ms);
            appender.last_report_ms = at_ms;
            let report = Report { number, result };
            let appender = plan.appender;
            state.plan(at_ms, Due::Report { appender, report });
        }
    }

    /// Opens an appender; its reports come through the receiver.
    pub fn open_appender(
        &self,
        link: Arc<Link>,
        in_flight_max: usize,
    ) -> (usize, mpsc::Receiver<Report>) {
        let (reports, receiver) = mpsc::channel(in_flight_max);
        let delay_ms = self.sim.rng().between(0, self.sim.plan.delay_ms_max);
        let mut state = self.state();
        state.appenders.push(AppenderState {
            reports,
            link,
            delay_ms,
            last_landing_ms: 0,
            last_report_ms: 0,
            has_failed: false,
            duplicate: None,
        });
        (state.appenders.len() - 1, receiver)
    }

    /// Replaces the appender's producer if it has failed.
    pub fn recover(&self, appender: usize) {
        self.state().appenders[appender].has_failed = false;
    }

    /// Takes a record.
    pub fn append(
        &self,
        appender: usize,
        key: &[u8],
        value: &[u8],
        number: u64,
    ) -> Result<(), AppendError> {
        let append_fault = self.append_fault();
        let mut state = self.state();
        let away_until_ms = state.away_until_ms;
        let own = &mut state.appenders[appender];
        if own.has_failed || append_fault == Some(AppendFault::ProducerFailed) {
            if !own.has_failed {
                self.sim.count(CoveragePoint::ProducerFailed);
            }
            own.has_failed = true;
            return Err(unknown("the producer had a fatal error"));
        }
        let is_queue_full = own.link.is_queue_full.load(Ordering::Relaxed);
        if append_fault == Some(AppendFault::QueueFull) || is_queue_full {
            self.sim.count(CoveragePoint::QueueFull);
            let (topic, partition) = ("a journal".into(), PARTITION);
            return Err(AppendError::QueueFull { topic, partition });
        }
        let now_ms = self.sim.now_ms();
        let record = StoredRecord {
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value),
            stamp_ms: 0,
            handed_ms: now_ms,
            landed_ms: 0,
            clock_offset_us: own.link.clock_offset_us.load(Ordering::Relaxed),
        };
        let cut_until_ms = own.link.cut_until_ms.load(Ordering::Relaxed);
        let open_ms = away_until_ms.max(cut_until_ms).max(now_ms);
        let delay_ms = self.sim.rng().between(0, own.delay_ms);
        let landing_ms = (open_ms + delay_ms).max(own.last_landing_ms);
        // An append that can't be delivered in time is reported as failed. It was sent, so it may still land.
        let append_fault = match append_fault {
            None if landing_ms > now_ms + TIMEOUT_MS => match self.sim.rng().chance(500) {
                true => Some(AppendFault::Lost),
                false => Some(AppendFault::Late),
            },
            append_fault => append_fault,
        };
        state.send(
            &self.sim,
            record,
            Delivery {
                appender,
                number,
                now_ms,
                landing_ms,
                append_fault,
            },
        );
        drop(state);
        self.scheduled.notify_one();
        Ok(())
    }

    /// The fault that the append meets, if any.
    fn append_fault(&self) -> Option<AppendFault> {
        let mut append_faults = self.sim.plan.append_faults.iter();
        append_faults
            .find(|(_, permille)| self.sim.fault(self.sim.stormy(*permille)))
            .map(|(append_fault, _)| *append_fault)
    }

    /// Makes the broker unavailable until this time.
    pub fn make_unavailable_until(&self, until_ms: u64) {
        self.state().away_until_ms = until_ms;
    }

    /// When the broker is available again.
    pub fn away_until_ms(&self) -> u64 {
        self.state().away_until_ms
    }

    /// The offset that the next record will get.
    pub fn end(&self) -> i64 {
        i64::try_from(self.state().records.len()).expect("logs are short")
    }

    /// Waits until the log has a record at a position.
    pub async fn goes_beyond(&self, position: usize) {
        loop {
            let landed = self.landed.notified();
            if self.state().records.len() > position {
                return;
            }
            landed.await;
        }
    }

    /// At most `count` records from an offset on.
    pub fn read(&self, from: usize, count: usize) -> Vec<Record> {
        let state = self.state();
        let records = state.records.iter().enumerate().skip(from).take(count);
        records
            .map(|(index, record)| Record {
                partition: self.partition,
                offset: i64::try_from(index).expect("logs are short"),
                timestamp_ms: record.stamp_ms,
                key: Some(record.key.clone()),
                value: Some(record.value.clone()),
            })
            .collect()
    }

    /// The whole log.
    pub fn records(&self) -> Vec<StoredRecord> {
        self.state().records.clone()
    }
}
