//! An owner in office: commands in, records out, answers back once they are proved.

use super::{
    core::Barrier,
    driver::{Owner, Served, UNANSWERED_MAX, next_saved},
    handle::{Status, Submission},
    request::{Machine, Refusal},
    take_over::CLOCK_DRIFT_US_MAX,
};
use crate::log::Log;
use kafka::Report;
use std::time::Duration;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

/// Commands taken from the queue, or reports taken, in one go.
const RUN_MAX: usize = 512;
/// How long commits under way may take to be proved when an owner leaves office in order.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(6);
/// How long no report may come while commits wait for one. The client library reports within its own
/// time-out; a report that is lost between it and us must not be waited for.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often metrics are brought up to date and what is left of the state store is written.
const TICK: Duration = Duration::from_millis(200);

impl<M: Machine, L: Log> Owner<M, L> {
    /// Serves until `stop` or until the partition is `assigned` to another process (and until nothing
    /// is under way any more), or until an outcome is unknown.
    pub(super) async fn serve(
        &mut self,
        stop: &CancellationToken,
        assigned: &mut watch::Receiver<bool>,
    ) -> Served {
        match self.serve_until(stop, assigned).await {
            Ok(served) => served,
            Err(barrier) => Served::Barrier(barrier),
        }
    }

    async fn serve_until(
        &mut self,
        stop: &CancellationToken,
        assigned: &mut watch::Receiver<bool>,
    ) -> Result<Served, Barrier> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut last_report = Instant::now();
        let mut reports = Vec::with_capacity(RUN_MAX);
        self.send_all()?;
        loop {
            if stop.is_cancelled() {
                return self.drain(Served::Stopped).await;
            }
            if !*assigned.borrow() {
                return self.drain(Served::Unassigned).await;
            }
            if let Some(error) = self.core.broken() {
                return Ok(Served::Broken(error.clone()));
            }
            let room = self.core.has_room(UNANSWERED_MAX) && self.unreported < 2 * UNANSWERED_MAX;
            tokio::select! {
                biased;
                _ = self.reports.recv_many(&mut reports, RUN_MAX) => {
                    last_report = Instant::now();
                    self.take_reports(&mut reports)?;
                }
                saved = next_saved(&mut self.saving) => self.is_saved(saved),
                submission = self.queue.recv(), if room => match submission {
                    Some(submission) => {
                        if self.core.unproved() == 0 {
                            last_report = Instant::now();
                        }
                        self.take_submissions(submission);
                    }
                    None => return self.drain(Served::Stopped).await,
                },
                _ = tick.tick() => {
                    self.check_reports(last_report)?;
                    self.check_drift()?;
                    self.start_saving(1);
                    self.show();
                }
                () = stop.cancelled() => {}
                _ = assigned.changed() => {}
            }
            self.core.settle(self.now());
            self.send_all()?;
            self.start_saving_if_many();
        }
    }

    fn check_reports(&self, last_report: Instant) -> Result<(), Barrier> {
        if self.core.unproved() == 0 || last_report.elapsed() < REPORT_TIMEOUT {
            return Ok(());
        }
        Err(Barrier {
            reason: format!("no delivery report came for {REPORT_TIMEOUT:?}"),
        })
    }

    /// A machine that was suspended has a clock that stood still meanwhile, and one whose own clock was
    /// set may have been wrong before or be wrong now: the next announcement tells.
    fn check_drift(&self) -> Result<(), Barrier> {
        let off_us = self.own_clock().0.saturating_sub(self.now().0);
        if off_us.saturating_abs() <= CLOCK_DRIFT_US_MAX {
            return Ok(());
        }
        Err(Barrier {
            reason: format!("this machine's clock leapt by {} ms", off_us / 1_000),
        })
    }

    /// Waits for what is under way, and takes nothing new.
    async fn drain(&mut self, served: Served) -> Result<Served, Barrier> {
        self.tell(Status::Leaving);
        let refusal = Refusal::NotOwner("it leaves office".into());
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let mut reports = Vec::new();
        while self.core.unproved() > 0 {
            tokio::select! {
                biased;
                _ = self.reports.recv_many(&mut reports, RUN_MAX) => {
                    self.take_reports(&mut reports)?;
                }
                Some((_, reply)) = self.queue.recv() => {
                    let _ = reply.send(Err(refusal.clone()));
                }
                () = tokio::time::sleep_until(deadline) => break,
            }
            self.send_all()?;
        }
        // Whose outcome is unknown by now finds it at the next owner, by its id.
        self.core.refuse_all(&refusal);
        self.send_replies();
        self.held = None;
        Ok(served)
    }

    fn take_submissions(&mut self, first: Submission<M::Command>) {
        let now = self.now();
        let mut next = Some(first);
        for _ in 0..RUN_MAX {
            let Some((request, reply)) = next else { return };
            self.core.submit(request, reply, now);
            next = match self.core.has_room(UNANSWERED_MAX) {
                true => self.queue.try_recv().ok(),
                false => None,
            };
        }
        if let Some((request, reply)) = next {
            self.core.submit(request, reply, now);
        }
    }

    fn take_reports(&mut self, reports: &mut Vec<Report>) -> Result<(), Barrier> {
        self.unreported = self.unreported.saturating_sub(reports.len());
        reports
            .drain(..)
            .try_for_each(|report| self.core.delivered(&report))
    }

    /// Appends and answers what has come up. After an append that failed nothing more is appended:
    /// there would be a gap.
    fn send_all(&mut self) -> Result<(), Barrier> {
        let appends = self.core.take_appends();
        if !appends.is_empty() {
            self.meters.appends.increment(appends.len() as u64);
        }
        for outgoing in &appends {
            self.append(outgoing)?;
        }
        self.send_replies();
        Ok(())
    }
}
