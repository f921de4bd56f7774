//! The broker of a run: one partition in memory. Appends travel, land or get lost, and are reported on,
//! in the order of one list of what is due, so that a run can be repeated.

mod travel;

use self::travel::Way;
use super::{plan::Fate, tally::Happening, world::World};
use bytes::Bytes;
use kafka::{
    Record, Report,
    appender::{APPEND_TIMEOUT, AppendError},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};
use tokio::sync::{Notify, mpsc};

/// The one partition.
pub(super) const PARTITION: i32 = 0;
/// When the producer gives an append up.
#[expect(clippy::cast_possible_truncation, reason = "some seconds")]
const TIMEOUT_MS: u64 = APPEND_TIMEOUT.as_millis() as u64;
/// Longest time after the report in which an append may still land.
pub(super) const LATE_MS_MAX: u64 = 20_000;
/// What librdkafka says of an append that it takes to have landed without an answer.
const OFFSET_INVALID: i64 = -1_001;

/// A process's way to the broker, and its clock.
#[derive(Default)]
pub(super) struct Link {
    /// Nothing goes through before.
    pub cut_until_ms: AtomicU64,
    /// How far the clock is off.
    pub clock_offset_us: AtomicI64,
}

/// A record of the log, and how it came there.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub key: Bytes,
    pub value: Bytes,
    pub stamp_ms: i64,
    /// When it was handed over, in simulated time.
    pub handed_ms: u64,
    /// When it landed.
    pub landed_ms: u64,
    /// How far its writer's clock was off then.
    pub clock_offset_us: i64,
}

/// One partition.
pub(super) struct Broker {
    pub world: Arc<World>,
    state: Mutex<State>,
    scheduled: Notify,
    /// Not a watch channel: that wakes those who wait in an order that no seed decides.
    landed: Notify,
}

#[derive(Default)]
struct State {
    records: Vec<Kept>,
    /// By time, then in the order in which they were planned.
    due: BTreeMap<(u64, u64), Due>,
    planned: u64,
    lines: Vec<LineState>,
    away_until_ms: u64,
}

/// One owner's line.
struct LineState {
    reports: mpsc::Sender<Report>,
    link: Arc<Link>,
    delay_ms: u64,
    last_landing_ms: u64,
    last_report_ms: u64,
    is_broken: bool,
    /// The offset that the next of a run of duplicates is reported with.
    duplicate: Option<i64>,
}

/// What happens at a time.
enum Due {
    Land {
        record: Kept,
        report: Option<ReportPlan>,
    },
    Report {
        line: usize,
        report: Report,
    },
}

/// How a landing is reported.
struct ReportPlan {
    line: usize,
    number: u64,
    after_ms: u64,
    /// Instead of the true offset.
    offset: Option<i64>,
}

impl Broker {
    pub fn new(world: Arc<World>, records: Vec<Kept>) -> Self {
        Self {
            world,
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

    /// Makes happen what is due, for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            let next = self.work_off();
            let scheduled = self.scheduled.notified();
            match next {
                Some(at_ms) => tokio::select! {
                    biased;
                    () = scheduled => {}
                    () = tokio::time::sleep_until(self.world.instant(at_ms)) => {}
                },
                None => scheduled.await,
            }
        }
    }

    /// Does what is due now; gives the time of what comes next.
    fn work_off(&self) -> Option<u64> {
        let now_ms = self.world.now_ms();
        loop {
            let mut state = self.state();
            let entry = state.due.first_entry()?;
            let at_ms = entry.key().0;
            if at_ms > now_ms {
                return Some(at_ms);
            }
            match entry.remove() {
                Due::Land { record, report } => self.land(&mut state, record, report),
                Due::Report { line, report } => {
                    self.world.note(|| format!("line {line}: {report:?}"));
                    // Whoever appended it may be dead.
                    let _ = state.lines[line].reports.try_send(report);
                }
            }
        }
    }

    fn land(&self, state: &mut State, mut record: Kept, report: Option<ReportPlan>) {
        let offset = i64::try_from(state.records.len()).expect("logs are short");
        record.stamp_ms = self.world.wall().0 / 1_000;
        record.landed_ms = self.world.now_ms();
        self.world
            .note(|| format!("@{offset} {}", super::show::record(&record)));
        state.records.push(record);
        self.landed.notify_waiters();
        if let Some(plan) = report {
            let number = plan.number;
            let result = Ok(plan.offset.unwrap_or(offset));
            let line = &mut state.lines[plan.line];
            let at_ms = (self.world.now_ms() + plan.after_ms).max(line.last_report_ms);
            line.last_report_ms = at_ms;
            let report = Report { number, result };
            let line = plan.line;
            state.plan(at_ms, Due::Report { line, report });
        }
    }

    /// Opens a line; what it reports comes through the receiver.
    pub fn open_line(
        &self,
        link: Arc<Link>,
        under_way_max: usize,
    ) -> (usize, mpsc::Receiver<Report>) {
        let (reports, receiver) = mpsc::channel(under_way_max);
        let delay_ms = self.world.dice().between(0, self.world.plan.delay_ms_max);
        let mut state = self.state();
        state.lines.push(LineState {
            reports,
            link,
            delay_ms,
            last_landing_ms: 0,
            last_report_ms: 0,
            is_broken: false,
            duplicate: None,
        });
        (state.lines.len() - 1, receiver)
    }

    /// Makes a new producer, if the line's is broken.
    pub fn mend(&self, line: usize) {
        self.state().lines[line].is_broken = false;
    }

    /// Takes a record on its way.
    pub fn append(
        &self,
        line: usize,
        key: &[u8],
        value: &[u8],
        number: u64,
    ) -> Result<(), AppendError> {
        let fate = self.fate();
        let mut state = self.state();
        let away_until_ms = state.away_until_ms;
        let on_line = &mut state.lines[line];
        if on_line.is_broken || fate == Some(Fate::Broken) {
            if !on_line.is_broken {
                self.world.count(Happening::ProducerBroken);
            }
            on_line.is_broken = true;
            return Err(unknown("the producer had a fatal error"));
        }
        if fate == Some(Fate::Refused) {
            self.world.count(Happening::QueueFull);
            let (topic, partition) = ("a journal".into(), PARTITION);
            return Err(AppendError::QueueFull { topic, partition });
        }
        let now_ms = self.world.now_ms();
        let record = Kept {
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value),
            stamp_ms: 0,
            handed_ms: now_ms,
            landed_ms: 0,
            clock_offset_us: on_line.link.clock_offset_us.load(Ordering::Relaxed),
        };
        let cut_until_ms = on_line.link.cut_until_ms.load(Ordering::Relaxed);
        let open_ms = away_until_ms.max(cut_until_ms).max(now_ms);
        let delay_ms = self.world.dice().between(0, on_line.delay_ms);
        let landing_ms = (open_ms + delay_ms).max(on_line.last_landing_ms);
        // What can't be delivered in time is reported as failed. It was sent, so it may land yet.
        let fate = match fate {
            None if landing_ms > now_ms + TIMEOUT_MS => match self.world.dice().chance(500) {
                true => Some(Fate::Lost),
                false => Some(Fate::Late),
            },
            fate => fate,
        };
        state.travel(
            &self.world,
            record,
            Way {
                line,
                number,
                now_ms,
                landing_ms,
                fate,
            },
        );
        drop(state);
        self.scheduled.notify_one();
        Ok(())
    }

    /// What becomes of an append, if it is anything special.
    fn fate(&self) -> Option<Fate> {
        let mut fates = self.world.plan.fates.iter();
        fates
            .find(|(_, permille)| self.world.fault(self.world.stormy(*permille)))
            .map(|(fate, _)| *fate)
    }

    /// The broker does not answer before.
    pub fn stop_until(&self, until_ms: u64) {
        self.state().away_until_ms = until_ms;
    }

    /// When the broker answers again.
    pub fn away_until_ms(&self) -> u64 {
        self.state().away_until_ms
    }

    /// The offset that the next record will get.
    pub fn end(&self) -> i64 {
        i64::try_from(self.state().records.len()).expect("logs are short")
    }

    /// Waits until the log goes beyond a position.
    pub async fn goes_beyond(&self, position: usize) {
        loop {
            let landed = self.landed.notified();
            if self.state().records.len() > position {
                return;
            }
            landed.await;
        }
    }

    /// Some records from an offset on.
    pub fn read(&self, from: usize, count: usize) -> Vec<Record> {
        let state = self.state();
        let records = state.records.iter().enumerate().skip(from).take(count);
        records
            .map(|(index, kept)| Record {
                partition: PARTITION,
                offset: i64::try_from(index).expect("logs are short"),
                timestamp_ms: kept.stamp_ms,
                key: Some(kept.key.clone()),
                value: Some(kept.value.clone()),
            })
            .collect()
    }

    /// The whole log.
    pub fn records(&self) -> Vec<Kept> {
        self.state().records.clone()
    }
}

fn unknown(reason: &str) -> AppendError {
    AppendError::Unknown {
        topic: "a journal".into(),
        partition: PARTITION,
        reason: reason.into(),
    }
}
