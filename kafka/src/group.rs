//! Membership of a consumer group, which divides journal partitions among nodes.
//!
//! An assignment is only a *hint* about ownership: two members may believe that they have the same partition, and a
//! partition may have no member. The log guarantees safety. This client only gets assignments: it never fetches records
//! or commits offsets. A member that loses its membership keeps its last assignment, marked as not current.

mod leaving;
mod rejoin;
mod suspend;
mod watchdog;

pub use self::{leaving::OtherMembers, watchdog::Watchdog};

use self::{
    leaving::LeavingMember, rejoin::RejoinBackoff, suspend::SuspendDetector,
    watchdog::StarvationDetector,
};
use crate::{
    prefix::TopicPrefix,
    settings::{GroupProtocol, KafkaSettings, SettingsError},
};
use rdkafka::{
    ClientConfig, ClientContext, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{oneshot, watch};

/// After this time without a heartbeat, the group reassigns a member's partitions (classic protocol; with `consumer`
/// the brokers' setting applies, 45 s by default). Brokers allow no shorter time by default.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
/// Time between two heartbeats (classic protocol).
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// Longest time until the thread notices that it must leave.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// Topics and partitions.
pub type Assignment = BTreeSet<(String, i32)>;

/// The group's last assignment to this member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hint {
    /// The partitions, by logical topic names.
    pub assignment: Assignment,
    /// Whether the assignment still holds, as far as the member knows. `false` before the first assignment,
    /// after the group has removed this member, and after a suspension until the member knows whether the group
    /// has.
    pub is_current: bool,
    /// Why this member is not in the group: the brokers refuse or fenced it, or it left. `None` once it has an
    /// assignment.
    pub error: Option<String>,
}

/// Why the group can't be joined.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// A setting is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The client library refused.
    #[error("group {group}, member {member}: {reason}")]
    Client {
        /// The group.
        group: String,
        /// This member.
        member: String,
        /// The client library's message.
        reason: String,
    },
}

/// A membership of the group. Dropping it has the effect of a crash: the member does not leave the group.
pub struct Membership {
    leave: Option<oneshot::Sender<oneshot::Sender<OtherMembers>>>,
    dropped: Arc<AtomicBool>,
}

/// Publishes the group's assignments.
struct Hints {
    hint: Arc<watch::Sender<Hint>>,
    /// Whether the group has removed this member, which has not joined again yet.
    is_lost: Arc<AtomicBool>,
    member: String,
    prefix: TopicPrefix,
}

/// Everything that a member's client is created from, so that it can be replaced.
struct Member {
    settings: KafkaSettings,
    /// The group's name at the brokers.
    group: String,
    /// The member's name, unique within its group.
    name: String,
    /// The topics' names at the brokers.
    topics: Vec<String>,
    hint: Arc<watch::Sender<Hint>>,
    is_lost: Arc<AtomicBool>,
    watchdog: Watchdog,
}

/// The phase of a membership.
enum Phase {
    /// The member is in the group, until it is fenced or leaves.
    Member,
    /// The brokers fenced the client, which will be replaced at this time.
    Fenced(Instant),
    /// The member has left the group until the watchdog is fed again.
    Stalled,
}

impl ClientContext for Hints {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(member = self.member, %error, reason, "the group's client reports an error");
    }
}

impl ConsumerContext for Hints {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let is_assignment = event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        // A lost membership is recorded; the member gets another assignment later.
        let is_lost = consumer.assignment_lost();
        let changed = if is_assignment {
            accept(consumer, partitions)
        } else {
            consumer.incremental_unassign(partitions)
        };
        if let Err(error) = changed {
            tracing::warn!(member = self.member, %error, "failed to apply a rebalance");
        }
        if is_lost && !is_assignment {
            tracing::warn!(
                member = self.member,
                "lost membership of the group; its partitions may have been reassigned"
            );
            self.is_lost.store(true, Ordering::Relaxed);
            self.hint.send_modify(|hint| hint.is_current = false);
            return;
        }
        match consumer.assignment() {
            Ok(now) => {
                let now: Assignment = now
                    .elements()
                    .iter()
                    .map(|element| {
                        let topic = self.prefix.strip(element.topic());
                        (topic.to_owned(), element.partition())
                    })
                    .collect();
                tracing::info!(
                    member = self.member,
                    partitions = now.len(),
                    ?now,
                    "the group assigned partitions"
                );
                self.is_lost.store(false, Ordering::Relaxed);
                self.hint.send_modify(|hint| {
                    hint.assignment = now;
                    hint.is_current = true;
                    if is_assignment {
                        hint.error = None;
                    }
                });
            }
            Err(error) => {
                tracing::warn!(member = self.member, %error, "failed to read the assignment");
            }
        }
    }
}

/// Accepts partitions without reading any of them.
fn accept(
    consumer: &BaseConsumer<Hints>,
    partitions: &TopicPartitionList,
) -> Result<(), KafkaError> {
    let mut at_end = TopicPartitionList::with_capacity(partitions.count());
    for element in partitions.elements() {
        // With an explicit offset the client does not ask for committed offsets, which don't exist.
        at_end.add_partition_offset(element.topic(), element.partition(), Offset::End)?;
    }
    consumer.incremental_assign(&at_end)?;
    consumer.pause(&at_end)
}

impl Membership {
    /// Joins this deployment's `group` as `member`, to get a share of the partitions of `topics`. No other node may use
    /// the name `member` at the same time. The receiver has the group's assignment, which is empty at first.
    ///
    /// With the classic protocol the membership is static: a node that crashes and restarts with the same name within
    /// [`SESSION_TIMEOUT`] gets its partitions back at once, and no other member is affected.
    ///
    /// The client sends heartbeats even if the rest of the process hangs. So the member leaves the group if the
    /// `watchdog` is not fed, and joins again once it is fed.
    pub fn join(
        settings: &KafkaSettings,
        group: &str,
        member: &str,
        topics: &[&str],
        watchdog: Watchdog,
    ) -> Result<(Self, watch::Receiver<Hint>), GroupError> {
        settings.check()?;
        let failed = |reason: &dyn std::fmt::Display| GroupError::Client {
            group: group.to_owned(),
            member: member.to_owned(),
            reason: reason.to_string(),
        };
        let (hint, hints) = watch::channel(Hint::default());
        let prefix = TopicPrefix::of(settings);
        let joining = Member {
            settings: settings.clone(),
            group: prefix.add(group),
            name: member.to_owned(),
            topics: topics.iter().map(|topic| prefix.add(topic)).collect(),
            hint: Arc::new(hint),
            is_lost: Arc::default(),
            watchdog,
        };
        let consumer = joining.consumer().map_err(|error| failed(&error))?;
        let (leave, leaving) = oneshot::channel();
        let dropped = Arc::new(AtomicBool::new(false));
        let gone = dropped.clone();
        std::thread::Builder::new()
            .name(format!("group-{group}"))
            .spawn(move || joining.run(consumer, leaving, &gone))
            .map_err(|error| failed(&error))?;
        let membership = Self {
            leave: Some(leave),
            dropped,
        };
        Ok((membership, hints))
    }

    /// Leaves the group, so that other members get the partitions at once. Returns whether the group has other members,
    /// once the group has registered the departure or after a bounded time.
    pub async fn leave(mut self) -> OtherMembers {
        let (reply, others) = oneshot::channel();
        let sent = self
            .leave
            .take()
            .is_some_and(|leave| leave.send(reply).is_ok());
        if !sent {
            return OtherMembers::Unknown;
        }
        tokio::time::timeout(leaving::TIMEOUT, others)
            .await
            .ok()
            .and_then(Result::ok)
            .unwrap_or(OtherMembers::Unknown)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
    }
}

pub(crate) fn config(settings: &KafkaSettings, group: &str, member: &str) -> ClientConfig {
    let mut config = settings.client("group");
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // No partition is ever read, so this has no effect.
        .set("auto.offset.reset", "latest")
        .set("topic.metadata.refresh.interval.ms", "10000");
    match settings.group_protocol {
        GroupProtocol::Classic => config
            .set("group.protocol", "classic")
            .set("group.instance.id", member)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set(
                "session.timeout.ms",
                SESSION_TIMEOUT.as_millis().to_string(),
            )
            .set(
                "heartbeat.interval.ms",
                HEARTBEAT_INTERVAL.as_millis().to_string(),
            ),
        // A static member of this protocol can't leave for good: at every stop its partitions would have no owner until
        // its session expires.
        GroupProtocol::Consumer => config.set("group.protocol", "consumer"),
    };
    config
}

impl Member {
    /// Creates a client that is subscribed to the topics.
    fn consumer(&self) -> Result<BaseConsumer<Hints>, KafkaError> {
        let config = config(&self.settings, &self.group, &self.name);
        let consumer: BaseConsumer<Hints> = config.create_with_context(Hints {
            hint: self.hint.clone(),
            is_lost: self.is_lost.clone(),
            member: self.name.clone(),
            prefix: TopicPrefix::of(&self.settings),
        })?;
        self.subscribe(&consumer)?;
        Ok(consumer)
    }

    fn subscribe(&self, consumer: &BaseConsumer<Hints>) -> Result<(), KafkaError> {
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics)
    }

    /// The thread: polls until it must leave, because the client serves rebalances within polls.
    fn run(
        self,
        mut consumer: BaseConsumer<Hints>,
        mut leaving: oneshot::Receiver<oneshot::Sender<OtherMembers>>,
        dropped: &AtomicBool,
    ) {
        let mut suspension = SuspendDetector::new(SESSION_TIMEOUT);
        let mut backoff = RejoinBackoff::new();
        let mut starvation = StarvationDetector::of(&self.watchdog);
        let mut phase = Phase::Member;
        while !dropped.load(Ordering::Relaxed) {
            match leaving.try_recv() {
                Ok(reply) => {
                    let others = self.leaver().others(&consumer);
                    self.leaver().leave(&consumer);
                    // The caller may have stopped waiting for the reply.
                    let _ = reply.send(others);
                    // Dropping closes the consumer, which may hang; so it happens on this thread.
                    return;
                }
                Err(oneshot::error::TryRecvError::Empty) => {}
                Err(oneshot::error::TryRecvError::Closed) => return,
            }
            self.check_suspension(&mut suspension, Instant::now());
            if let Some(Err(error)) = consumer.poll(POLL_TIMEOUT) {
                self.report(&error);
            }
            let reason = starvation.reason_to_leave(&self.watchdog, Instant::now());
            phase = match (phase, reason) {
                (Phase::Member, Some(reason)) => self.leave_stalled(&consumer, &reason),
                (Phase::Stalled, Some(_)) => Phase::Stalled,
                (Phase::Stalled, None) => self.rejoin_after_stall(&consumer),
                (Phase::Member, None) => match self.fenced(&consumer, &mut backoff) {
                    Some(at) => Phase::Fenced(at),
                    None => Phase::Member,
                },
                (Phase::Fenced(at), _) if Instant::now() >= at => {
                    consumer = self.replaced(consumer);
                    Phase::Member
                }
                (Phase::Fenced(at), _) => Phase::Fenced(at),
            };
        }
    }

    /// Publishes the error if the member may not join the group, because only an operator can grant the right. The
    /// client library recovers from any other error by itself; if it can't, the member loses its assignment.
    fn report(&self, error: &KafkaError) {
        tracing::debug!(group = self.group, %error, "failed to poll the group");
        let is_refused =
            error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed);
        let reason = Some(format!(
            "member {} of group {}: {error}",
            self.name, self.group
        ));
        self.hint.send_if_modified(|hint| {
            let is_new = is_refused && !hint.is_current && hint.error != reason;
            if is_new {
                tracing::error!(reason, "the brokers don't let this member join its group");
                hint.error = reason;
            }
            is_new
        });
    }

    /// Leaves the group, because the process makes no progress.
    fn leave_stalled(&self, consumer: &BaseConsumer<Hints>, reason: &str) -> Phase {
        tracing::error!(
            member = self.name,
            group = self.group,
            reason,
            "the process can't serve its partitions, leaving the group until it can"
        );
        self.leaver().leave(consumer);
        self.hint.send_modify(|hint| {
            hint.assignment = Assignment::new();
            hint.is_current = true;
            hint.error = Some(format!(
                "member {} of group {} left, because {reason}",
                self.name, self.group
            ));
        });
        Phase::Stalled
    }

    fn leaver(&self) -> LeavingMember<'_> {
        LeavingMember {
            group: &self.group,
            name: &self.name,
            protocol: self.settings.group_protocol,
        }
    }

    /// Joins the group again with the client that has left it.
    fn rejoin_after_stall(&self, consumer: &BaseConsumer<Hints>) -> Phase {
        match self.subscribe(consumer) {
            Ok(()) => Phase::Member,
            Err(error) => {
                tracing::warn!(member = self.name, %error, "failed to join the group again, retrying");
                Phase::Stalled
            }
        }
    }

    /// Marks the assignment as not current after a suspension, and as current again once a session timeout has
    /// passed.
    fn check_suspension(&self, detector: &mut SuspendDetector, now: Instant) {
        if detector.poll(now) {
            tracing::warn!(
                member = self.name,
                "process was suspended for longer than the session timeout; its partitions may have been reassigned"
            );
            self.hint.send_modify(|hint| hint.is_current = false);
        }
        if detector.is_over(now) && !self.is_lost.load(Ordering::Relaxed) {
            self.hint
                .send_if_modified(|hint| !std::mem::replace(&mut hint.is_current, true));
        }
    }

    /// Returns when to replace the client; `None` if the brokers have not fenced it.
    fn fenced(
        &self,
        consumer: &BaseConsumer<Hints>,
        backoff: &mut RejoinBackoff,
    ) -> Option<Instant> {
        let (_, reason) = consumer.client().fatal_error()?;
        let now = Instant::now();
        let wait = backoff.wait(now);
        tracing::error!(
            member = self.name,
            group = self.group,
            reason,
            ?wait,
            "the brokers fenced this member, perhaps because another node has its name; it will join again"
        );
        self.hint.send_modify(|hint| {
            hint.is_current = false;
            hint.error = Some(format!(
                "member {} of group {}: {reason}",
                self.name, self.group
            ));
        });
        Some(now + wait)
    }

    /// Returns a new client. If no client can be created, returns the old one, and the caller retries later.
    fn replaced(&self, consumer: BaseConsumer<Hints>) -> BaseConsumer<Hints> {
        let another = match self.consumer() {
            Ok(another) => another,
            Err(error) => {
                tracing::warn!(member = self.name, %error, "failed to join the group again, retrying");
                return consumer;
            }
        };
        // Dropping the old client closes it, which may hang.
        let closing = std::thread::Builder::new().name(format!("group-{}-closing", self.group));
        if let Err(error) = closing.spawn(move || drop(consumer)) {
            tracing::warn!(member = self.name, %error, "failed to start a thread, closed the client inline");
        }
        another
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that treats "unknown" as "none" steps down before its successors serve.
    #[tokio::test]
    async fn a_member_whose_thread_has_ended_does_not_claim_to_be_alone() {
        let (leave, leaving) = oneshot::channel();
        drop(leaving);
        let membership = Membership {
            leave: Some(leave),
            dropped: Arc::default(),
        };
        assert_eq!(membership.leave().await, OtherMembers::Unknown);
    }
}
