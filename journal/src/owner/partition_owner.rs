//! One partition's owner: its parts, and the actions that its whole life cycle needs.

use super::{
    core::{Core, Outgoing},
    handle::{OwnerHandle, OwnerSettings, Proved, Reply, Status, Submission},
    headers::Headers,
    meters::Meters,
    request::Machine,
};
use crate::{
    log::{Log, PartitionAppender},
    protocol::{CorrectProtocol, OwnerProtocol},
    store::{Answered, StateStore, StoreError},
};
use backoff::Backoff;
use kafka::{Encoder, Report, appender::AppendError};
use schemas::{ContextEvent, Timestamp, owners::ProvedRecord};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

/// Maximum number of commands of one partition without an answer. As many more may wait in its queue.
pub const UNANSWERED_MAX: usize = 4_096;
/// Unsaved commits that start a write of the state store.
const SAVE_COMMITS: usize = 5_000;
/// Wait after a failed write of the state store before the next one.
const SAVE_RETRY: Duration = Duration::from_secs(1);
/// First and longest wait of an owner that was fenced, without jitter.
const FENCED_WAIT_MIN: Duration = Duration::from_millis(250);
const FENCED_WAIT_MAX: Duration = Duration::from_secs(8);

/// The parts of an owner.
pub struct OwnerParts<M, L> {
    /// The rules of the context.
    pub machine: M,
    /// The partition of the context's journal.
    pub partition: i32,
    /// Encodes the records of the context's journal.
    pub encoder: Encoder,
    /// The cluster with the journal.
    pub log: L,
    /// The state store of the partition.
    pub store: Arc<dyn StateStore>,
    /// Its settings, and the clocks and randomness of its node.
    pub settings: OwnerSettings,
}

/// One partition's owner, to be run as a task of its own.
pub struct Owner<M: Machine, L: Log, P: OwnerProtocol = CorrectProtocol> {
    pub(super) core: Core<M, Reply, P>,
    pub(super) partition: i32,
    pub(super) settings: OwnerSettings,
    headers: Headers,
    pub(super) meters: Meters,
    pub(super) log: L,
    pub(super) appender: L::Appender,
    pub(super) reports: mpsc::Receiver<Report>,
    /// Appends without a delivery report so far.
    pub(super) unreported: usize,
    pub(super) queue: mpsc::Receiver<Submission<M::Command>>,
    pub(super) status: watch::Sender<Status>,
    proved: watch::Sender<Option<Proved>>,
    /// A record was too large for the topic, so the known limit is out of date.
    pub(super) is_limit_stale: bool,
    proved_record: watch::Sender<Option<ProvedRecord>>,
    /// Whether the state store was read.
    pub(super) restored: bool,
    /// The write of the state store in progress.
    pub(super) saving: Option<Answered<()>>,
    pub(super) save_not_before: Instant,
    /// The last term of this owner, unless it handed the partition over; another term in the log means
    /// that this owner was fenced.
    pub(super) held: Option<[u8; 16]>,
    /// When the last announcement was created, by the monotonic clock.
    pub(super) announced_at: Duration,
    /// The broker's timestamp on the announcement of the current term, and when it was read.
    pub(super) term_clock: Option<(Timestamp, Duration)>,
    pub(super) serving_since: Instant,
    /// The waits after each time that this owner is fenced.
    pub(super) fenced_waits: Backoff,
    /// A published record that the log lacks, if one was found.
    pub(super) contradicted: Option<ProvedRecord>,
}

impl<M: Machine, L: Log> Owner<M, L> {
    /// An owner that has not started yet, and the handle to its queue.
    pub fn new(parts: OwnerParts<M, L>) -> (Self, OwnerHandle<M::Command>) {
        Self::with_protocol(parts)
    }
}

impl<M: Machine, L: Log, P: OwnerProtocol> Owner<M, L, P> {
    /// Like [`Owner::new`], with the protocol `P`.
    pub fn with_protocol(parts: OwnerParts<M, L>) -> (Self, OwnerHandle<M::Command>) {
        let OwnerParts {
            machine,
            partition,
            encoder,
            log,
            store,
            settings,
        } = parts;
        let topic = M::Event::CONTEXT.topic;
        // Reports of ended terms may come between those of the next terms.
        let (appender, reports) = log.appender(topic, partition, 4 * UNANSWERED_MAX);
        let (sender, queue) = mpsc::channel(UNANSWERED_MAX);
        let (status, watched) = watch::channel(Status::TakingOver("starting".into()));
        let (proved, watched_proved) = watch::channel(None);
        let (proved_record, watched_record) = watch::channel(None);
        let mut core = Core::new(machine, topic, partition, encoder, store);
        core.share_limits(settings.limits.clone());
        core.set_hash_key(settings.hash_key.clone());
        let owner = Self {
            core,
            partition,
            settings,
            headers: Headers::new(M::Event::CONTEXT),
            meters: Meters::new(topic, partition),
            log,
            appender,
            reports,
            unreported: 0,
            queue,
            status,
            proved,
            is_limit_stale: false,
            proved_record,
            restored: false,
            saving: None,
            save_not_before: Instant::now(),
            held: None,
            announced_at: Duration::ZERO,
            term_clock: None,
            serving_since: Instant::now(),
            fenced_waits: fenced_waits(),
            contradicted: None,
        };
        let handle = OwnerHandle::new(sender, watched, watched_proved, watched_record);
        (owner, handle)
    }

    /// Starts a write of the state store if `commits` or more are not in it. A partly folded batch
    /// belongs to no checkpoint, and is not written.
    pub(super) fn start_saving(&mut self, commits: usize) {
        let is_due = self.core.unsaved() >= commits && Instant::now() >= self.save_not_before;
        let is_whole = self.restored && self.core.store_failure().is_none();
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

    pub(super) fn finish_save(&mut self, outcome: Result<(), StoreError>) {
        self.saving = None;
        self.core.finish_save(outcome.is_ok());
        if let Err(error) = outcome {
            if let StoreError::Reopened { .. } = &error {
                self.core.fail_store(error.clone());
            }
            // Serving continues until the limit of unsaved commits is reached.
            self.save_not_before = Instant::now() + SAVE_RETRY;
            tracing::error!(
                topic = topic::<M>(),
                partition = self.partition,
                %error,
                "state store write failed"
            );
            self.meters.store_errors.increment(1);
        }
    }

    /// Adds a record to the producer's queue.
    ///
    /// # Errors
    /// The record was not added, and will not be sent.
    pub(super) fn append(&mut self, outgoing: &Outgoing) -> Result<(), AppendError> {
        let (appender, key) = (&self.appender, outgoing.key.as_bytes());
        let appended = self.headers.with(outgoing, |headers| {
            appender.append(key, &outgoing.value, headers, outgoing.number)
        });
        self.unreported += usize::from(appended.is_ok());
        appended
    }

    pub(super) fn send_replies(&mut self) {
        for (reply, answer) in self.core.take_replies() {
            if answer.as_ref().is_ok_and(|answer| answer.replayed) {
                self.meters.replays.increment(1);
            }
            // A client that is gone may send the command again under the same id.
            let _ = reply.send(answer);
        }
    }

    pub(super) fn set_status(&self, status: Status) {
        self.status.send_if_modified(|previous| {
            let is_new = *previous != status;
            *previous = status;
            is_new
        });
    }

    /// The time that commits carry: the broker's timestamp at take-over plus monotonic time. So a jump
    /// of the machine's clock does not expire answers.
    pub(super) fn now(&self) -> Timestamp {
        let by_broker = self.term_clock.map(|(stamp, since)| {
            let passed = (self.settings.uptime)().saturating_sub(since);
            let passed_us = i64::try_from(passed.as_micros()).unwrap_or(i64::MAX);
            Timestamp(stamp.0.saturating_add(passed_us))
        });
        P::commit_time(by_broker, || self.own_clock())
    }

    /// The machine's clock, which may be wrong.
    pub(super) fn own_clock(&self) -> Timestamp {
        (self.settings.clock)()
    }

    /// Publishes the proved position, and updates the metrics from the protocol's own counts.
    #[expect(clippy::cast_precision_loss, reason = "gauges of some thousands")]
    pub(super) fn publish(&mut self) {
        let checkpoint = self.core.checkpoint();
        if let Some(log_id) = checkpoint.log_id {
            let next_offset = checkpoint.next_offset;
            let proved = Proved {
                log_id,
                next_offset,
            };
            self.proved.send_replace(Some(proved));
            // After a take-over from its store, the owner may know less than it has published.
            let record = checkpoint.probe_offset.map(|offset| ProvedRecord {
                log_id,
                offset,
                hash: checkpoint.hash,
            });
            self.proved_record.send_replace(record);
        }
        let counts = self.core.take_counts();
        let meters = &self.meters;
        meters.no_ops.increment(counts.no_ops);
        meters.decided_again.increment(counts.decided_again);
        meters.joined.increment(counts.joined);
        let epoch = match self.core.is_serving() {
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

/// The waits of an owner that was fenced, without the jitter, which the owner adds.
fn fenced_waits() -> Backoff {
    Backoff::doubling(FENCED_WAIT_MIN, FENCED_WAIT_MAX)
}

/// Waits for the store's answer to the call in progress; never returns if there is no call.
pub(super) async fn next_answer<T>(call: &mut Option<Answered<T>>) -> Result<T, StoreError> {
    match call {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}

pub(super) fn topic<M: Machine>() -> &'static str {
    M::Event::CONTEXT.topic
}
