//! Drives an owner's protocol over a log: stands by, takes over, serves, and takes over again after a
//! barrier.

use super::{
    core::{Barrier, Core, Outgoing},
    handle::{OwnerHandle, OwnerSettings, Proved, Reason, Reply, Status, Submission},
    headers::Headers,
    meters::Meters,
    request::{Machine, Refusal},
};
use crate::{
    log::{Line, Log, ReadLog},
    protocol::Protocol,
    store::{StateStore, StoreError},
};
use futures_util::future::BoxFuture;
use kafka::{Encoder, Report};
use schemas::{ContextEvent, Timestamp};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Most commands of one partition without an answer, and as many again in its queue.
pub const UNANSWERED_MAX: usize = 4_096;
/// Commits that are worth a write of the state store.
const SAVE_COMMITS: usize = 5_000;
/// How long a write of the state store that failed is not tried again.
const SAVE_RETRY: Duration = Duration::from_secs(1);
/// How long the last write may take when an owner ends; a longer one only costs the next start time.
const LAST_SAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// One partition's owner, to be run as a task of its own.
pub struct Owner<M: Machine, L: Log> {
    pub(super) core: Core<M, Reply, <L as ReadLog>::Protocol>,
    pub(super) partition: i32,
    pub(super) settings: OwnerSettings,
    headers: Headers,
    pub(super) meters: Meters,
    pub(super) log: L,
    pub(super) line: L::Line,
    pub(super) reports: mpsc::Receiver<Report>,
    /// Appends whose report has not come yet.
    pub(super) unreported: usize,
    pub(super) queue: mpsc::Receiver<Submission<M::Command>>,
    pub(super) status: watch::Sender<Status>,
    proved: watch::Sender<Option<Proved>>,
    /// Whether the state store was looked into.
    pub(super) restored: bool,
    /// The write of the state store that is under way.
    pub(super) saving: Option<BoxFuture<'static, Result<(), StoreError>>>,
    pub(super) save_not_before: Instant,
    /// The term that was last held and not handed over; another one in the log means that this owner
    /// was deposed.
    pub(super) held: Option<[u8; 16]>,
    /// When the last announcement was made, by the clock that nobody sets.
    pub(super) announced_at: Duration,
    /// The broker's stamp on the announcement of the term in office, and when it was read.
    pub(super) in_office_at: Option<(Timestamp, Duration)>,
    pub(super) in_office_since: Instant,
    /// How often this owner was deposed of late.
    pub(super) depositions: u32,
}

/// Why serving ended.
pub(super) enum Served {
    /// The process stops.
    Stopped,
    /// The partition is assigned to somebody else.
    Unassigned,
    /// An outcome is unknown.
    Barrier(Barrier),
    /// The state store can't be read.
    Broken(StoreError),
}

impl<M: Machine, L: Log> Owner<M, L> {
    /// An owner that has done nothing yet, and the handle to its queue.
    pub fn new(
        machine: M,
        partition: i32,
        encoder: Encoder,
        log: L,
        store: Arc<dyn StateStore>,
        settings: OwnerSettings,
    ) -> (Self, OwnerHandle<M::Command>) {
        let topic = M::Event::CONTEXT.topic;
        // Reports of a term that ended may come beside those of the next ones.
        let (line, reports) = log.line(topic, partition, 4 * UNANSWERED_MAX);
        let (sender, queue) = mpsc::channel(UNANSWERED_MAX);
        let (status, watched) = watch::channel(Status::TakingOver("starting".into()));
        let (proved, seen) = watch::channel(None);
        let owner = Self {
            core: Core::new(machine, topic, partition, encoder, store),
            partition,
            settings,
            headers: Headers::new(M::Event::CONTEXT),
            meters: Meters::new(topic, partition),
            log,
            line,
            reports,
            unreported: 0,
            queue,
            status,
            proved,
            restored: false,
            saving: None,
            save_not_before: Instant::now(),
            held: None,
            announced_at: Duration::ZERO,
            in_office_at: None,
            in_office_since: Instant::now(),
            depositions: 0,
        };
        (owner, OwnerHandle::new(sender, watched, seen))
    }

    /// Serves while `assigned`, until `stop` or for good. Commands that are under way at `stop` still
    /// get their answers.
    pub async fn run(mut self, stop: CancellationToken, mut assigned: watch::Receiver<bool>) {
        loop {
            if !self.stand_by(&stop, &mut assigned).await {
                return self.end("shutting down".into()).await;
            }
            let taken = tokio::select! {
                biased;
                () = stop.cancelled() => Err(Reason::from("shutting down")),
                _ = becomes(&mut assigned, false) => continue,
                taken = self.take_over() => taken,
            };
            if let Err(reason) = taken {
                return self.end(reason).await;
            }
            let served = self.serve(&stop, &mut assigned).await;
            match served {
                Served::Stopped => return self.end("shutting down".into()).await,
                Served::Unassigned => {}
                Served::Barrier(barrier) => {
                    tracing::warn!(
                        topic = topic::<M>(),
                        partition = self.partition,
                        unproved = self.core.unproved(),
                        trace_id = self.core.first_unproved_trace(),
                        %barrier
                    );
                    self.meters.barriers.increment(1);
                    self.tell(Status::TakingOver(barrier.to_string().into()));
                    self.core.leave_office();
                    self.send_replies();
                }
                Served::Broken(error) => {
                    tracing::error!(topic = topic::<M>(), partition = self.partition, %error);
                    self.tell(Status::TakingOver(error.to_string().into()));
                    self.core.leave_office();
                    self.send_replies();
                    self.recover_store(&error).await;
                }
            }
            self.show();
        }
    }

    /// Waits for the partition; `false` if the process stops first. Whoever asks meanwhile is turned
    /// away.
    async fn stand_by(
        &mut self,
        stop: &CancellationToken,
        assigned: &mut watch::Receiver<bool>,
    ) -> bool {
        if *assigned.borrow_and_update() {
            let was_away = matches!(*self.status.borrow(), Status::Standby | Status::Leaving);
            if was_away {
                self.tell(Status::TakingOver("the partition was assigned".into()));
            }
            return !stop.is_cancelled();
        }
        self.tell(Status::Standby);
        let refusal = Refusal::NotOwner("the partition is assigned to another process".into());
        self.core.refuse_all(&refusal);
        self.send_replies();
        self.show();
        self.held = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return false,
                is_assigned = becomes(assigned, true) => {
                    // Without a sender nobody will ever assign it.
                    if !is_assigned {
                        stop.cancelled().await;
                        return false;
                    }
                    self.tell(Status::TakingOver("the partition was assigned".into()));
                    return true;
                }
                Some((_, reply)) = self.queue.recv() => {
                    let _ = reply.send(Err(refusal.clone()));
                }
                saved = next_saved(&mut self.saving) => self.is_saved(saved),
            }
        }
    }

    async fn end(mut self, reason: Reason) {
        self.tell(Status::Ended(reason.clone()));
        self.core.refuse_all(&Refusal::NotOwner(reason.to_string()));
        self.send_replies();
        self.show();
        self.queue.close();
        while let Ok((_, reply)) = self.queue.try_recv() {
            let _ = reply.send(Err(Refusal::NotOwner(reason.to_string())));
        }
        let saved = tokio::time::timeout(LAST_SAVE_TIMEOUT, async {
            // The write under way, then one with all that came since.
            for _ in 0..2 {
                self.start_saving(1);
                if self.saving.is_some() {
                    let saved = next_saved(&mut self.saving).await;
                    self.is_saved(saved);
                }
            }
        });
        if saved.await.is_err() {
            tracing::warn!(
                topic = topic::<M>(),
                partition = self.partition,
                "the state store was not saved to the end"
            );
        }
    }

    /// Begins a write of the state store if `commits` or more are not in it. What was folded in part
    /// belongs to no checkpoint, and is not written.
    pub(super) fn start_saving(&mut self, commits: usize) {
        let is_due = self.core.unsaved() >= commits && Instant::now() >= self.save_not_before;
        let is_whole = self.restored && self.core.broken().is_none();
        if self.saving.is_none()
            && is_due
            && is_whole
            && let Some(changes) = self.core.save()
        {
            self.saving = Some(self.core.store().write(changes));
        }
    }

    pub(super) fn start_saving_if_many(&mut self) {
        self.start_saving(SAVE_COMMITS);
    }

    pub(super) fn is_saved(&mut self, saved: Result<(), StoreError>) {
        self.saving = None;
        self.core.is_saved(saved.is_ok());
        if let Err(error) = saved {
            if let StoreError::Reopened { .. } = &error {
                self.core.lose_store(error.clone());
            }
            // Serving goes on for as long as memory may hold what is not saved.
            self.save_not_before = Instant::now() + SAVE_RETRY;
            tracing::error!(topic = topic::<M>(), partition = self.partition, %error);
            self.meters.store_errors.increment(1);
        }
    }

    pub(super) fn append(&mut self, outgoing: &Outgoing) -> Result<(), Barrier> {
        let (line, key) = (&self.line, outgoing.key.as_bytes());
        let appended = self.headers.with(outgoing, |headers| {
            line.append(key, &outgoing.value, headers, outgoing.number)
        });
        match appended {
            Ok(()) => {
                self.unreported += 1;
                Ok(())
            }
            Err(error) => Err(Barrier {
                reason: error.to_string(),
            }),
        }
    }

    pub(super) fn send_replies(&mut self) {
        for (reply, answer) in self.core.take_replies() {
            if answer.as_ref().is_ok_and(|answer| answer.replayed) {
                self.meters.replays.increment(1);
            }
            // Whoever has gone away may ask again under the same id.
            let _ = reply.send(answer);
        }
    }

    pub(super) fn tell(&self, status: Status) {
        self.status.send_if_modified(|told| {
            let is_new = *told != status;
            *told = status;
            is_new
        });
    }

    /// The time that commits bear: the broker's at take-over, and from there on by a clock that
    /// nobody sets. So a machine whose clock leaps makes no answers expire.
    pub(super) fn now(&self) -> Timestamp {
        match self.in_office_at {
            Some((stamp, since)) if !<L as ReadLog>::Protocol::ANSWERS_EXPIRE_BY_CLOCK => {
                let passed = (self.settings.uptime)().saturating_sub(since);
                let passed_us = i64::try_from(passed.as_micros()).unwrap_or(i64::MAX);
                Timestamp(stamp.0.saturating_add(passed_us))
            }
            Some(_) | None => self.own_clock(),
        }
    }

    /// The machine's clock, which may be wrong.
    pub(super) fn own_clock(&self) -> Timestamp {
        (self.settings.clock)()
    }

    /// Tells how far the log is known, and brings the metrics up to date with what the protocol counts
    /// by itself.
    #[expect(clippy::cast_precision_loss, reason = "gauges of some thousands")]
    pub(super) fn show(&mut self) {
        let checkpoint = self.core.checkpoint();
        if let Some(log_id) = checkpoint.log_id {
            let next_offset = checkpoint.next_offset;
            let proved = Proved {
                log_id,
                next_offset,
            };
            self.proved.send_replace(Some(proved));
        }
        let counts = self.core.take_counts();
        let meters = &self.meters;
        meters.no_ops.increment(counts.no_ops);
        meters.decided_again.increment(counts.decided_again);
        meters.joined.increment(counts.joined);
        let epoch = match self.core.in_office() {
            true => self.core.checkpoint().epoch,
            false => 0,
        };
        meters.epoch.set(epoch as f64);
        meters.unproved.set(self.core.unproved() as f64);
        meters.unanswered.set(self.core.unanswered() as f64);
        meters.queued.set(self.queue.len() as f64);
        meters.unsaved.set(self.core.unsaved() as f64);
    }
}

/// Waits until it is `value`; `false` if it never will be.
async fn becomes(assigned: &mut watch::Receiver<bool>, value: bool) -> bool {
    assigned
        .wait_for(|assigned| *assigned == value)
        .await
        .is_ok()
}

/// The outcome of the write under way; never, if there is none.
pub(super) async fn next_saved(
    saving: &mut Option<BoxFuture<'static, Result<(), StoreError>>>,
) -> Result<(), StoreError> {
    match saving {
        Some(saving) => saving.await,
        None => std::future::pending().await,
    }
}

pub(super) fn topic<M: Machine>() -> &'static str {
    M::Event::CONTEXT.topic
}
