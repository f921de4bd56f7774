//! The health of the group membership, and of the routes to each context's owners.

use crate::{owners::OwnerStatuses, routing::Directory};
use journal::owner::Status;
use kafka::Hint;
use schemas::{Context, topics::TopicPartition};
use service::health::Component;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The group is healthy unless it rejects this member. Unreachable brokers are another component's matter.
pub(super) async fn watch_group(
    mut hints: watch::Receiver<Hint>,
    component: Component,
    stop: CancellationToken,
) {
    loop {
        match hints.borrow_and_update().error.clone() {
            None => component.ready(),
            Some(error) => component.not_ready(error),
        }
        tokio::select! {
            changed = hints.changed() => if changed.is_err() {
                stop.cancelled().await;
            },
            () = stop.cancelled() => return,
        }
    }
}

/// A context is ready while each of its partitions has a serving owner, on this node or another one, and no
/// owner on this node has ended.
pub(super) async fn watch_routes(
    context: &'static Context,
    mut statuses: OwnerStatuses,
    mut directory: Directory,
    own_url: String,
    component: Component,
    stop: CancellationToken,
) {
    loop {
        match unready_partition(context, &statuses, &directory, &own_url) {
            None => component.ready(),
            Some(reason) => component.not_ready(reason),
        }
        tokio::select! {
            () = statuses.changed() => {}
            () = directory.changed() => {}
            () = stop.cancelled() => return component.not_ready("shutting down"),
        }
    }
}

/// The first partition of a context without a serving owner, and the reason.
fn unready_partition(
    context: &Context,
    statuses: &OwnerStatuses,
    directory: &Directory,
    own_url: &str,
) -> Option<String> {
    let known = directory.known();
    let is_owned_elsewhere = |partition| {
        let entry = known.owner(partition);
        entry.is_some_and(|entry| entry.url != own_url)
    };
    let mut of_context = statuses
        .all()
        .filter(|(partition, _)| partition.topic == context.topic);
    of_context.find_map(|(target, status)| {
        let TopicPartition { partition, .. } = target;
        match status {
            Status::Serving { .. } => None,
            // Its predecessor may serve, but this node keeps the partition from the others.
            Status::Ended(reason) => Some(format!("partition {partition}: {reason}")),
            Status::Standby | Status::TakingOver(_) | Status::SteppingDown
                if is_owned_elsewhere(target) =>
            {
                None
            }
            Status::Standby | Status::SteppingDown => {
                Some(format!("partition {partition}: no owner is known"))
            }
            Status::TakingOver(reason) => Some(format!("partition {partition}: {reason}")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::{context::ORDERS, topics::PartitionCounts};

    const OWN_URL: &str = "http://a:1";
    /// A partition of a context, and one of another.
    const ORDERS_5: TopicPartition = TopicPartition {
        topic: ORDERS.topic,
        partition: 5,
    };
    const CATALOG_5: TopicPartition = TopicPartition {
        topic: "journal.catalog",
        partition: 5,
    };

    #[test]
    fn a_context_is_ready_while_each_partition_has_a_serving_owner() {
        let serving = Status::Serving {
            epoch: 4,
            term: [4; 16],
        };
        let ended = || Status::Ended("chain broken".into());
        let taking_over = || Status::TakingOver("barrier".into());
        // Each status of an own owner, without and with an owner on another node.
        for (status, alone, beside_another) in [
            (serving, None, None),
            (Status::Standby, Some("no owner is known"), None),
            (Status::SteppingDown, Some("no owner is known"), None),
            (taking_over(), Some("barrier"), None),
            (ended(), Some("chain broken"), Some("chain broken")),
        ] {
            let (_sender, status) = watch::channel(status);
            let (_other, other) = watch::channel(ended());
            let statuses = OwnerStatuses::new([(CATALOG_5, other), (ORDERS_5, status)]);
            let (entries, directory) = Directory::of_entries(PartitionCounts::uniform(6));
            let unready = || unready_partition(&ORDERS, &statuses, &directory, OWN_URL);
            let expected = |reason: Option<&str>| reason.map(|r| format!("partition 5: {r}"));
            assert_eq!(unready(), expected(alone));
            entries.put_all(1, OWN_URL);
            assert_eq!(unready(), expected(alone));
            entries.put_all(2, "http://b:1");
            assert_eq!(unready(), expected(beside_another));
        }
    }
}
