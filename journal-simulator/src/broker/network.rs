//! The network: whether an append lands, when, how often, and with which report.

use crate::{coverage::CoveragePoint, plan::AppendFault, record::StoredRecord, sim::Sim};
use kafka::{
    BrokerRule, Report,
    appender::{APPEND_TIMEOUT, AppendError},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64},
    },
};
use tokio::sync::mpsc;

/// The number of the one partition.
pub(crate) const PARTITION: i32 = 0;
/// The time after which the producer gives up on an append.
#[expect(clippy::cast_possible_truncation, reason = "some seconds")]
pub(super) const TIMEOUT_MS: u64 = APPEND_TIMEOUT.as_millis() as u64;
/// Longest time after the report in which an append may still land.
pub(crate) const LATE_MS_MAX: u64 = 20_000;
/// The offset that librdkafka reports for an append that probably landed without an acknowledgement.
const OFFSET_INVALID: i64 = -1_001;

/// A node's link to the broker, and its clock.
#[derive(Default)]
pub(crate) struct Link {
    /// The link is down before this time.
    pub cut_until_ms: AtomicU64,
    /// The error of the clock, in microseconds.
    pub clock_offset_us: AtomicI64,
    /// How many of the next readers fail to start, as they do if no thread is free.
    pub unstarted_readers: AtomicU64,
    /// How many of the next measurements of the log's end return an end that is too low, as those of a broker that
    /// just became the leader.
    pub short_ends: AtomicU64,
    /// Whether the node's producer rejects records because its queue is full.
    pub is_queue_full: AtomicBool,
}

/// The state of the broker.
#[derive(Default)]
pub(super) struct State {
    pub(super) records: Vec<StoredRecord>,
    /// The schedule: by time, then in the order in which the events were planned.
    pub(super) due: BTreeMap<(u64, u64), Due>,
    pub(super) planned: u64,
    pub(super) appenders: Vec<AppenderState>,
    pub(super) away_until_ms: u64,
}

/// One owner's appender.
pub(super) struct AppenderState {
    pub(super) reports: mpsc::Sender<Report>,
    pub(super) link: Arc<Link>,
    pub(super) delay_ms: u64,
    pub(super) last_landing_ms: u64,
    pub(super) last_report_ms: u64,
    pub(super) has_failed: bool,
    /// The offset of the next report in a run of duplicates.
    pub(super) duplicate: Option<i64>,
}

/// An event of the schedule.
pub(super) enum Due {
    Land {
        record: StoredRecord,
        report: Option<ReportPlan>,
    },
    Report {
        appender: usize,
        report: Report,
    },
}

/// The report of a record that lands.
pub(super) struct ReportPlan {
    pub(super) appender: usize,
    pub(super) number: u64,
    pub(super) after_ms: u64,
    /// Replaces the true offset.
    pub(super) offset: Option<i64>,
}

/// One append in flight.
pub(super) struct Delivery {
    pub appender: usize,
    pub number: u64,
    pub now_ms: u64,
    pub landing_ms: u64,
    /// `None`: it lands once, and its report has its offset.
    pub append_fault: Option<AppendFault>,
}

impl State {
    pub(super) fn plan(&mut self, at_ms: u64, due: Due) {
        self.planned += 1;
        self.due.insert((at_ms, self.planned), due);
    }

    pub(super) fn send(&mut self, sim: &Sim, record: StoredRecord, delivery: Delivery) {
        let Delivery {
            appender,
            number,
            now_ms,
            landing_ms,
            append_fault,
        } = delivery;
        let delivery = &delivery;
        let after_ms = sim.rng().between(0, self.appenders[appender].delay_ms);
        let truly = ReportPlan {
            appender,
            number,
            after_ms,
            offset: None,
        };
        let error_ms = now_ms + sim.rng().between(1, TIMEOUT_MS);
        match append_fault {
            None => {
                let report = self.in_run_of_duplicates(sim, truly, false);
                self.land_in_order(delivery, record, Some(report));
            }
            Some(AppendFault::Lost) => {
                sim.count(CoveragePoint::AppendLost);
                self.fail(appender, number, error_ms);
            }
            Some(AppendFault::Unknown) => {
                sim.count(CoveragePoint::AppendUnknown);
                self.land_in_order(delivery, record, None);
                self.fail(appender, number, error_ms.max(landing_ms));
            }
            Some(AppendFault::Late) => {
                sim.count(CoveragePoint::AppendLate);
                self.fail(appender, number, error_ms);
                let late_ms = error_ms.max(landing_ms) + sim.rng().between(1, LATE_MS_MAX);
                self.land_unreported(late_ms, record);
            }
            Some(AppendFault::Doubled) => {
                sim.count(CoveragePoint::AppendDoubled);
                let again_ms = landing_ms + sim.rng().between(0, TIMEOUT_MS);
                self.land_in_order(delivery, record.clone(), Some(truly));
                self.land_unreported(again_ms, record);
            }
            Some(AppendFault::Duplicate) => {
                let report = self.in_run_of_duplicates(sim, truly, true);
                self.land_in_order(delivery, record, Some(report));
            }
            Some(AppendFault::Implicit) => {
                sim.count(CoveragePoint::OffsetUnknown);
                let offset = Some(OFFSET_INVALID);
                self.land_in_order(delivery, record, Some(ReportPlan { offset, ..truly }));
            }
            Some(AppendFault::Unreported) => {
                sim.count(CoveragePoint::ReportLost);
                self.land_in_order(delivery, record, None);
            }
            Some(AppendFault::ReportedLate) => {
                sim.count(CoveragePoint::ReportLate);
                let after_ms = sim.rng().between(1_000, TIMEOUT_MS);
                self.land_in_order(delivery, record, Some(ReportPlan { after_ms, ..truly }));
            }
            Some(AppendFault::Refused(rule)) => self.refuse(sim, rule, landing_ms, &truly),
            Some(AppendFault::QueueFull | AppendFault::ProducerFailed) => {
                unreachable!("these appends were not sent")
            }
        }
    }

    /// Reports a record as refused, after all earlier reports.
    fn refuse(&mut self, sim: &Sim, rule: BrokerRule, landing_ms: u64, report: &ReportPlan) {
        sim.count(match rule {
            BrokerRule::Size => CoveragePoint::RefusedSize,
            BrokerRule::Access => CoveragePoint::RefusedAccess,
        });
        let appender = &mut self.appenders[report.appender];
        let at_ms = (landing_ms + report.after_ms).max(appender.last_report_ms);
        appender.last_report_ms = at_ms;
        self.fail_with(refused(rule), report.appender, report.number, at_ms);
    }

    /// A batch that the broker had already is reported with offsets from -1 on, instead of its own.
    fn in_run_of_duplicates(&mut self, sim: &Sim, report: ReportPlan, begins: bool) -> ReportPlan {
        let appender = &mut self.appenders[report.appender];
        let offset = match appender.duplicate {
            Some(offset) if sim.fault(600) => Some(offset),
            _ => begins.then_some(-1),
        };
        appender.duplicate = offset.map(|offset| offset + 1);
        if offset.is_some() {
            sim.count(CoveragePoint::OffsetUnknown);
        }
        ReportPlan { offset, ..report }
    }

    fn land_in_order(
        &mut self,
        delivery: &Delivery,
        record: StoredRecord,
        report: Option<ReportPlan>,
    ) {
        let landing_ms = delivery.landing_ms;
        self.appenders[delivery.appender].last_landing_ms = landing_ms;
        self.plan(landing_ms, Due::Land { record, report });
    }

    /// Lands a record out of order, after all records that land before its time.
    fn land_unreported(&mut self, at_ms: u64, record: StoredRecord) {
        let report = None;
        self.plan(at_ms, Due::Land { record, report });
    }

    fn fail(&mut self, appender: usize, number: u64, at_ms: u64) {
        self.fail_with(unknown("timed out"), appender, number, at_ms);
    }

    fn fail_with(&mut self, error: AppendError, appender: usize, number: u64, at_ms: u64) {
        let report = Report {
            number,
            result: Err(error),
        };
        self.plan(at_ms, Due::Report { appender, report });
    }
}

fn refused(rule: BrokerRule) -> AppendError {
    AppendError::Refused {
        topic: "a journal".into(),
        partition: PARTITION,
        rule,
        reason: format!("{rule:?}"),
    }
}

pub(super) fn unknown(reason: &str) -> AppendError {
    AppendError::Unknown {
        topic: "a journal".into(),
        partition: PARTITION,
        reason: reason.into(),
    }
}
