//! A serving owner: takes commands, appends records, and answers once they are proved.

use super::{
    core::Barrier,
    handle::{Status, Submission},
    partition_owner::{Owner, UNANSWERED_MAX, next_answer},
    request::{Machine, Refusal},
};
use crate::{
    log::{Log, PartitionAppender},
    protocol::OwnerProtocol,
    store::StoreError,
};
use kafka::{BrokerRule, Report, appender::AppendError};
use std::time::Duration;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// Maximum number of commands or reports taken in one iteration.
const RUN_MAX: usize = 512;
/// Longest time for the commits in flight to be proved when an owner steps down.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(6);
/// Longest time without a report while commits wait for one. The client library reports within its own
/// time-out; this one covers a report that is lost between the library and us.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait before the next attempt to append records for which the producer's queue had no room. A delivery report ends
/// the wait early.
const QUEUE_RETRY: Duration = Duration::from_millis(20);
/// How often metrics are updated and remaining changes are written to the state store.
const TICK: Duration = Duration::from_millis(200);
/// Interval at which an owner without work checks its clock. All owners of a process do so at the same time, so that
/// an idle process wakes up once.
const IDLE_TICK: Duration = Duration::from_secs(5);

/// Why serving ended.
pub(super) enum Served {
    /// The node shuts down.
    Stopped,
    /// The partition is assigned to another node.
    Unassigned,
    /// An outcome is unknown.
    Barrier(Barrier),
    /// The state store can't be read.
    StoreFailed(StoreError),
}

impl<M: Machine, L: Log, P: OwnerProtocol> Owner<M, L, P> {
    /// Serves until `stop` or until the partition is no longer `assigned` (and then until no commit is
    /// in flight), or until an outcome is unknown.
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
        let mut tick = std::pin::pin!(tokio::time::sleep(TICK));
        let mut is_idle = false;
        let mut last_report = Instant::now();
        let mut reports = Vec::with_capacity(RUN_MAX);
        // Entries of the state store for the commands that wait for them. Dropped when serving ends: the
        // entries may change then.
        let mut fetching = None;
        self.send_all()?;
        loop {
            if stop.is_cancelled() {
                return self.drain(Served::Stopped).await;
            }
            if !*assigned.borrow() {
                return self.drain(Served::Unassigned).await;
            }
            if let Some(error) = self.core.store_failure() {
                return Ok(Served::StoreFailed(error.clone()));
            }
            if self.core.unproved() == 0 {
                last_report = Instant::now();
            }
            if fetching.is_none() {
                fetching = self.core.fetch_unread(self.now());
            }
            if is_idle && !self.is_idle() {
                is_idle = false;
                tick.as_mut().reset(Instant::now() + TICK);
            }
            let room = self.core.has_room(UNANSWERED_MAX) && self.unreported < 2 * UNANSWERED_MAX;
            tokio::select! {
                biased;
                _ = self.reports.recv_many(&mut reports, RUN_MAX) => {
                    last_report = Instant::now();
                    self.take_reports(&mut reports)?;
                }
                outcome = next_answer(&mut self.saving) => self.finish_save(outcome),
                fetched = next_answer(&mut fetching) => {
                    fetching = None;
                    self.core.decide_unread(fetched, self.now());
                }
                submission = self.queue.recv(), if room => match submission {
                    Some(submission) => self.take_submissions(submission),
                    None => return self.drain(Served::Stopped).await,
                },
                () = tick.as_mut() => {
                    self.check_reports(last_report)?;
                    self.check_drift()?;
                    self.start_saving(1);
                    self.publish();
                    is_idle = self.is_idle();
                    let wait = if is_idle { self.until_idle_tick() } else { TICK };
                    tick.as_mut().reset(Instant::now() + wait);
                }
                () = tokio::time::sleep(QUEUE_RETRY), if self.core.has_appends() => {}
                () = stop.cancelled() => {}
                Ok(()) = assigned.changed() => {}
            }
            self.core.prove_held_answers(self.now());
            self.send_all()?;
            self.start_saving_if_many();
        }
    }

    /// Whether nothing changes until a command comes.
    fn is_idle(&self) -> bool {
        self.core.unanswered() == 0 && self.core.unproved() == 0 && self.core.unsaved() == 0
    }

    /// The time until the next multiple of [`IDLE_TICK`].
    fn until_idle_tick(&self) -> Duration {
        let since_ms = (self.settings.uptime)().as_millis() % IDLE_TICK.as_millis();
        IDLE_TICK - Duration::from_millis(u64::try_from(since_ms).unwrap_or(0))
    }

    fn check_reports(&self, last_report: Instant) -> Result<(), Barrier> {
        if self.core.unproved() == 0 || last_report.elapsed() < REPORT_TIMEOUT {
            return Ok(());
        }
        Err(Barrier {
            reason: format!("no delivery report came for {REPORT_TIMEOUT:?}"),
        })
    }

    /// Waits for the commits in flight, and takes no new command.
    async fn drain(&mut self, served: Served) -> Result<Served, Barrier> {
        self.set_status(Status::SteppingDown);
        let refusal = Refusal::NotOwner("this node is handing the partition over".into());
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
                () = tokio::time::sleep(QUEUE_RETRY), if self.core.has_appends() => {}
                () = tokio::time::sleep_until(deadline) => break,
            }
            self.send_all()?;
        }
        // The next owner can look up the outcome of an unanswered command by its id.
        self.core.refuse_all(&refusal);
        self.send_replies();
        self.held = None;
        Ok(served)
    }

    fn take_submissions(&mut self, first: Submission<M::Command>) {
        let now = self.now();
        self.core
            .set_record_bytes_max(self.appender.record_bytes_max());
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
        self.is_limit_stale |= reports.iter().any(is_too_large);
        reports
            .drain(..)
            .try_for_each(|report| self.core.delivered(&report))
    }

    /// Appends the new records and sends the new answers. No record is appended after a failed append, because
    /// it would leave a gap. Records wait if the producer's queue, which all owners share, has no room.
    fn send_all(&mut self) -> Result<(), Barrier> {
        let mut appends = self.core.take_appends();
        let mut appended = 0;
        for outgoing in &appends {
            match self.append(outgoing) {
                Ok(()) => appended += 1,
                Err(AppendError::QueueFull { .. }) => break,
                Err(error) => {
                    return Err(Barrier {
                        reason: error.to_string(),
                    });
                }
            }
        }
        if appended > 0 {
            self.meters.appends.increment(appended as u64);
        }
        self.core.put_appends_back(appends.split_off(appended));
        self.send_replies();
        Ok(())
    }
}

/// Whether the topic refused the record for its size.
fn is_too_large(report: &Report) -> bool {
    let rule = match &report.result {
        Err(AppendError::Refused { rule, .. }) => Some(*rule),
        Ok(_)
        | Err(
            AppendError::QueueFull { .. }
            | AppendError::TooLarge { .. }
            | AppendError::Unknown { .. },
        ) => None,
    };
    rule == Some(BrokerRule::Size)
}
