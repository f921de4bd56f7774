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
        node_statuses::{self, NodeStatuses},
        owners_view::OwnersView,
        ownership_publisher::{OwnNode, OwnershipPublisher},
        router::RouterConfig,
        self_eviction::SelfEviction,
    },
};
use journal::{
    Kafka,
    owner::{BrokerClocks, OwnerSettings, ProcessLimits},
    store::{Disk, Pulse},
};
use kafka::{Encoder, GroupError, Hint, Membership, Publisher, Watchdog, publisher::PublishError};
use schemas::{
    Context,
    topics::{PartitionCounts, TopicPartition},
};
use service::{
    health::Health,
    shutdown::{CONNECTIONS_TIMEOUT, SHUTDOWN_TIMEOUT, supervise},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Time from the end of the hand-over until owners and pending answers are abandoned. While the brokers are
/// unreachable, they would outlast a shutdown.
pub const GIVE_UP_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest time that this node's tasks may stall before the node leaves the group. It is shorter than a
/// session, so that a frozen node loses its partitions as soon as a dead one.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(4);
/// Longest time that the state store may leave a request unanswered before this node leaves the group. A write may wait
/// for files to be merged for almost as long, and must not cause a take-over, which may read much of the log.
pub const STORE_STALL_TIMEOUT: Duration = Duration::from_secs(12);
/// Time between two heartbeats of the tasks.
const FEED_INTERVAL: Duration = Duration::from_secs(1);

// After the hand-over, owners and answers are abandoned and batches get their last lines before connections
// are closed. All of this fits into the shutdown timeout.
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
    /// The client for other nodes can't be created.
    #[error("the client for other nodes can't be created: {0}")]
    Client(String),
}

/// The parts of a node that the write side uses.
pub struct Node<'a> {
    /// The cluster with the journals.
    pub log: Kafka,
    /// The number of partitions of each topic.
    pub partitions: PartitionCounts,
    /// The state stores of the owners.
    pub state: Disk,
    /// Receives a component per context.
    pub health: &'a Health,
    /// The URL at which other nodes send commands to this one.
    pub owner_url: String,
    /// This node's name in the group; the same after a restart.
    pub member: String,
    /// Topics whose configuration does not match their specification: this node owns none of their
    /// partitions.
    pub misconfigured: watch::Receiver<MisconfiguredTopics>,
    /// Holds the tasks.
    pub tasks: &'a TaskTracker,
    /// Cancelled to stop: partitions are handed over, while commands are still taken and forwarded to their
    /// owners.
    pub stop: CancellationToken,
    /// Cancelled by the write side once it has handed over: no further requests are accepted.
    pub closing: CancellationToken,
}

/// Starts an owner for every partition of every context, each on stand-by until the group assigns its
/// partition to this node. `encoder` gives the encoder of a context's journal.
///
/// # Errors
/// A client can't be created because a setting is wrong.
pub fn start(
    node: &Node<'_>,
    contexts: &[&dyn ContextStart],
    encoder: &dyn Fn(&'static Context) -> Encoder,
    hasher: Hasher,
) -> Result<WriteSide, StartError> {
    let publisher = Publisher::new(&node.log.source.kafka, "owners")?;
    let node_clients = NodeClients::new(&node.partitions)
        .map_err(|error| StartError::Client(error.to_string()))?;
    let eviction = SelfEviction::default();
    let assignments = PartitionAssignments::none(
        partitions(contexts, &node.partitions),
        node.owner_url.clone(),
        node.misconfigured.clone(),
        eviction.clone(),
    );
    let given_up = CancellationToken::new();
    let (known, directory) = Directory::empty();
    let settings = node.owner_settings(&directory, hasher.fingerprint());
    let launch = OwnersLaunch {
        log: node.log.clone(),
        partitions: &node.partitions,
        settings: &settings,
        encoder,
        store: &|target| node.state.partition(target.topic, target.partition),
        assigned: &|target| assignments.watch(target),
        spawn: &|owner| node.spawn("owner", owner),
        closing: node.closing.clone(),
        given_up: given_up.clone(),
    };
    let pools = contexts.iter().map(|context| context.start(&launch));
    let pools = pools.collect();
    let router = Router::new(RouterConfig {
        pools,
        partitions: node.partitions.clone(),
        directory: directory.clone(),
        node_clients: node_clients.clone(),
        own_url: node.owner_url.clone(),
        hasher,
        closing: node.closing.clone(),
        given_up: given_up.clone(),
    });
    node.spawn("abandonment", give_up(node.closing.clone(), given_up));
    let topics: Vec<&str> = assignments.topics().into_iter().collect();
    let watchdog = Watchdog::new(STALL_TIMEOUT);
    let kafka = &node.log.source.kafka;
    let (membership, hints) =
        Membership::join(kafka, GROUP, &node.member, &topics, watchdog.clone())?;
    let feeding = feed(watchdog, node.state.pulse(), node.closing.clone());
    node.spawn("watchdog", feeding);
    let view = node.view_owners(&router, known, directory, node_clients);
    node.publish_ownership(publisher, &router, &view);
    watch_health(node, contexts, &hints, &eviction, &view);
    let (stop, closing) = (node.stop.clone(), node.closing.clone());
    let follow_group = assignments.run(membership, hints, view, stop, closing);
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
    eviction: &SelfEviction,
    view: &OwnersView,
) {
    let component = node.health.component("group");
    let group = health::watch_group(
        hints.clone(),
        eviction.watch(),
        component,
        node.stop.clone(),
    );
    node.spawn("group's health", group);
    for context in contexts {
        let context = context.context();
        let component = node.health.component(format!("journal.{}", context.name));
        let routes = health::watch_routes(context, view.clone(), component, node.stop.clone());
        node.spawn("routes' health", routes);
    }
}

impl Node<'_> {
    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(supervise(name, self.stop.clone(), task));
    }

    /// The settings of each owner. They make it decline a log without the record that was published last, and
    /// a partition whose commands were hashed with another key.
    fn owner_settings(
        &self,
        directory: &Directory,
        hash_key: String,
    ) -> impl Fn(TopicPartition) -> OwnerSettings + use<> {
        let (owner_url, counts) = (self.owner_url.clone(), self.partitions.clone());
        let (directory, clocks) = (directory.clone(), BrokerClocks::default());
        let limits = ProcessLimits::default();
        move |target| {
            let (of_records, of_keys) = (directory.clone(), directory.clone());
            let hash_key = hash_key.clone();
            OwnerSettings {
                hash_key: Some(hash_key.as_str().into()),
                published: Arc::new(move || {
                    let known = of_records.known();
                    known.entry(target)?.proved.as_deref().copied()
                }),
                objection: Arc::new(move || {
                    let known = of_keys.known();
                    OwnersView::other_hash_key(known.entry(target)?, &hash_key)
                }),
                clocks: clocks.clone(),
                limits: limits.clone(),
                ..OwnerSettings::new(owner_url.clone(), counts.of(target.topic))
            }
        }
    }

    /// Starts reading the directory, and polling the nodes that it names.
    fn view_owners(
        &self,
        router: &Router,
        known: watch::Sender<directory::Known>,
        directory: Directory,
        node_clients: NodeClients,
    ) -> OwnersView {
        let read = directory::read(
            self.log.source.clone(),
            known,
            self.partitions.clone(),
            self.closing.clone(),
        );
        self.spawn("owners' directory", read);
        let (answers, statuses) = NodeStatuses::empty();
        let own_url = self.owner_url.clone();
        let closing = self.closing.clone();
        let poll = node_statuses::poll(node_clients, directory.clone(), own_url, answers, closing);
        self.spawn("other nodes' statuses", poll);
        OwnersView {
            statuses: router.statuses().clone(),
            directory,
            nodes: statuses,
            own_url: self.owner_url.clone(),
            hash_key: router.hash_key().to_owned(),
        }
    }

    /// Starts publishing the partitions that this node owns.
    fn publish_ownership(&self, publisher: Publisher, router: &Router, view: &OwnersView) {
        let proved = router.clone();
        let own_node = OwnNode {
            url: self.owner_url.clone(),
            hash_key: router.hash_key().to_owned(),
            proved: Arc::new(move |partition| proved.proved_record(partition)),
        };
        let publisher = OwnershipPublisher::new(publisher, own_node, view.clone());
        self.spawn("owners' entries", publisher.run(self.closing.clone()));
    }
}

/// Feeds the watchdog until `closing`, while the tasks of this node run and the disk of the state store answers.
async fn feed(watchdog: Watchdog, state: Pulse, closing: CancellationToken) {
    while !closing.is_cancelled() {
        match state.unanswered_for() {
            Some(time) if time >= STORE_STALL_TIMEOUT => watchdog.withhold(format!(
                "the state store has not answered for {STORE_STALL_TIMEOUT:?}"
            )),
            Some(_) | None => watchdog.feed(),
        }
        tokio::select! {
            () = tokio::time::sleep(FEED_INTERVAL) => {}
            () = closing.cancelled() => {}
        }
    }
}

/// Abandons the owners and the pending answers that are left [`GIVE_UP_TIMEOUT`] after `closing`.
async fn give_up(closing: CancellationToken, given_up: CancellationToken) {
    closing.cancelled().await;
    tokio::time::sleep(GIVE_UP_TIMEOUT).await;
    given_up.cancel();
}
