//! Starts the write side of a node: the owners, the routes to owners on other nodes, and the membership in
//! the group that assigns partitions to nodes. Nothing else depends on this module.

mod health;
#[cfg(test)]
mod tests;

use crate::{
    handle::WriteSide,
    http::batch_stream::LAST_LINE_GRACE,
    identity::Hasher,
    owners::{ContextStart, OwnersLaunch},
    routing::{
        Directory, Router,
        assignment::{
            DRAIN_TIMEOUT, GROUP, HANDOVER_TIMEOUT, MisconfiguredTopics, PartitionAssignments,
        },
        directory,
        node_client::NodeClients,
        ownership_publisher::OwnershipPublisher,
        router::RouterConfig,
        self_eviction::SelfEviction,
    },
};
use journal::{Kafka, store::Disk};
use kafka::{Encoder, GroupError, Hint, Membership, Publisher, publisher::PublishError};
use schemas::{
    Context,
    topics::{PartitionCounts, TopicPartition},
};
use service::{
    health::Health,
    shutdown::{CONNECTIONS_TIMEOUT, SHUTDOWN_TIMEOUT, supervise},
};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Longest time from the end of the hand-over until owners and answers are abandoned: while the brokers are
/// unreachable, they would take longer than a stop may.
pub const GIVE_UP_TIMEOUT: Duration = Duration::from_secs(1);

// After the hand-over, owners and answers are abandoned and batches get their last lines before connections are
// closed. All of it fits into the time of a shutdown.
const _: () = {
    let last_answers = GIVE_UP_TIMEOUT.as_millis() + LAST_LINE_GRACE.as_millis();
    assert!(last_answers < CONNECTIONS_TIMEOUT.as_millis());
    let closing = HANDOVER_TIMEOUT.as_millis() + DRAIN_TIMEOUT.as_millis();
    assert!(closing + CONNECTIONS_TIMEOUT.as_millis() < SHUTDOWN_TIMEOUT.as_millis());
};

/// A write side that can't be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The group can't be joined.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// Entries of owners can't be published.
    #[error(transparent)]
    Publisher(#[from] PublishError),
    /// Other nodes can't be called.
    #[error("the client for other nodes can't be created: {0}")]
    Client(String),
}

/// The parts of a node that the write side uses.
pub struct Node<'a> {
    /// The cluster with the journals.
    pub log: Kafka,
    /// How many partitions each topic has.
    pub partitions: PartitionCounts,
    /// The state stores of the owners.
    pub state: Disk,
    /// Gets a component per context.
    pub health: &'a Health,
    /// Where this node takes commands, as other nodes reach it.
    pub owner_url: String,
    /// This node's name in the group; the same after a restart.
    pub member: String,
    /// Topics whose configuration does not match their specification: none of their partitions is owned.
    pub misconfigured: watch::Receiver<MisconfiguredTopics>,
    /// Gets the reason if this node leaves its partitions to others.
    pub eviction: SelfEviction,
    /// Holds the tasks.
    pub tasks: &'a TaskTracker,
    /// Cancelled to stop: partitions are handed over, while commands are still taken and forwarded to their
    /// owners.
    pub stop: CancellationToken,
    /// Cancelled by the write side once it has handed over: no more requests may come.
    pub closing: CancellationToken,
}

/// Starts an owner for every partition of every context, each on stand-by until the group assigns its
/// partition to this node. `encoder` gives the encoder of a context's journal.
///
/// # Errors
/// A client can't be created, which a wrong setting explains.
pub fn start(
    node: &Node<'_>,
    contexts: &[&dyn ContextStart],
    encoder: &dyn Fn(&'static Context) -> Encoder,
    hasher: Hasher,
) -> Result<WriteSide, StartError> {
    let publisher = Publisher::new(&node.log.source.kafka, "owners")?;
    let node_clients = NodeClients::new().map_err(|error| StartError::Client(error.to_string()))?;
    let assignments = PartitionAssignments::none(
        partitions(contexts, &node.partitions),
        node.owner_url.clone(),
        node.misconfigured.clone(),
        node.eviction.clone(),
    );
    let given_up = CancellationToken::new();
    let launch = OwnersLaunch {
        log: node.log.clone(),
        partitions: &node.partitions,
        owner_url: &node.owner_url,
        encoder,
        store: &|target| node.state.partition(target.topic, target.partition),
        assigned: &|target| assignments.watch(target),
        spawn: &|owner| node.spawn("owner", owner),
        closing: node.closing.clone(),
        given_up: given_up.clone(),
    };
    let pools = contexts.iter().map(|context| context.start(&launch));
    let pools = pools.collect();
    let (known, directory) = Directory::empty();
    let router = Router::new(RouterConfig {
        pools,
        partitions: node.partitions.clone(),
        directory: directory.clone(),
        node_clients,
        own_url: node.owner_url.clone(),
        hasher,
        closing: node.closing.clone(),
        given_up: given_up.clone(),
    });
    node.spawn("end of answers", give_up(node.closing.clone(), given_up));
    let topics: Vec<&str> = assignments.topics().into_iter().collect();
    let (membership, hints) =
        Membership::join(&node.log.source.kafka, GROUP, &node.member, &topics)?;
    let directory_reader = directory::read(
        node.log.source.clone(),
        known,
        node.partitions.clone(),
        node.closing.clone(),
    );
    node.spawn("owners' directory", directory_reader);
    let statuses = router.statuses();
    let owner_url = node.owner_url.clone();
    let publisher =
        OwnershipPublisher::new(publisher, owner_url, statuses.clone(), directory.clone());
    node.spawn("owners' entries", publisher.run(node.closing.clone()));
    watch_health(node, contexts, &hints, &router, &directory);
    let (stop, closing) = (node.stop.clone(), node.closing.clone());
    let follow_group = assignments.run(
        membership,
        hints,
        statuses.clone(),
        directory,
        stop,
        closing,
    );
    node.spawn("assignment", follow_group);
    Ok(WriteSide {
        router,
        closing: node.closing.clone(),
    })
}

/// Every partition of every context.
fn partitions(contexts: &[&dyn ContextStart], counts: &PartitionCounts) -> Vec<TopicPartition> {
    let topics = contexts.iter().map(|context| context.context().topic);
    topics
        .flat_map(|topic| {
            (0..counts.of(topic)).map(move |partition| TopicPartition { topic, partition })
        })
        .collect()
}

/// Starts a task for each component of the node's health.
fn watch_health(
    node: &Node<'_>,
    contexts: &[&dyn ContextStart],
    hints: &watch::Receiver<Hint>,
    router: &Router,
    directory: &Directory,
) {
    let component = node.health.component("group");
    let group = health::watch_group(hints.clone(), component, node.stop.clone());
    node.spawn("group's health", group);
    for context in contexts {
        let context = context.context();
        let component = node.health.component(format!("journal.{}", context.name));
        let routes = health::watch_routes(
            context,
            router.statuses().clone(),
            directory.clone(),
            node.owner_url.clone(),
            component,
            node.stop.clone(),
        );
        node.spawn("routes' health", routes);
    }
}

impl Node<'_> {
    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(supervise(name, self.stop.clone(), task));
    }
}

/// Abandons owners and answers that have not come to an end some time after `closing`.
async fn give_up(closing: CancellationToken, given_up: CancellationToken) {
    closing.cancelled().await;
    tokio::time::sleep(GIVE_UP_TIMEOUT).await;
    given_up.cancel();
}
