//! Drives an owner over Kafka: takes over, serves, and takes over again after a barrier.

use super::{
    core::{Barrier, Core, Outgoing},
    request::{Answer, Machine, Refusal, Request},
};
use crate::{
    metrics as names,
    reader::{ReadError, Reader, Source},
};
use kafka::{Appender, Encoder, Report, appender::AppendLine};
use schemas::{ContextEvent, Timestamp, topics::PARTITIONS};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Most commands of one partition without an answer, and as many again in its queue.
pub const UNANSWERED_MAX: usize = 4_096;
/// Commands taken from the queue, or reports taken, in one go.
const RUN_MAX: usize = 512;
/// How long the own announcement may take to be read before it is sent again; longer than the
/// producer tries.
const ANNOUNCEMENT_TIMEOUT: Duration = Duration::from_secs(6);
/// How long the log may be silent where it is known to go on.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long commits under way may take to be proved at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(6);

type Reply = oneshot::Sender<Result<Answer, Refusal>>;

/// How an owner is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It does not serve yet, or not at the moment; it goes on trying.
    TakingOver(String),
    /// It serves.
    InOffice {
        /// The term's number.
        epoch: i64,
    },
    /// It serves no more: another process announced itself, or the log can't be read on.
    Ended(String),
}

/// What an owner needs to know of its process.
#[derive(Debug, Clone)]
pub struct OwnerSettings {
    /// Where this process takes commands, as others reach it.
    pub owner_url: String,
}

/// Takes commands for one partition.
pub struct OwnerHandle<C> {
    queue: mpsc::Sender<(Request<C>, Reply)>,
    status: watch::Receiver<Status>,
}

/// One partition's owner, to be run as a task of its own.
pub struct Owner<M: Machine> {
    core: Core<M, Reply>,
    partition: i32,
    settings: OwnerSettings,
    source: Source,
    line: AppendLine,
    reports: mpsc::Receiver<Report>,
    /// Appends whose report has not come yet.
    unreported: usize,
    queue: mpsc::Receiver<(Request<M::Command>, Reply)>,
    status: watch::Sender<Status>,
    /// The term that was last held; another one in the log means that this owner was deposed.
    held: Option<[u8; 16]>,
}

/// Why a take-over did not come about.
enum Failure {
    /// Nothing was read for so long; another try may help.
    Silent(Duration),
    /// Another try may help.
    Again(String),
    /// No try will.
    End(String),
}

impl<C> OwnerHandle<C> {
    /// Hands a command in, and waits while the queue is full. The answer comes through the receiver;
    /// if that closes without one, the owner has ended.
    pub async fn submit(
        &self,
        request: Request<C>,
    ) -> Result<oneshot::Receiver<Result<Answer, Refusal>>, Refusal> {
        if let Status::Ended(reason) = &*self.status.borrow() {
            return Err(Refusal::Unavailable(reason.clone()));
        }
        let (reply, answer) = oneshot::channel();
        match self.queue.send((request, reply)).await {
            Ok(()) => Ok(answer),
            Err(_) => Err(Refusal::Unavailable("the owner has ended".into())),
        }
    }

    /// How the owner is doing, now and from now on.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }
}

impl<M: Machine> Owner<M> {
    /// An owner that has done nothing yet, and the handle to its queue.
    pub fn new(
        machine: M,
        partition: i32,
        encoder: Encoder,
        source: Source,
        appender: &Appender,
        settings: OwnerSettings,
    ) -> (Self, OwnerHandle<M::Command>) {
        let topic = M::Event::CONTEXT.topic;
        // Reports of a term that ended may come beside those of the next ones.
        let (line, reports) = appender.line(topic, partition, 4 * UNANSWERED_MAX);
        let (sender, queue) = mpsc::channel(UNANSWERED_MAX);
        let (status, watched) = watch::channel(Status::TakingOver("starting".into()));
        let core = Core::new(machine, topic, partition, encoder);
        let owner = Self {
            core,
            partition,
            settings,
            source,
            line,
            reports,
            unreported: 0,
            queue,
            status,
            held: None,
        };
        (
            owner,
            OwnerHandle {
                queue: sender,
                status: watched,
            },
        )
    }

    /// Takes over and serves, until `stop` or for good. Commands that are under way at `stop` still
    /// get their answers.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let taken = tokio::select! {
                taken = self.take_over() => taken,
                () = stop.cancelled() => Err("shutting down".to_owned()),
            };
            if let Err(reason) = taken {
                return self.end(&reason);
            }
            match self.serve(&stop).await {
                Ok(()) => return self.end("shutting down"),
                Err(barrier) => {
                    tracing::warn!(topic = topic::<M>(), partition = self.partition, %barrier);
                    metrics::counter!(names::BARRIERS, self.labels()).increment(1);
                    let _ = self.status.send(Status::TakingOver(barrier.to_string()));
                    self.core.leave_office();
                    self.send_replies();
                }
            }
        }
    }

    fn end(mut self, reason: &str) {
        let _ = self.status.send(Status::Ended(reason.to_owned()));
        self.core.refuse_all(reason);
        self.send_replies();
        self.queue.close();
        while let Ok((_, reply)) = self.queue.try_recv() {
            let _ = reply.send(Err(Refusal::Unavailable(reason.to_owned())));
        }
    }

    /// Tries until this owner is in office; an error is for good.
    async fn take_over(&mut self) -> Result<(), String> {
        let mut waits = crate::reader::backoff();
        loop {
            match self.try_take_over().await {
                Ok(()) => return Ok(()),
                Err(Failure::End(reason)) => {
                    tracing::error!(
                        topic = topic::<M>(),
                        partition = self.partition,
                        reason,
                        "owner ends"
                    );
                    return Err(reason);
                }
                Err(failure) => {
                    let reason = match failure {
                        Failure::Silent(time) => format!("nothing was read for {time:?}"),
                        Failure::Again(reason) | Failure::End(reason) => reason,
                    };
                    tracing::warn!(
                        topic = topic::<M>(),
                        partition = self.partition,
                        reason,
                        "no take-over yet"
                    );
                    let _ = self.status.send(Status::TakingOver(reason));
                    tokio::time::sleep(waits.next().unwrap_or(READ_TIMEOUT)).await;
                }
            }
        }
    }

    /// Reads to the end of the log, announces, and reads up to the announcement.
    async fn try_take_over(&mut self) -> Result<(), Failure> {
        let (topic, partition) = (topic::<M>(), self.partition);
        // What the reports of the last term say, reading the log says better.
        while self.reports.try_recv().is_ok() {
            self.unreported = self.unreported.saturating_sub(1);
        }
        let end = self.source.admin.watermarks(topic, partition).await;
        let end = end.map_err(|error| Failure::Again(error.to_string()))?.high;
        let start = self.core.checkpoint().clone();
        let role = format!("owner-{}-{partition}", M::Event::CONTEXT.name);
        let mut reader = Reader::open(&self.source, &role, vec![start]).await?;
        while self.core.checkpoint().next_offset < end {
            match self.read(&mut reader, READ_TIMEOUT).await {
                // The end may be a foreign transaction's marker, which nobody is given. Should there
                // be more after all, the rule makes the announcement void.
                Err(Failure::Silent(_)) => break,
                read => read?,
            }
        }
        self.announce_and_read(&mut reader).await?;
        self.core.take_office(now());
        let checkpoint = self.core.checkpoint();
        let epoch = checkpoint.epoch;
        self.held = Some(checkpoint.term);
        metrics::counter!(names::TAKEOVERS, self.labels()).increment(1);
        tracing::info!(
            topic,
            partition,
            epoch,
            offset = checkpoint.next_offset,
            "in office"
        );
        let _ = self.status.send(Status::InOffice { epoch });
        Ok(())
    }

    /// Makes the own announcement the last one read. One that an earlier try sent may stand in the
    /// log by now.
    async fn announce_and_read(&mut self, reader: &mut Reader<M::Event>) -> Result<(), Failure> {
        if self.core.announced_is_read() {
            return Ok(());
        }
        self.core.announcement_is_lost();
        self.check_not_deposed()?;
        let term = uuid::Uuid::now_v7().into_bytes();
        let announcement = self
            .core
            .announce(&self.settings.owner_url, PARTITIONS, term, now())
            .map_err(|refusal| Failure::End(refusal.to_string()))?;
        self.append(&announcement)
            .map_err(|barrier| Failure::Again(barrier.reason))?;
        while !self.core.announced_is_read() {
            self.read(reader, ANNOUNCEMENT_TIMEOUT).await?;
            if self.core.announcement_is_lost() {
                self.check_not_deposed()?;
                let reason = "another owner announced itself first";
                return Err(Failure::Again(reason.into()));
            }
        }
        Ok(())
    }

    async fn read(
        &mut self,
        reader: &mut Reader<M::Event>,
        timeout: Duration,
    ) -> Result<(), Failure> {
        match tokio::time::timeout(timeout, reader.next()).await {
            Ok(batch) => {
                self.core.read(&batch?);
                Ok(())
            }
            Err(_) => Err(Failure::Silent(timeout)),
        }
    }

    /// Until owners are assigned, whoever announced itself last serves, and stays in office.
    fn check_not_deposed(&self) -> Result<(), Failure> {
        let checkpoint = self.core.checkpoint();
        match self.held {
            Some(held) if held != checkpoint.term => Err(Failure::End(format!(
                "deposed: another process announced itself with epoch {}",
                checkpoint.epoch
            ))),
            _ => Ok(()),
        }
    }

    /// Serves until `stop` (and until nothing is under way any more), or until an outcome is
    /// unknown.
    async fn serve(&mut self, stop: &CancellationToken) -> Result<(), Barrier> {
        self.send_all()?;
        loop {
            let room =
                self.core.unanswered() < UNANSWERED_MAX && self.unreported < 2 * UNANSWERED_MAX;
            tokio::select! {
                biased;
                report = self.reports.recv() => self.take_reports(report)?,
                submission = self.queue.recv(), if room => match submission {
                    Some(submission) => self.take_submissions(submission),
                    None => return self.drain().await,
                },
                () = stop.cancelled() => return self.drain().await,
            }
            self.core.settle(now());
            self.send_all()?;
        }
    }

    /// Waits for what is under way, and takes nothing new.
    async fn drain(&mut self) -> Result<(), Barrier> {
        let _ = self.status.send(Status::Ended("shutting down".into()));
        let drained = tokio::time::timeout(DRAIN_TIMEOUT, async {
            while self.core.unproved() > 0 {
                let report = self.reports.recv().await;
                self.take_reports(report)?;
                self.send_all()?;
            }
            Ok(())
        });
        drained.await.unwrap_or(Ok(()))
    }

    fn take_submissions(&mut self, first: (Request<M::Command>, Reply)) {
        let now = now();
        let mut next = Some(first);
        for _ in 0..RUN_MAX {
            let Some((request, reply)) = next else { break };
            self.core.submit(request, reply, now);
            next = match self.core.unanswered() < UNANSWERED_MAX {
                true => self.queue.try_recv().ok(),
                false => None,
            };
        }
        if let Some((request, reply)) = next {
            self.core.submit(request, reply, now);
        }
    }

    fn take_reports(&mut self, first: Option<Report>) -> Result<(), Barrier> {
        let mut next = first;
        for _ in 0..RUN_MAX {
            let Some(report) = next else { break };
            self.unreported = self.unreported.saturating_sub(1);
            self.core.delivered(&report)?;
            next = self.reports.try_recv().ok();
        }
        if let Some(report) = next {
            self.unreported = self.unreported.saturating_sub(1);
            self.core.delivered(&report)?;
        }
        Ok(())
    }

    /// Appends and answers what has come up. After an append that failed nothing more is appended:
    /// there would be a gap.
    fn send_all(&mut self) -> Result<(), Barrier> {
        let appends = self.core.take_appends();
        metrics::counter!(names::APPENDS, self.labels()).increment(appends.len() as u64);
        for outgoing in &appends {
            self.append(outgoing)?;
        }
        self.send_replies();
        #[expect(clippy::cast_precision_loss, reason = "a gauge of some thousands")]
        metrics::gauge!(names::UNPROVED, self.labels()).set(self.core.unproved() as f64);
        Ok(())
    }

    fn append(&mut self, outgoing: &Outgoing) -> Result<(), Barrier> {
        let kind = format!("daybook.{}.Commit", M::Event::CONTEXT.name);
        let id = format!("{}/{}", hex::encode(outgoing.term), outgoing.seq);
        let time = outgoing.recorded_at.to_string();
        let mut headers: Vec<(&str, &[u8])> = vec![
            ("ce_type", kind.as_bytes()),
            ("ce_id", id.as_bytes()),
            ("ce_time", time.as_bytes()),
        ];
        if let Some(traceparent) = &outgoing.traceparent {
            headers.push(("traceparent", traceparent.as_bytes()));
        }
        let key = outgoing.key.as_bytes();
        match self
            .line
            .append(key, &outgoing.value, &headers, outgoing.number)
        {
            Ok(()) => {
                self.unreported += 1;
                Ok(())
            }
            Err(error) => Err(Barrier {
                reason: error.to_string(),
            }),
        }
    }

    fn send_replies(&mut self) {
        for (reply, answer) in self.core.take_replies() {
            if answer.as_ref().is_ok_and(|answer| answer.replayed) {
                metrics::counter!(names::REPLAYS, "topic" => topic::<M>()).increment(1);
            }
            // Whoever has gone away may ask again under the same id.
            let _ = reply.send(answer);
        }
    }

    fn labels(&self) -> Vec<metrics::Label> {
        vec![
            metrics::Label::from_static_parts("topic", topic::<M>()),
            metrics::Label::new("partition", self.partition.to_string()),
        ]
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error.is_transient() {
            true => Self::Again(error.to_string()),
            false => Self::End(error.to_string()),
        }
    }
}

fn topic<M: Machine>() -> &'static str {
    M::Event::CONTEXT.topic
}

/// The machine's clock.
fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
