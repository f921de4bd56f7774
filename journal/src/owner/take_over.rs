//! How an owner starts to serve: it resumes from its store or from offset 0, reads the log, announces
//! itself, and reads its announcement.

use super::{
    failure::{DECLINED_RETRY, Failure},
    handle::{Reason, Status},
    partition_owner::{Owner, UNANSWERED_MAX, next_answer, topic},
    process_limits::TakeOverSlot,
    request::{Machine, Refusal},
};
use crate::{
    log::{Log, PartitionAppender},
    protocol::{OwnerProtocol, TakeOverSteps},
    reader::Reader,
    store::StoreError,
};
use backoff::Backoff;
use kafka::{BrokerRule, Report, appender::AppendError};
use schemas::ContextEvent;
use std::time::Duration;
use tokio::time::Instant;

/// Longest time for the owner's announcement to be read before it is sent again; longer than the producer's
/// time-out.
const ANNOUNCEMENT_TIMEOUT: Duration = Duration::from_secs(6);
/// Longest time without a record where the log is known to continue.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// After serving for this long, an owner that is fenced starts with the first wait again.
const STABLE_TERM: Duration = Duration::from_secs(60);
/// Offsets between two progress messages while the log is read.
const PROGRESS_OFFSETS: i64 = 100_000;

type LogReader<M, L, P> = Reader<<M as Machine>::Event, L, P>;

/// An owner that has announced itself, and the reader that reads the announcement.
struct Announced<'a, M: Machine, L: Log, P: OwnerProtocol> {
    owner: &'a mut Owner<M, L, P>,
    reader: &'a mut LogReader<M, L, P>,
}

impl<M: Machine, L: Log, P: OwnerProtocol> Owner<M, L, P> {
    /// Makes attempts until this owner serves; an error is final.
    pub(super) async fn take_over(&mut self) -> Result<(), Reason> {
        let (topic, partition) = (topic::<M>(), self.partition);
        let started = Instant::now();
        let mut waits = Backoff::for_server();
        loop {
            let failure = match self.attempt_take_over().await {
                Ok(()) => {
                    self.meters.takeover_seconds.record(started.elapsed());
                    self.publish();
                    return Ok(());
                }
                Err(failure) => failure,
            };
            let (wait, mut refusal) = (waits.wait(), None);
            let (wait, reason) = match failure {
                Failure::Retry(reason) => (wait, reason.into()),
                Failure::RetryAfter(wait, reason) => (wait, reason),
                Failure::Decline(wait, reason) => {
                    self.decline(wait, reason).await;
                    continue;
                }
                Failure::Forbidden(reason) => {
                    self.core.refuse_forbidden(&reason);
                    self.send_replies();
                    refusal = Some(Refusal::Forbidden(reason.clone()));
                    (wait, reason.into())
                }
                Failure::Store(error) => {
                    self.recover_store(&error).await;
                    (wait, error.to_string().into())
                }
                Failure::End(reason) => {
                    tracing::error!(topic, partition, %reason, "owner ends");
                    return Err(reason);
                }
            };
            tracing::warn!(topic, partition, %reason, "take-over failed, will retry");
            self.set_status(Status::TakingOver(reason));
            self.publish();
            self.wait(wait, refusal).await;
        }
    }

    /// Waits before the next attempt. With a refusal, commands that come meanwhile get it at once.
    async fn wait(&mut self, wait: Duration, refusal: Option<Refusal>) {
        let deadline = Instant::now() + wait;
        let Some(refusal) = refusal else {
            return tokio::time::sleep_until(deadline).await;
        };
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return,
                Some((_, reply)) = self.queue.recv() => {
                    let _ = reply.send(Err(refusal.clone()));
                }
            }
        }
    }

    /// Declines the partition for a while: refuses commands, so that their senders find another owner if there
    /// is one.
    async fn decline(&mut self, wait: Duration, reason: Reason) {
        let (topic, partition) = (topic::<M>(), self.partition);
        let refusal = Refusal::NotOwner(reason.to_string());
        let epoch = self.core.checkpoint().epoch;
        tracing::error!(topic, partition, epoch, %reason, "owner declines the partition");
        self.set_status(Status::Declined { reason, epoch });
        self.core.refuse_all(&refusal);
        self.send_replies();
        self.publish();
        let until = Instant::now() + wait;
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(until) => return,
                Some((_, reply)) = self.queue.recv() => {
                    let _ = reply.send(Err(refusal.clone()));
                }
            }
        }
    }

    /// Reads to the end of the log, announces, and reads up to the announcement.
    async fn attempt_take_over(&mut self) -> Result<(), Failure> {
        let (topic, partition) = (topic::<M>(), self.partition);
        if let Some(reason) = (self.settings.objection)() {
            let reason = Reason::suspecting_this_node(reason);
            return Err(Failure::Decline(DECLINED_RETRY, reason));
        }
        self.appender
            .recover()
            .map_err(|error| Failure::Retry(error.to_string()))?;
        // Reading the log shows more than the reports of the last term.
        while self.reports.try_recv().is_ok() {
            self.unreported = self.unreported.saturating_sub(1);
        }
        if self.is_limit_stale {
            let refreshed = self.log.refresh_limits(topic).await;
            refreshed.map_err(|error| Failure::Retry(error.to_string()))?;
            self.is_limit_stale = false;
        }
        self.core
            .set_record_bytes_max(self.appender.record_bytes_max());
        self.restore().await?;
        let end = self.log.end(topic, partition).await;
        let end = end.map_err(|error| Failure::Retry(error.to_string()))?;
        let published = (self.settings.published)();
        if let Some(published) = published {
            self.check_length(&published, end).await?;
        }
        let _slot = self.take_over_slot().await;
        let start = self.core.checkpoint().clone();
        let role = format!("owner-{}-{partition}", M::Event::CONTEXT.name);
        let mut reader = Reader::open_with(&self.log, &role, vec![start.clone()]).await?;
        if let Some(published) = published {
            reader.note_hash_at(partition, published.offset);
        }
        // Check this first: announcing ourselves in a log that our store was not built from would fence
        // its rightful owner.
        match tokio::time::timeout(READ_TIMEOUT, reader.confirm()).await {
            Ok(confirmed) => confirmed?,
            Err(_) => {
                let reason = format!("the last valid record was not read for {READ_TIMEOUT:?}");
                return Err(Failure::Retry(reason));
            }
        }
        self.catch_up(&mut reader, end).await?;
        if let Some(published) = published {
            let found = reader.noted_hash(partition);
            self.check_published(&published, &start, found)?;
        }
        self.term_clock = None;
        let sent = self.announce()?;
        let reader = &mut reader;
        P::confirm_announcement(
            &mut Announced {
                owner: self,
                reader,
            },
            sent,
        )
        .await?;
        self.core.start_serving(self.now());
        self.restored = true;
        let checkpoint = self.core.checkpoint();
        let (epoch, term) = (checkpoint.epoch, checkpoint.term);
        self.held = Some(term);
        self.serving_since = Instant::now();
        self.meters.takeovers.increment(1);
        let offset = checkpoint.next_offset;
        tracing::info!(topic, partition, epoch, offset, "owner serves");
        // A reader of the status must find the announcement as the last proved record.
        self.publish();
        self.set_status(Status::Serving { epoch, term });
        Ok(())
    }

    /// Waits for a slot to read the log. Without slots, hundreds of owners would each start a client at the same time.
    async fn take_over_slot(&mut self) -> TakeOverSlot {
        let is_recovery = self.held.is_some();
        let limits = self.settings.limits.clone();
        if let Some(slot) = limits.free_slot(is_recovery) {
            return slot;
        }
        let status = "waiting for other take-overs of this node to end";
        self.set_status(Status::TakingOver(status.into()));
        let slot = limits.slot(is_recovery).await;
        self.set_status(Status::TakingOver("reading the log".into()));
        slot
    }

    /// After an error of the state store, while not serving: reads everything from the log again if an
    /// entry is damaged. Otherwise the entries are kept, and the next take-over resumes from them.
    pub(super) async fn recover_store(&mut self, error: &StoreError) {
        // If this is interrupted, the next take-over reads the store again.
        self.restored = false;
        self.await_save().await;
        let recovered = match error {
            StoreError::Unreadable { .. } => self.core.start_over().await,
            StoreError::InUse { .. }
            | StoreError::ForeignDirectory { .. }
            | StoreError::HashKeyMismatch { .. }
            | StoreError::Unavailable { .. }
            | StoreError::Reopened { .. }
            | StoreError::Unwritable { .. } => return,
        };
        self.restored = recovered.is_ok();
        if let Err(error) = recovered {
            tracing::error!(
                topic = topic::<M>(),
                partition = self.partition,
                %error,
                "state store recovery failed"
            );
        }
    }

    /// Waits for the write in progress, which must not land after the next read.
    async fn await_save(&mut self) {
        if self.saving.is_some() {
            let outcome = next_answer(&mut self.saving).await;
            self.finish_save(outcome);
        }
    }

    /// Reads the state store, the first time, and after a recovery that was interrupted.
    async fn restore(&mut self) -> Result<(), Failure> {
        if !self.restored {
            self.await_save().await;
            self.core.restore().await?;
            self.restored = true;
            let offset = self.core.checkpoint().next_offset;
            tracing::info!(
                topic = topic::<M>(),
                partition = self.partition,
                offset,
                "owner resumes from its state store"
            );
        }
        Ok(())
    }

    /// Reads all records before `end`.
    async fn catch_up(&mut self, reader: &mut LogReader<M, L, P>, end: i64) -> Result<(), Failure> {
        let mut reported = self.core.checkpoint().next_offset;
        while self.core.checkpoint().next_offset < end {
            // If there are more records after all, the rule makes the announcement void.
            if !self.read(reader, READ_TIMEOUT).await? {
                break;
            }
            let offset = self.core.checkpoint().next_offset;
            if offset - reported >= PROGRESS_OFFSETS {
                reported = offset;
                tracing::info!(
                    topic = topic::<M>(),
                    partition = self.partition,
                    offset,
                    end,
                    "owner reads the log"
                );
                let progress = format!("reading the log: {offset} of {end}");
                self.set_status(Status::TakingOver(progress.into()));
                self.publish();
            }
        }
        self.check_not_fenced()
    }

    /// Appends an announcement and returns its number; `None` if an earlier attempt wrote the last announcement read.
    fn announce(&mut self) -> Result<Option<u64>, Failure> {
        if self.core.has_read_announcement() {
            return Ok(None);
        }
        self.core.drop_lost_announcement();
        let (now, term) = (self.own_clock(), (self.settings.fresh_term)());
        let (owner_url, partitions) = (&self.settings.owner_url, self.settings.partitions);
        let announcement = self
            .core
            .announce(owner_url, partitions, term, now)
            .map_err(|refusal| Failure::End(refusal.to_string().into()))?;
        if announcement.term == term {
            self.announced_at = (self.settings.uptime)();
        }
        self.append(&announcement)
            .map_err(|error| Failure::Retry(error.to_string()))?;
        self.meters.appends.increment(1);
        Ok(Some(announcement.number))
    }

    /// Reads up to the owner's announcement.
    async fn read_up_to_announcement(
        &mut self,
        reader: &mut LogReader<M, L, P>,
    ) -> Result<(), Failure> {
        while !self.core.has_read_announcement() {
            if !self.read(reader, ANNOUNCEMENT_TIMEOUT).await? {
                let reason = format!("the announcement was not read for {ANNOUNCEMENT_TIMEOUT:?}");
                return Err(Failure::Retry(reason));
            }
            if self.core.drop_lost_announcement() {
                self.check_not_fenced()?;
                let reason = "another owner announced itself first";
                return Err(Failure::Retry(reason.into()));
            }
        }
        Ok(())
    }

    /// Reads a batch; `false` if none came within `timeout`.
    async fn read(
        &mut self,
        reader: &mut LogReader<M, L, P>,
        timeout: Duration,
    ) -> Result<bool, Failure> {
        let deadline = Instant::now() + timeout;
        loop {
            // Unsaved commits are kept in memory, so their number is limited.
            let may_read = !self.core.is_behind_with_saving();
            tokio::select! {
                biased;
                outcome = next_answer(&mut self.saving) => self.finish_save(outcome),
                batch = reader.next(), if may_read => {
                    let batch = batch?;
                    if let Some(fetching) = self.core.fetch_for(&batch) {
                        let fetched = fetching.await;
                        self.core.remember(fetched).map_err(Failure::Store)?;
                    }
                    self.core.read(&batch);
                    self.start_saving_if_many();
                    return Ok(true);
                }
                Some(report) = self.reports.recv() => {
                    self.unreported = self.unreported.saturating_sub(1);
                    self.check_announcement(report)?;
                }
                () = tokio::time::sleep_until(deadline) => {
                    if may_read {
                        return Ok(false);
                    }
                    return Err(Failure::Retry("the state store can't be written".into()));
                }
            }
            self.start_saving_if_many();
        }
    }

    /// Fails if the brokers refuse the announcement in flight. Reports of earlier records add nothing to what
    /// the log shows.
    fn check_announcement(&self, report: Report) -> Result<(), Failure> {
        if self.core.announced_number() != Some(report.number) {
            return Ok(());
        }
        match report.result {
            Err(
                error @ AppendError::Refused {
                    rule: BrokerRule::Access,
                    ..
                },
            ) => Err(Failure::Forbidden(error.to_string())),
            // The announcement may be in the log, or another attempt may succeed.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Fails if another node's term is in force. The waiting commands are refused. Their senders send them again to
    /// the new owner, which finds each outcome by the command's id. If the partition is still assigned to this node,
    /// the owner takes over again, after a longer wait each time.
    fn check_not_fenced(&mut self) -> Result<(), Failure> {
        let checkpoint = self.core.checkpoint();
        let (epoch, term) = (checkpoint.epoch, checkpoint.term);
        let is_own = self.held.is_none_or(|held| held == term) || self.core.has_read_announcement();
        if is_own {
            return Ok(());
        }
        self.held = None;
        self.meters.fenced.increment(1);
        if self.serving_since.elapsed() > STABLE_TERM {
            self.fenced_waits.reset();
        }
        let reason = format!("fenced: another node announced itself with epoch {epoch}");
        self.core.refuse_all(&Refusal::NotOwner(reason.clone()));
        self.send_replies();
        for _ in 0..UNANSWERED_MAX {
            let Ok((_, reply)) = self.queue.try_recv() else {
                break;
            };
            let _ = reply.send(Err(Refusal::NotOwner(reason.clone())));
        }
        // Two owners that fence each other must not do so in lockstep.
        let jitter = f64::from(term[0]) / f64::from(u8::MAX);
        let wait = self.fenced_waits.wait().mul_f64(1.0 + jitter);
        Err(Failure::RetryAfter(wait, reason.into()))
    }
}

impl<M: Machine, L: Log, P: OwnerProtocol> TakeOverSteps for Announced<'_, M, L, P> {
    type Failure = Failure;

    async fn read_announcement(&mut self) -> Result<(), Failure> {
        self.owner.read_up_to_announcement(self.reader).await?;
        let stamp_ms = self.reader.last_stamp_ms(self.owner.partition);
        self.owner.set_clock(stamp_ms).await
    }

    async fn next_report(&mut self) -> Option<Report> {
        let reports = &mut self.owner.reports;
        let report = tokio::time::timeout(ANNOUNCEMENT_TIMEOUT, reports.recv()).await;
        report.ok().flatten()
    }

    fn accept_announcement(&mut self, offset: i64) {
        self.owner.core.accept_announcement(offset);
    }

    fn retriable(reason: String) -> Failure {
        Failure::Retry(reason)
    }
}
