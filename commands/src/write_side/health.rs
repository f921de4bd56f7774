//! The health of the group membership, and of the routes to each context's owners.

use crate::routing::owners_view::OwnersView;
use journal::owner::Status;
use kafka::Hint;
use schemas::Context;
use service::health::Component;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The group is healthy unless it rejects this member, or this node left it. Another component reports
/// unreachable brokers.
pub(super) async fn watch_group(
    mut hints: watch::Receiver<Hint>,
    mut evicted: watch::Receiver<Option<String>>,
    component: Component,
    stop: CancellationToken,
) {
    loop {
        let error = hints.borrow_and_update().error.clone();
        let evicted_by = evicted.borrow_and_update().clone();
        match (evicted_by, error) {
            (Some(reason), _) => {
                component.not_ready(format!(
                    "this node left the group; remove the cause, then start the node again: {reason}"
                ));
                return stop.cancelled().await;
            }
            (None, Some(error)) => component.not_ready(error),
            (None, None) => component.ready(),
        }
        tokio::select! {
            changed = hints.changed() => if changed.is_err() {
                // The membership has ended: the node stops, or it has evicted itself.
                tokio::select! {
                    _ = evicted.changed() => {}
                    () = stop.cancelled() => return,
                }
            },
            _ = evicted.changed() => {}
            () = stop.cancelled() => return,
        }
    }
}

/// A context is ready while each of its partitions has an owner that serves, on this node or another one, and
/// no owner on this node has ended or declined its partition.
pub(super) async fn watch_routes(
    context: &'static Context,
    mut view: OwnersView,
    component: Component,
    stop: CancellationToken,
) {
    loop {
        match unready_partition(context, &view) {
            None => component.ready(),
            Some(reason) => component.not_ready(reason),
        }
        tokio::select! {
            () = view.changed() => {}
            () = stop.cancelled() => return component.not_ready("shutting down"),
        }
    }
}

/// A partition of a context without a serving owner, and the reason. A partition that is assigned to this
/// node comes first, because this node knows its reason best.
fn unready_partition(context: &Context, view: &OwnersView) -> Option<String> {
    let of_context = view
        .statuses
        .all()
        .filter(|(partition, _)| partition.topic == context.topic);
    let unready = of_context.filter_map(|(target, status)| {
        let reason = view.unready(target, &status)?;
        let is_own = !matches!(status, Status::Standby | Status::SteppingDown);
        Some((!is_own, target.partition, reason))
    });
    let (_, partition, reason) = unready.min()?;
    Some(format!("partition {partition}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        owners::OwnerStatuses,
        routing::{
            Directory,
            directory::Entries,
            node_statuses::{Answers, NodeStatuses},
        },
    };
    use journal::owner::Reason;
    use schemas::{
        context::ORDERS,
        owners::Entry,
        topics::{PartitionCounts, TopicPartition},
    };

    const OWN_URL: &str = "http://a:1";
    const OTHER_URL: &str = "http://b:1";
    /// One partition of each of two contexts.
    const ORDERS_5: TopicPartition = TopicPartition {
        topic: ORDERS.topic,
        partition: 5,
    };
    const CATALOG_5: TopicPartition = TopicPartition {
        topic: "journal.catalog",
        partition: 5,
    };

    /// A node whose owner has a status, and the sources of its view.
    struct Node {
        view: OwnersView,
        entries: Entries,
        answers: watch::Sender<Answers>,
        _statuses: [watch::Sender<Status>; 2],
    }

    impl Node {
        fn new(status: Status) -> Self {
            let (sender, status) = watch::channel(status);
            let (other_sender, other) = watch::channel(Status::Ended("chain broken".into()));
            let (entries, directory) = Directory::of_entries(PartitionCounts::uniform(6));
            let (answers, nodes) = NodeStatuses::empty();
            Self {
                view: OwnersView {
                    statuses: OwnerStatuses::new([(CATALOG_5, other), (ORDERS_5, status)]),
                    directory,
                    nodes,
                    own_url: OWN_URL.into(),
                    hash_key: "0011".into(),
                },
                entries,
                answers,
                _statuses: [sender, other_sender],
            }
        }

        /// Lets the other node answer that it serves the partition in an epoch, or does not.
        fn answer(&self, served: Option<i64>) {
            let served = served.map(|epoch| (ORDERS_5, epoch));
            let answer = (OTHER_URL.to_owned(), served.into_iter().collect());
            self.answers.send_replace([answer].into());
        }

        fn unready(&self) -> Option<String> {
            let reason = unready_partition(&ORDERS, &self.view)?;
            let reason = reason.strip_prefix("partition 5: ");
            Some(reason.expect("it names the partition").to_owned())
        }
    }

    fn taking_over() -> Status {
        Status::TakingOver("barrier".into())
    }

    #[test]
    fn a_context_is_ready_while_each_partition_has_a_serving_owner() {
        let serving = Status::Serving {
            epoch: 4,
            term: [4; 16],
        };
        let ended = || Status::Ended("chain broken".into());
        let declined = || Status::Declined {
            reason: Reason::suspecting_this_node("the clock".into()),
            epoch: 2,
        };
        let unknown = "no owner is known";
        // Each status of this node's owner, without and with an owner on another node.
        for (status, alone, beside_another) in [
            (serving, None, None),
            (Status::Standby, Some(unknown), None),
            (Status::SteppingDown, Some(unknown), None),
            (taking_over(), Some("barrier"), None),
            (ended(), Some("chain broken"), Some("chain broken")),
            (declined(), Some("the clock"), Some("the clock")),
        ] {
            let node = Node::new(status);
            assert_eq!(node.unready().as_deref(), alone);
            node.entries.put_all(1, OWN_URL);
            assert_eq!(node.unready().as_deref(), alone);
            node.entries.put_all(2, OTHER_URL);
            node.answer(Some(2));
            assert_eq!(node.unready().as_deref(), beside_another);
        }
    }

    #[test]
    fn a_partition_whose_last_owner_does_not_serve_is_not_ready() {
        let node = Node::new(Status::Standby);
        node.entries.put_all(2, OTHER_URL);
        let silent = "its last owner, http://b:1, does not answer";
        assert_eq!(node.unready().as_deref(), Some(silent));
        node.answer(Some(2));
        assert_eq!(node.unready(), None);
        let idle = "its last owner, http://b:1, does not serve it";
        node.answer(None);
        assert_eq!(node.unready().as_deref(), Some(idle));
        // The other node was fenced since then and has not noticed.
        node.answer(Some(1));
        assert_eq!(node.unready().as_deref(), Some(idle));
        node.answers.send_replace(Answers::new());
        assert_eq!(node.unready().as_deref(), Some(silent));
        // While this node takes over, its own reason is more precise.
        let node = Node::new(taking_over());
        node.entries.put_all(2, OTHER_URL);
        assert_eq!(node.unready().as_deref(), Some("barrier"));
    }

    #[test]
    fn a_partition_whose_owner_has_another_hash_key_is_not_ready() {
        let node = Node::new(Status::Standby);
        let entry = |hash_key: &str| Entry {
            hash_key: Some(hash_key.into()),
            ..Entry::new(2, "", OTHER_URL)
        };
        node.answer(Some(2));
        node.entries.put(&entry("0011"));
        assert_eq!(node.unready(), None);
        node.entries.put(&entry("8899"));
        let reason = node.unready().unwrap();
        assert!(
            reason.contains("commands.hash_key_file"),
            "no \"commands.hash_key_file\" in: {reason}"
        );
    }

    #[test]
    fn a_declined_partition_is_not_ready_for_the_reason_in_its_entry() {
        let node = Node::new(Status::Standby);
        node.answer(Some(2));
        let declined = Entry::new(2, "", OTHER_URL).declining("the clock is wrong");
        node.entries.put(&declined);
        let expected = "http://b:1 declined it: the clock is wrong";
        assert_eq!(node.unready().as_deref(), Some(expected));
    }
}
