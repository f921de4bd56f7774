//! Membership of a consumer group, which divides journal partitions among processes.
//!
//! An assignment only *hints* who should own what: two members may believe to have the same
//! partition, or nobody; safety is in the log. So nothing is ever fetched or committed here, and a
//! member that loses the brokers keeps what it was assigned last.

use crate::settings::{GroupProtocol, KafkaSettings, SettingsError};
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::RDKafkaRespErr,
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::{oneshot, watch};

/// After this long without a sign of a member its partitions go to others (classic protocol; with
/// `consumer` the brokers' own setting counts, 45 s by default). The least that brokers allow unless
/// told otherwise.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
/// Time between two signs of life (classic protocol).
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// How soon the thread notices that it is to leave.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
/// Longest wait for the brokers' word on who else is in the group.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest wait for the group to take note of a member that leaves.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Topics and partitions.
pub type Assignment = BTreeSet<(String, i32)>;

/// A membership that did not come about.
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
        /// The client library's words.
        reason: String,
    },
}

/// Who stays behind when a member leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// Nobody, or nobody that the brokers know of.
    None,
    /// Somebody, who will be assigned the partitions.
    Some,
}

/// A place in the group. Dropped, it ends as if its process had died.
pub struct Membership {
    leave: Option<oneshot::Sender<oneshot::Sender<Others>>>,
    dropped: Arc<AtomicBool>,
}

/// Publishes what the group says.
struct Hints {
    assignment: watch::Sender<Assignment>,
    member: String,
}

impl ClientContext for Hints {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "group membership");
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
        // A member that lost touch is told so, and later is given what it has then: till then the
        // last assignment stands.
        let is_lost = consumer.assignment_lost();
        let changed = if is_assignment {
            take(consumer, partitions)
        } else {
            consumer.incremental_unassign(partitions)
        };
        if let Err(error) = changed {
            tracing::warn!(%error, member = self.member, "a rebalance can't be followed");
        }
        if is_lost && !is_assignment {
            tracing::warn!(
                member = self.member,
                "lost the group; what was assigned last stands"
            );
            return;
        }
        match consumer.assignment() {
            Ok(now) => {
                let now: Assignment = now
                    .elements()
                    .iter()
                    .map(|element| (element.topic().to_owned(), element.partition()))
                    .collect();
                tracing::info!(
                    member = self.member,
                    partitions = now.len(),
                    ?now,
                    "assigned"
                );
                self.assignment.send_replace(now);
            }
            Err(error) => {
                tracing::warn!(%error, member = self.member, "the assignment can't be read");
            }
        }
    }
}

/// Accepts partitions without reading any of them.
fn take(consumer: &BaseConsumer<Hints>, partitions: &TopicPartitionList) -> Result<(), KafkaError> {
    let mut at_end = TopicPartitionList::with_capacity(partitions.count());
    for element in partitions.elements() {
        // An offset of our own, lest the group's committed ones be asked for: there are none.
        at_end.add_partition_offset(element.topic(), element.partition(), Offset::End)?;
    }
    consumer.incremental_assign(&at_end)?;
    consumer.pause(&at_end)
}

impl Membership {
    /// Joins `group` as `member`, a name of which there is one at a time, for a share of `topics`.
    /// The receiver has the assignment, which is empty until the group has decided.
    ///
    /// With the classic protocol the membership is static: a process that died and is back under the
    /// same name within [`SESSION_TIMEOUT`] has its partitions at once, and nobody else is disturbed.
    pub fn join(
        settings: &KafkaSettings,
        group: &str,
        member: &str,
        topics: &[&str],
    ) -> Result<(Self, watch::Receiver<Assignment>), GroupError> {
        settings.check()?;
        let failed = |reason: &dyn std::fmt::Display| GroupError::Client {
            group: group.to_owned(),
            member: member.to_owned(),
            reason: reason.to_string(),
        };
        let (sender, assignment) = watch::channel(Assignment::new());
        let hints = Hints {
            assignment: sender,
            member: member.to_owned(),
        };
        let consumer = consumer(settings, group, member, hints).map_err(|error| failed(&error))?;
        consumer.subscribe(topics).map_err(|error| failed(&error))?;
        let (leave, leaving) = oneshot::channel();
        let dropped = Arc::new(AtomicBool::new(false));
        let (gone, name) = (dropped.clone(), group.to_owned());
        std::thread::Builder::new()
            .name(format!("group-{group}"))
            .spawn(move || run(consumer, &name, leaving, &gone))
            .map_err(|error| failed(&error))?;
        let membership = Self {
            leave: Some(leave),
            dropped,
        };
        Ok((membership, assignment))
    }

    /// Leaves in order, so that others get the partitions at once; returns when the group has taken
    /// note, or could not in a bounded time. Tells whether there is anybody else.
    pub async fn leave(mut self) -> Others {
        let (reply, others) = oneshot::channel();
        let sent = self
            .leave
            .take()
            .is_some_and(|leave| leave.send(reply).is_ok());
        if !sent {
            return Others::None;
        }
        tokio::time::timeout(MEMBERS_TIMEOUT + LEAVE_TIMEOUT, others)
            .await
            .ok()
            .and_then(Result::ok)
            .unwrap_or(Others::None)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
    }
}

fn consumer(
    settings: &KafkaSettings,
    group: &str,
    member: &str,
    hints: Hints,
) -> Result<BaseConsumer<Hints>, KafkaError> {
    let mut config = settings.client("group");
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // A partition is never read, so where reading would begin is nobody's concern.
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
        // A static member of this protocol can't leave for good: its partitions would lie idle until
        // the session's end at every stop.
        GroupProtocol::Consumer => config.set("group.protocol", "consumer"),
    };
    config.create_with_context(hints)
}

/// The thread: polls, for rebalances are served within polls, until it is to leave.
fn run(
    consumer: BaseConsumer<Hints>,
    group: &str,
    mut leaving: oneshot::Receiver<oneshot::Sender<Others>>,
    dropped: &AtomicBool,
) {
    while !dropped.load(Ordering::Relaxed) {
        match leaving.try_recv() {
            Ok(reply) => {
                let others = others(&consumer, group);
                leave(&consumer);
                // Nobody may wait any more, and then nobody wants to know.
                let _ = reply.send(others);
                // Dropping closes the consumer, which may hang; so it happens on this thread.
                return;
            }
            Err(oneshot::error::TryRecvError::Empty) => {}
            Err(oneshot::error::TryRecvError::Closed) => return,
        }
        if let Some(Err(error)) = consumer.poll(POLL_TIMEOUT) {
            tracing::debug!(%error, group, "group membership");
        }
    }
}

/// Whether the group has other members. With the protocol `consumer` the brokers don't say it to
/// this client, so somebody is supposed to be there.
fn others(consumer: &BaseConsumer<Hints>, group: &str) -> Others {
    match consumer.fetch_group_list(Some(group), MEMBERS_TIMEOUT) {
        Ok(list) => match list.groups().first() {
            Some(found) if found.protocol_type() == "consumer" && found.members().len() <= 1 => {
                Others::None
            }
            Some(_) | None => Others::Some,
        },
        Err(error) => {
            tracing::info!(%error, group, "who else is in the group is not known");
            Others::None
        }
    }
}

/// A static member's close leaves its place reserved; only to unsubscribe gives it up.
fn leave(consumer: &BaseConsumer<Hints>) {
    consumer.unsubscribe();
    let rounds = LEAVE_TIMEOUT.as_millis() / POLL_TIMEOUT.as_millis();
    for _ in 0..rounds {
        let is_empty = consumer.assignment().is_ok_and(|left| left.count() == 0);
        if is_empty {
            return;
        }
        let _ = consumer.poll(POLL_TIMEOUT);
    }
}
