//! Leaves a group for good, and finds out whether other members remain.

use crate::settings::GroupProtocol;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use std::time::{Duration, Instant};

/// Longest time to leave.
pub(super) const TIMEOUT: Duration = MEMBERS_TIMEOUT.saturating_add(LEAVE_TIMEOUT);
/// Longest wait for the brokers' list of the group's members.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest wait for the group to register that a member has left.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two checks whether the group has registered it.
const LEAVE_POLL_TIMEOUT: Duration = Duration::from_millis(20);
/// Longest wait for the answer to one check.
const LEFT_TIMEOUT: Duration = Duration::from_millis(500);
/// Characters of the UUID that brokers append to a static member's name.
const UUID_LENGTH: usize = 36;

/// The members that remain when one leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherMembers {
    /// None.
    None,
    /// At least one, which will be assigned the partitions.
    Some,
    /// The brokers did not say.
    Unknown,
}

/// A member that leaves.
pub(super) struct Leaver<'a> {
    /// The group's name at the brokers.
    pub group: &'a str,
    /// The member's name.
    pub name: &'a str,
    pub protocol: GroupProtocol,
}

impl Leaver<'_> {
    /// Whether the group has other members. With the protocol `consumer` the brokers don't list the members for
    /// this client, so it assumes that there are some.
    pub(super) fn others<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>) -> OtherMembers {
        let group = self.group;
        match consumer.fetch_group_list(Some(group), MEMBERS_TIMEOUT) {
            Ok(list) => match list.groups().first() {
                Some(found)
                    if found.protocol_type() == "consumer" && found.members().len() <= 1 =>
                {
                    OtherMembers::None
                }
                Some(_) | None => OtherMembers::Some,
            },
            Err(error) => {
                tracing::info!(group, %error, "can't list the group's members");
                OtherMembers::Unknown
            }
        }
    }

    /// Closing a static member keeps its membership; only unsubscribing ends it. The client sends the request
    /// some time after it reports that nothing is assigned to it, and never if it is closed before. So this
    /// method waits until the brokers no longer list the member.
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
                let list = consumer.fetch_group_list(Some(self.group), LEFT_TIMEOUT);
                list.is_ok_and(|list| {
                    let mut members = list.groups().iter().flat_map(|group| group.members());
                    !members.any(|member| is_of(member.id(), self.name))
                })
            }
        }
    }
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
}
