//! Leaves a group for good, and finds out whether other members remain.

use crate::settings::GroupProtocol;
use rdkafka::{
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
};
use std::time::{Duration, Instant};

/// Longest time to leave.
pub(super) const TIMEOUT: Duration = MEMBERS_TIMEOUT.saturating_add(LEAVE_TIMEOUT);
/// Longest wait for the brokers' list of the group's members.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest wait for the group to register that a member has left.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two checks whether the group has registered that a member has left.
const LEAVE_POLL_TIMEOUT: Duration = Duration::from_millis(20);
/// Longest wait for the answer to one check.
const LEFT_TIMEOUT: Duration = Duration::from_millis(500);
/// Characters of the UUID that brokers append to a static member's name.
const UUID_LENGTH: usize = 36;

/// The members that remain when one leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherMembers {
    /// No other member remains.
    None,
    /// At least one member remains, and gets the partitions.
    Some,
    /// The brokers did not list the members.
    Unknown,
}

/// A member that leaves.
pub(super) struct LeavingMember<'a> {
    /// The group's name at the brokers.
    pub group: &'a str,
    /// The member's name.
    pub name: &'a str,
    pub protocol: GroupProtocol,
}

impl LeavingMember<'_> {
    /// Whether the group has other members. With the protocol `consumer` the answer is always
    /// unknown, because brokers don't list the members of such a group for this client.
    pub(super) fn others<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>) -> OtherMembers {
        let others = match self.listed(consumer, MEMBERS_TIMEOUT) {
            Ok(listed) => others_of(self.name, listed.as_deref()),
            Err(error) => {
                tracing::debug!(group = self.group, %error, "failed to list the group's members");
                OtherMembers::Unknown
            }
        };
        if others == OtherMembers::Unknown {
            tracing::info!(group = self.group, "the group's other members are unknown");
        }
        others
    }

    /// The ids of the group's members; `None` if no broker can list them, for example while the group's coordinator
    /// moves to another broker.
    fn listed<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        timeout: Duration,
    ) -> Result<Option<Vec<String>>, KafkaError> {
        let list = consumer.fetch_group_list(Some(self.group), timeout)?;
        let mut groups = list.groups().iter();
        // A broker that can't describe a group lists only its name, without a protocol type.
        let known = groups.find(|group| group.protocol_type() == "consumer");
        let ids = known.map(|group| group.members().iter().map(|member| member.id().to_owned()));
        Ok(ids.map(Iterator::collect))
    }

    /// Leaves the group. Closing the client of a static member keeps the membership; only unsubscribing ends it. The
    /// client sends the leave request some time after its assignment has become empty, and never if the client is
    /// closed before. So this method waits until the brokers no longer list the member.
    pub(super) fn leave<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>) {
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
            "the group may not have registered that this member left"
        );
    }

    /// Whether the brokers no longer list this member. A member that is not static leaves when its client is
    /// closed.
    fn has_left<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>) -> bool {
        match self.protocol {
            GroupProtocol::Consumer => true,
            GroupProtocol::Classic => {
                let listed = self.listed(consumer, LEFT_TIMEOUT);
                listed.is_ok_and(|listed| is_gone(self.name, listed.as_deref()))
            }
        }
    }
}

/// Whether a list has members other than the one with this name. An empty list does not prove that no other members
/// exist: the group may have evicted this member while it was suspended, and the others may join after the list was
/// made.
fn others_of(name: &str, listed: Option<&[String]>) -> OtherMembers {
    let Some(listed) = listed else {
        return OtherMembers::Unknown;
    };
    let own = listed.iter().filter(|id| is_of(id, name)).count();
    match (own, listed.len() - own) {
        (_, 1..) => OtherMembers::Some,
        (1.., 0) => OtherMembers::None,
        (0, 0) => OtherMembers::Unknown,
    }
}

/// Whether the brokers list the group, and the list lacks the member with this name.
fn is_gone(name: &str, listed: Option<&[String]>) -> bool {
    listed.is_some_and(|listed| !listed.iter().any(|id| is_of(id, name)))
}

/// Whether a member id belongs to the static member `name`: brokers append a UUID to the name.
fn is_of(id: &str, name: &str) -> bool {
    id.strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('-'))
        .is_some_and(|uuid| uuid.len() == UUID_LENGTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_members_id_begins_with_its_name() {
        let uuid = "0b1f3c8e-5a4d-4a8e-9d0c-111111111111";
        let is_of = |id: &str| is_of(id, "127.0.0.1:80");
        assert!(is_of(&format!("127.0.0.1:80-{uuid}")));
        assert!(!is_of(&format!("127.0.0.1:8080-{uuid}")));
        assert!(!is_of(&format!("127.0.0.1:80-b-{uuid}")));
    }

    fn ids(names: &[&str]) -> Vec<String> {
        let uuid = "0b1f3c8e-5a4d-4a8e-9d0c-111111111111";
        names.iter().map(|name| format!("{name}-{uuid}")).collect()
    }

    /// If a node treated "unknown" as "none", it would step down before its successors serve.
    #[test]
    fn a_member_is_alone_only_if_the_group_lists_it_and_nobody_else() {
        let others = |names: &[&str]| others_of("a:80", Some(&ids(names)));
        assert_eq!(others(&["a:80"]), OtherMembers::None);
        assert_eq!(others(&["a:80", "b:80"]), OtherMembers::Some);
        assert_eq!(others(&["b:80"]), OtherMembers::Some, "a:80 was evicted");
        assert_eq!(others(&[]), OtherMembers::Unknown);
        assert_eq!(others_of("a:80", None), OtherMembers::Unknown);
    }

    #[test]
    fn a_member_has_left_only_if_the_group_is_listed_without_it() {
        assert!(is_gone("a:80", Some(&ids(&["b:80"]))));
        assert!(is_gone("a:80", Some(&[])));
        assert!(!is_gone("a:80", Some(&ids(&["a:80"]))));
        assert!(!is_gone("a:80", None), "no broker describes the group");
    }
}
