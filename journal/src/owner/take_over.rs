//! How an owner comes into office: from its store or from nothing, through the log, by announcement.

use super::{
    driver::{Owner, UNANSWERED_MAX, next_saved, topic},
    handle::{Reason, Status},
    request::{Machine, Refusal},
};
use crate::{
    log::{Line, Log, ReadLog},
    protocol::Protocol,
    reader::{ReadError, Reader},
    rule::{Alarm, Breach},
    store::StoreError,
};
use schemas::{ContextEvent, Timestamp, topics::PARTITIONS};
use std::time::Duration;
use tokio::time::Instant;

/// How long the own announcement may take to be read before it is sent again; longer than the
/// producer tries.
const ANNOUNCEMENT_TIMEOUT: Duration = Duration::from_secs(6);
/// How long the log may be silent where it is known to go on.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How far the clock may be off the broker's.
const CLOCK_DIFFERENCE_US_MAX: i64 = 5_000_000;
/// How long after it was made an announcement may be read whose stamp is to say what time it is.
const STAMP_AGE_MAX: Duration = Duration::from_secs(5);
/// How far the clock may come to be off the time that commits bear.
pub(super) const CLOCK_DRIFT_US_MAX: i64 = 11_000_000;
/// What take-over lets pass must not end the term.
const _: () = assert!(
    CLOCK_DRIFT_US_MAX as u128 > CLOCK_DIFFERENCE_US_MAX as u128 + STAMP_AGE_MAX.as_micros()
);
/// How long an owner with a wrong clock waits before it announces itself again, for each announcement
/// ends the term of whoever serves.
const CLOCK_RETRY: Duration = Duration::from_secs(60);
/// First wait of an owner that was deposed; it doubles with every time.
const DEPOSED_WAIT: Duration = Duration::from_millis(250);
/// So often at most.
const DEPOSED_DOUBLINGS_MAX: u32 = 6;
/// An owner that was in office for so long begins again with the first wait.
const CALM: Duration = Duration::from_secs(60);
/// Commits between two words on how far a long reading is.
const PROGRESS_COMMITS: i64 = 100_000;

/// Why a take-over did not come about.
pub(super) enum Failure {
    /// Another try may help.
    Again(String),
    /// Another try may help, after a while.
    After(Duration, Reason),
    /// The state store is of no use.
    Store(StoreError),
    /// No try will help.
    End(Reason),
}

type LogReader<M, L> = Reader<<M as Machine>::Event, L>;

impl<M: Machine, L: Log> Owner<M, L> {
    /// Tries until this owner is in office; an error is for good.
    pub(super) async fn take_over(&mut self) -> Result<(), Reason> {
        let started = Instant::now();
        let mut waits = crate::reader::backoff();
        loop {
            let failure = match self.try_take_over().await {
                Ok(()) => {
                    self.meters.takeover_seconds.record(started.elapsed());
                    self.show();
                    return Ok(());
                }
                Err(failure) => failure,
            };
            let wait = waits.next().unwrap_or(READ_TIMEOUT);
            let (wait, reason) = match failure {
                Failure::Again(reason) => (wait, reason.into()),
                Failure::After(wait, reason) => (wait, reason),
                Failure::Store(error) => {
                    self.recover_store(&error).await;
                    (wait, error.to_string().into())
                }
                Failure::End(reason) => {
                    let topic = topic::<M>();
                    tracing::error!(topic, partition = self.partition, %reason, "owner ends");
                    return Err(reason);
                }
            };
            let topic = topic::<M>();
            tracing::warn!(
                topic,
                partition = self.partition,
                %reason,
                "no take-over yet"
            );
            self.tell(Status::TakingOver(reason));
            self.show();
            tokio::time::sleep(wait).await;
        }
    }

    /// Reads to the end of the log, announces, and reads up to the announcement.
    async fn try_take_over(&mut self) -> Result<(), Failure> {
        let (topic, partition) = (topic::<M>(), self.partition);
        self.line
            .mend()
            .map_err(|error| Failure::Again(error.to_string()))?;
        // What the reports of the last term say, reading the log says better.
        while self.reports.try_recv().is_ok() {
            self.unreported = self.unreported.saturating_sub(1);
        }
        self.restore().await?;
        let end = self.log.end(topic, partition).await;
        let end = end.map_err(|error| Failure::Again(error.to_string()))?;
        let start = self.core.checkpoint().clone();
        let role = format!("owner-{}-{partition}", M::Event::CONTEXT.name);
        let mut reader = Reader::open(&self.log, &role, vec![start]).await?;
        // An announcement in a log that the store is not of would end its owner's term.
        match tokio::time::timeout(READ_TIMEOUT, reader.confirm()).await {
            Ok(confirmed) => confirmed?,
            Err(_) => {
                let reason = format!("the last valid record was not read for {READ_TIMEOUT:?}");
                return Err(Failure::Again(reason));
            }
        }
        self.catch_up(&mut reader, end).await?;
        self.in_office_at = None;
        self.announce_and_read(&mut reader).await?;
        if !<L as ReadLog>::Protocol::SERVES_BEFORE_READING {
            self.set_clock(reader.last_stamp_ms(partition))?;
        }
        self.core.take_office(self.now());
        self.restored = true;
        let checkpoint = self.core.checkpoint();
        let (epoch, term) = (checkpoint.epoch, checkpoint.term);
        self.held = Some(term);
        self.in_office_since = Instant::now();
        self.meters.takeovers.increment(1);
        let offset = checkpoint.next_offset;
        tracing::info!(topic, partition, epoch, offset, "in office");
        self.tell(Status::InOffice { epoch, term });
        Ok(())
    }

    /// After trouble with the state store, out of office: goes on from what it has, if it only lost
    /// its end; else everything is read again from the log.
    pub(super) async fn recover_store(&mut self, error: &StoreError) {
        // Whoever is interrupted from here on looks into the store again.
        self.restored = false;
        self.finish_saving().await;
        let recovered = match error {
            StoreError::Reopened { .. } => self.core.restore(),
            StoreError::InUse { .. }
            | StoreError::Unusable { .. }
            | StoreError::Unreadable { .. }
            | StoreError::Unwritable { .. } => self.core.start_over(),
        };
        self.restored = recovered.is_ok();
        if let Err(error) = recovered {
            tracing::error!(topic = topic::<M>(), partition = self.partition, %error);
        }
    }

    /// A write that is under way must not land on what the store is taken for from here on.
    async fn finish_saving(&mut self) {
        if self.saving.is_some() {
            let saved = next_saved(&mut self.saving).await;
            self.is_saved(saved);
        }
    }

    /// Looks into the state store, the first time, and after a recovery that was interrupted.
    async fn restore(&mut self) -> Result<(), Failure> {
        if !self.restored {
            self.finish_saving().await;
            self.core.restore().map_err(Failure::Store)?;
            self.restored = true;
            let offset = self.core.checkpoint().next_offset;
            tracing::info!(
                topic = topic::<M>(),
                partition = self.partition,
                offset,
                "starts from its state store"
            );
        }
        Ok(())
    }

    /// Reads everything before `end`.
    async fn catch_up(&mut self, reader: &mut LogReader<M, L>, end: i64) -> Result<(), Failure> {
        let mut told = self.core.checkpoint().next_offset;
        while self.core.checkpoint().next_offset < end {
            // The end may be a foreign transaction's marker, which nobody is given. Should there be
            // more after all, the rule makes the announcement void.
            if !self.read(reader, READ_TIMEOUT).await? {
                break;
            }
            let next_offset = self.core.checkpoint().next_offset;
            if next_offset - told >= PROGRESS_COMMITS {
                told = next_offset;
                let progress = format!("reading the log: {next_offset} of {end}");
                tracing::info!(topic = topic::<M>(), partition = self.partition, progress);
                self.tell(Status::TakingOver(progress.into()));
                self.show();
            }
        }
        self.check_not_deposed()
    }

    /// Makes the own announcement the last one read. One that an earlier try sent may stand in the
    /// log by now.
    async fn announce_and_read(&mut self, reader: &mut LogReader<M, L>) -> Result<(), Failure> {
        if self.core.announced_is_read() {
            return Ok(());
        }
        self.core.announcement_is_lost();
        let (now, term) = (self.own_clock(), (self.settings.fresh_term)());
        let announcement = self
            .core
            .announce(&self.settings.owner_url, PARTITIONS, term, now)
            .map_err(|refusal| Failure::End(refusal.to_string().into()))?;
        if announcement.term == term {
            self.announced_at = (self.settings.uptime)();
        }
        self.append(&announcement)
            .map_err(|barrier| Failure::Again(barrier.reason))?;
        self.meters.appends.increment(1);
        if <L as ReadLog>::Protocol::SERVES_BEFORE_READING {
            return self.believe_report(announcement.number).await;
        }
        while !self.core.announced_is_read() {
            if !self.read(reader, ANNOUNCEMENT_TIMEOUT).await? {
                let reason = format!("the announcement was not read for {ANNOUNCEMENT_TIMEOUT:?}");
                return Err(Failure::Again(reason));
            }
            if self.core.announcement_is_lost() {
                self.check_not_deposed()?;
                let reason = "another owner announced itself first";
                return Err(Failure::Again(reason.into()));
            }
        }
        Ok(())
    }

    /// A mistake that the simulator makes on purpose.
    async fn believe_report(&mut self, number: u64) -> Result<(), Failure> {
        for _ in 0..2 {
            let report = tokio::time::timeout(ANNOUNCEMENT_TIMEOUT, self.reports.recv()).await;
            match report {
                Ok(Some(report)) if report.number == number => {
                    let offset = report.result.map_err(|e| Failure::Again(e.to_string()))?;
                    self.core.believe_announcement(offset);
                    return Ok(());
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        Err(Failure::Again("no report".into()))
    }

    /// Goes by the broker's clock from here on, if the own one does not contradict it: the broker took
    /// the announcement after it was made and before it was read.
    fn set_clock(&mut self, stamp_ms: Option<i64>) -> Result<(), Failure> {
        let Some(stamp_ms) = stamp_ms else {
            // An earlier try read it, and failed then.
            self.give_up_announcement();
            let reason = "the announcement's stamp is not known any more";
            return Err(Failure::Again(reason.into()));
        };
        let (stamp, uptime) = (
            Timestamp(stamp_ms.saturating_mul(1_000)),
            (self.settings.uptime)(),
        );
        let age = uptime.saturating_sub(self.announced_at);
        if age > STAMP_AGE_MAX {
            self.give_up_announcement();
            let reason = format!("the announcement was read only after {age:?}");
            return Err(Failure::Again(reason));
        }
        let age_us = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        // What the own clock makes of the time since the broker took it: between nothing and all.
        let since_us = self.own_clock().0.saturating_sub(stamp.0);
        let off_us = match since_us {
            ..0 => since_us,
            since_us => since_us.saturating_sub(age_us).max(0),
        };
        if off_us.saturating_abs() > CLOCK_DIFFERENCE_US_MAX {
            self.give_up_announcement();
            let (off_ms, max_ms) = (off_us / 1_000, CLOCK_DIFFERENCE_US_MAX / 1_000);
            let reason = format!(
                "this machine's clock is {off_ms} ms off the broker's, which is more than {max_ms}"
            );
            return Err(Failure::After(CLOCK_RETRY, Reason::of_this_process(reason)));
        }
        self.in_office_at = Some((stamp, uptime));
        Ok(())
    }

    /// Announces anew at the next try. The term that the log has now is this owner's all the same, and
    /// must not pass for another's.
    fn give_up_announcement(&mut self) {
        self.held = Some(self.core.checkpoint().term);
        self.core.forget_announcement();
    }

    /// Reads a batch; `false` if none came for so long.
    async fn read(
        &mut self,
        reader: &mut LogReader<M, L>,
        timeout: Duration,
    ) -> Result<bool, Failure> {
        let deadline = Instant::now() + timeout;
        loop {
            // Memory holds only so much that is not saved.
            let may_read = !self.core.is_behind_with_saving();
            tokio::select! {
                biased;
                saved = next_saved(&mut self.saving) => self.is_saved(saved),
                batch = reader.next(), if may_read => {
                    self.core.read(&batch?).map_err(Failure::Store)?;
                    self.start_saving_if_many();
                    return Ok(true);
                }
                () = tokio::time::sleep_until(deadline) => {
                    if may_read {
                        return Ok(false);
                    }
                    return Err(Failure::Again("the state store can't be written".into()));
                }
            }
            self.start_saving_if_many();
        }
    }

    /// Whoever waits for an answer of an owner that was deposed is sent on to the new one, which finds
    /// by its id what became of the command. Should the partition still be assigned to this one, it
    /// comes back, but each time later.
    fn check_not_deposed(&mut self) -> Result<(), Failure> {
        let checkpoint = self.core.checkpoint();
        let (epoch, term) = (checkpoint.epoch, checkpoint.term);
        let is_own = self.held.is_none_or(|held| held == term) || self.core.announced_is_read();
        if is_own {
            return Ok(());
        }
        self.held = None;
        self.meters.depositions.increment(1);
        if self.in_office_since.elapsed() > CALM {
            self.depositions = 0;
        }
        let reason = format!("deposed: another process announced itself with epoch {epoch}");
        self.core.refuse_all(&Refusal::NotOwner(reason.clone()));
        self.send_replies();
        for _ in 0..UNANSWERED_MAX {
            let Ok((_, reply)) = self.queue.try_recv() else {
                break;
            };
            let _ = reply.send(Err(Refusal::NotOwner(reason.clone())));
        }
        self.depositions = (self.depositions + 1).min(DEPOSED_DOUBLINGS_MAX);
        let wait = DEPOSED_WAIT * 2_u32.pow(self.depositions - 1);
        // Two that depose each other must not do it in step.
        let jitter = f64::from(term[0]) / f64::from(u8::MAX);
        Err(Failure::After(wait.mul_f64(1.0 + jitter), reason.into()))
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match &error {
            ReadError::Probe(_) | ReadError::LogTooShort { .. } => {
                Self::End(Reason::of_this_process(format!(
                    "{error}; should this log be the right one all the same, delete the state \
                     store's directory, and it is made again"
                )))
            }
            error if error.is_transient() => Self::Again(error.to_string()),
            // A newer process could read on.
            ReadError::Unreadable { .. }
            | ReadError::Alarm(Alarm::ChainBroken {
                breach: Breach::NewerRule { .. },
                ..
            }) => Self::End(Reason::of_this_process(error.to_string())),
            ReadError::Alarm(_)
            | ReadError::Consumer(_)
            | ReadError::Admin(_)
            | ReadError::Codec { .. } => Self::End(error.to_string().into()),
        }
    }
}
