//! Membership of a consumer group, which divides journal partitions among processes.
//!
//! An assignment only *hints* who should own what: two members may believe to have the same
//! partition, or nobody; safety is in the log. So nothing is ever fetched or committed here. A member
//! that loses the group keeps what it was assigned last, but says that this may not be so any more.

mod patience;

use self::patience::{Replacements, Sleep};
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
    time::{Duration, Instant},
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
/// Time between two looks whether it has.
const LEAVE_POLL_TIMEOUT: Duration = Duration::from_millis(20);
/// Longest wait for one of them.
const LEFT_TIMEOUT: Duration = Duration::from_millis(500);
/// Characters of the UUID that brokers put behind a static member's name.
const UUID_LENGTH: usize = 36;

/// Topics and partitions.
pub type Assignment = BTreeSet<(String, i32)>;

/// What the group said last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hint {
    /// What this member was assigned last.
    pub assignment: Assignment,
    /// Whether the group still stands by it, as far as is known. Not so before its first word, once it
    /// gave this member up, and while a member that slept has not heard whether it did.
    pub is_current: bool,
    /// Why the group wants this member no more, until it has one again.
    pub trouble: Option<String>,
}

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
    hint: Arc<watch::Sender<Hint>>,
    /// Whether the group has given this member up, and has not taken it back yet.
    is_lost: Arc<AtomicBool>,
    member: String,
}

/// What a member's client is made of, so that another one can be.
struct Member {
    settings: KafkaSettings,
    group: String,
    name: String,
    topics: Vec<String>,
    hint: Arc<watch::Sender<Hint>>,
    is_lost: Arc<AtomicBool>,
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
        // A member that lost touch is told so, and later is given what it has then.
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
                "lost the group; what was assigned last may be another's"
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
                    .map(|element| (element.topic().to_owned(), element.partition()))
                    .collect();
                tracing::info!(
                    member = self.member,
                    partitions = now.len(),
                    ?now,
                    "assigned"
                );
                self.is_lost.store(false, Ordering::Relaxed);
                self.hint.send_modify(|hint| {
                    hint.assignment = now;
                    hint.is_current = true;
                    if is_assignment {
                        hint.trouble = None;
                    }
                });
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
    /// The receiver has what the group says: no assignment, until it has decided.
    ///
    /// With the classic protocol the membership is static: a process that died and is back under the
    /// same name within [`SESSION_TIMEOUT`] has its partitions at once, and nobody else is disturbed.
    pub fn join(
        settings: &KafkaSettings,
        group: &str,
        member: &str,
        topics: &[&str],
    ) -> Result<(Self, watch::Receiver<Hint>), GroupError> {
        settings.check()?;
        let failed = |reason: &dyn std::fmt::Display| GroupError::Client {
            group: group.to_owned(),
            member: member.to_owned(),
            reason: reason.to_string(),
        };
        let (hint, hints) = watch::channel(Hint::default());
        let joining = Member {
            settings: settings.clone(),
            group: group.to_owned(),
            name: member.to_owned(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            hint: Arc::new(hint),
            is_lost: Arc::default(),
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

impl Member {
    /// A client that has subscribed.
    fn consumer(&self) -> Result<BaseConsumer<Hints>, KafkaError> {
        let mut config = self.settings.client("group");
        config
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // A partition is never read, so where reading would begin is nobody's concern.
            .set("auto.offset.reset", "latest")
            .set("topic.metadata.refresh.interval.ms", "10000");
        match self.settings.group_protocol {
            GroupProtocol::Classic => config
                .set("group.protocol", "classic")
                .set("group.instance.id", &self.name)
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set(
                    "session.timeout.ms",
                    SESSION_TIMEOUT.as_millis().to_string(),
                )
                .set(
                    "heartbeat.interval.ms",
                    HEARTBEAT_INTERVAL.as_millis().to_string(),
                ),
            // A static member of this protocol can't leave for good: its partitions would lie idle
            // until the session's end at every stop.
            GroupProtocol::Consumer => config.set("group.protocol", "consumer"),
        };
        let consumer: BaseConsumer<Hints> = config.create_with_context(Hints {
            hint: self.hint.clone(),
            is_lost: self.is_lost.clone(),
            member: self.name.clone(),
        })?;
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics)?;
        Ok(consumer)
    }

    /// The thread: polls, for rebalances are served within polls, until it is to leave.
    fn run(
        self,
        mut consumer: BaseConsumer<Hints>,
        mut leaving: oneshot::Receiver<oneshot::Sender<Others>>,
        dropped: &AtomicBool,
    ) {
        let (mut sleep, mut replacements) = (Sleep::default(), Replacements::default());
        let mut replace_at: Option<Instant> = None;
        while !dropped.load(Ordering::Relaxed) {
            match leaving.try_recv() {
                Ok(reply) => {
                    let others = self.others(&consumer);
                    self.leave(&consumer);
                    // Nobody may wait any more, and then nobody wants to know.
                    let _ = reply.send(others);
                    // Dropping closes the consumer, which may hang; so it happens on this thread.
                    return;
                }
                Err(oneshot::error::TryRecvError::Empty) => {}
                Err(oneshot::error::TryRecvError::Closed) => return,
            }
            self.doubt(&mut sleep, Instant::now());
            if let Some(Err(error)) = consumer.poll(POLL_TIMEOUT) {
                tracing::debug!(%error, group = self.group, "group membership");
            }
            match replace_at {
                None => replace_at = self.gives_up(&consumer, &mut replacements),
                Some(at) if Instant::now() >= at => {
                    consumer = self.replaced(consumer);
                    replace_at = None;
                }
                Some(_) => {}
            }
        }
    }

    /// What the group said is doubted after a sleep, and trusted again if it has not changed its word
    /// for a session.
    fn doubt(&self, sleep: &mut Sleep, now: Instant) {
        if sleep.is_long(now) {
            tracing::warn!(
                member = self.name,
                "slept; what was assigned may be another's"
            );
            self.hint.send_modify(|hint| hint.is_current = false);
        }
        if sleep.is_over(now) && !self.is_lost.load(Ordering::Relaxed) {
            self.hint
                .send_if_modified(|hint| !std::mem::replace(&mut hint.is_current, true));
        }
    }

    /// When the client is to be replaced, if it is of no use any more.
    fn gives_up(
        &self,
        consumer: &BaseConsumer<Hints>,
        replacements: &mut Replacements,
    ) -> Option<Instant> {
        let (_, reason) = consumer.client().fatal_error()?;
        let now = Instant::now();
        let wait = replacements.wait(now);
        tracing::error!(
            member = self.name,
            group = self.group,
            reason,
            ?wait,
            "the group wants this \
            member no more, as when another process has its name; it joins again"
        );
        self.hint.send_modify(|hint| {
            hint.is_current = false;
            hint.trouble = Some(format!(
                "member {} of group {}: {reason}",
                self.name, self.group
            ));
        });
        Some(now + wait)
    }

    /// Another client; the same, if none can be made, which is tried again.
    fn replaced(&self, consumer: BaseConsumer<Hints>) -> BaseConsumer<Hints> {
        let another = match self.consumer() {
            Ok(another) => another,
            Err(error) => {
                tracing::warn!(%error, member = self.name, "the group can't be joined again yet");
                return consumer;
            }
        };
        // Dropping closes it, which may hang.
        let closing = std::thread::Builder::new().name(format!("group-{}-closing", self.group));
        if let Err(error) = closing.spawn(move || drop(consumer)) {
            tracing::warn!(%error, member = self.name, "closed a client in the group's own thread");
        }
        another
    }
}

impl Member {
    /// Whether the group has other members. With the protocol `consumer` the brokers don't say it to
    /// this client, so somebody is supposed to be there.
    fn others(&self, consumer: &BaseConsumer<Hints>) -> Others {
        let group = &self.group;
        match consumer.fetch_group_list(Some(group), MEMBERS_TIMEOUT) {
            Ok(list) => match list.groups().first() {
                Some(found)
                    if found.protocol_type() == "consumer" && found.members().len() <= 1 =>
                {
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

    /// A static member's close leaves its place reserved; only to unsubscribe gives it up. The client
    /// asks the group for that once it has stopped to read, some time after it says that nothing is
    /// assigned to it any more; and should it be closed before, it never asks. So this waits until the
    /// brokers don't know this member any more.
    fn leave(&self, consumer: &BaseConsumer<Hints>) {
        consumer.unsubscribe();
        let begun = Instant::now();
        while begun.elapsed() < LEAVE_TIMEOUT {
            let _ = consumer.poll(LEAVE_POLL_TIMEOUT);
            let is_empty = consumer.assignment().is_ok_and(|left| left.count() == 0);
            if is_empty && self.has_left(consumer) {
                return;
            }
        }
        tracing::warn!(
            member = self.name,
            group = self.group,
            "the group may not have taken note that this member leaves"
        );
    }

    /// Whether the brokers don't know this member any more. One that is not static leaves by closing,
    /// too.
    fn has_left(&self, consumer: &BaseConsumer<Hints>) -> bool {
        match self.settings.group_protocol {
            GroupProtocol::Consumer => true,
            GroupProtocol::Classic => {
                let list = consumer.fetch_group_list(Some(&self.group), LEFT_TIMEOUT);
                list.is_ok_and(|list| {
                    let mut members = list.groups().iter().flat_map(|group| group.members());
                    !members.any(|member| is_of(member.id(), &self.name))
                })
            }
        }
    }
}

/// Whether an id that brokers gave is that of the static member of a name: they put a UUID behind it.
fn is_of(id: &str, name: &str) -> bool {
    id.strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('-'))
        .is_some_and(|uuid| uuid.len() == UUID_LENGTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_member_is_known_by_its_name() {
        let uuid = "0b1f3c8e-5a4d-4a8e-9d0c-111111111111";
        let is_of = |id: &str| is_of(id, "127.0.0.1:80");
        assert!(is_of(&format!("127.0.0.1:80-{uuid}")));
        assert!(!is_of(&format!("127.0.0.1:8080-{uuid}")));
        assert!(!is_of(&format!("127.0.0.1:80-b-{uuid}")));
    }
}
