//! One run: from a seed to a judgement.

use super::{
    broker::{Broker, LATE_MS_MAX, Link},
    chaos::Chaos,
    client::{Clients, PATIENCE},
    inspection::inspect,
    judgement::Judgement,
    log::SimLog,
    node::{Node, Parts},
    reading::{Reading, beginning},
    tally::Tally,
    tampering,
    truth::Truth,
    world::World,
};
use crate::protocol::Protocol;
use kafka::{Encoder, Registry, RegistrySettings};
use schemas::{ContextEvent, catalog::Event};
use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

/// The id under which the simulated registry has the schema.
const SCHEMA_ID: u32 = 7;
/// How long after the last append a late one may land, with some time on top.
const SETTLE: Duration = Duration::from_millis(LATE_MS_MAX + 10_000);
/// How many of a thousand runs end with a reading of an altered log.
const TAMPERED_PERMILLE: u64 = 100;

/// Every run knows the one schema; nothing of it changes.
static CODEC: LazyLock<(Registry, Encoder)> = LazyLock::new(|| {
    let schema = Event::CONTEXT.schema();
    let registry = Registry::new(&RegistrySettings::default()).expect("it asks nothing");
    registry
        .remember(SCHEMA_ID, &schema)
        .expect("it is our own schema");
    let encoder = Encoder::new(SCHEMA_ID, &schema).expect("it is our own schema");
    (registry, encoder)
});

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What it was made from.
    pub seed: u64,
    /// What must never happen, and did.
    pub violations: Vec<String>,
    /// How often what happened.
    pub tally: Tally,
    /// What happened, a line each; empty unless asked for.
    pub trace: Vec<String>,
    /// A hash of the log and of everything that clients heard, hex.
    pub digest: String,
}

/// Runs owners and readers that make the mistakes `P`, through everything that the seed says.
pub fn run<P: Protocol>(seed: u64, with_trace: bool) -> Run {
    // The jitter of waits comes from this thread's generator.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing that could fail");
    runtime.block_on(simulate::<P>(seed, with_trace))
}

async fn simulate<P: Protocol>(seed: u64, with_trace: bool) -> Run {
    let world = Arc::new(World::new(seed, with_trace));
    world.note(|| format!("{:?}", world.plan));
    let parts = parts(world.clone());
    let nodes: Arc<Vec<Node<P>>> = Arc::new(
        (0..world.plan.nodes)
            .map(|number| Node::new(number, parts.clone()))
            .collect(),
    );
    let readers = live::<P>(&parts, &nodes).await;
    for node in nodes.iter() {
        node.stop().await;
    }
    finish_reading(&parts, &readers).await;
    judge::<P>(&parts, &nodes, &readers).await;
    let digest = digest(&parts);
    let (violations, tally, trace) = world.close();
    Run {
        seed,
        violations,
        tally,
        trace,
        digest,
    }
}

/// An empty log, and what processes need to share it.
pub(super) fn parts(world: Arc<World>) -> Parts {
    let (registry, encoder) = CODEC.clone();
    let broker = Arc::new(Broker::new(world.clone(), Vec::new()));
    tokio::spawn(broker.clone().run());
    Parts {
        world,
        broker,
        book: Arc::default(),
        registry,
        encoder,
    }
}

/// Clients ask, and faults happen, until all is calm again and served.
async fn live<P: Protocol>(parts: &Parts, nodes: &Arc<Vec<Node<P>>>) -> Vec<Arc<Reading>> {
    let world = &parts.world;
    let log = || -> SimLog<P> {
        let link = Arc::new(Link::default());
        SimLog::new(parts.broker.clone(), link, parts.registry.clone())
    };
    let chaos = Chaos::new(world.clone(), parts.broker.clone(), nodes.clone());
    let chaos = tokio::spawn(chaos.run());
    let clients = Arc::new(Clients::new(parts.clone(), nodes.clone()));
    let asking: Vec<_> = (0..world.plan.clients)
        .map(|_| tokio::spawn(clients.clone().run()))
        .collect();
    let first = Reading::begin(log(), beginning(), world.clone());
    tokio::time::sleep(Duration::from_millis(world.plan.chaos_ms / 2)).await;
    let checkpoint = {
        let seen = first.seen();
        seen.checkpoints[world.dice().index(seen.checkpoints.len())].clone()
    };
    let second = Reading::begin(log(), checkpoint, world.clone());
    chaos.await.expect("the simulator itself does not panic");
    for client in asking {
        client.await.expect("the simulator itself does not panic");
    }
    clients.probe().await;
    // What was late lands by now.
    tokio::time::sleep(SETTLE).await;
    vec![first, second]
}

async fn finish_reading(parts: &Parts, readers: &[Arc<Reading>]) {
    let end = parts.broker.end();
    for reader in readers {
        if tokio::time::timeout(PATIENCE, reader.reaches(end))
            .await
            .is_err()
        {
            parts
                .world
                .violate("a reader never comes to the end".into());
        }
    }
}

async fn judge<P: Protocol>(parts: &Parts, nodes: &[Node<P>], readers: &[Arc<Reading>]) {
    let world = &parts.world;
    let records = parts.broker.records();
    let truth = Truth::of(&records, &parts.registry);
    world.add(&truth.tally);
    let judgement = Judgement::new(world, &truth, &parts.book);
    judgement.judge_log();
    judgement.judge_answers();
    judgement.judge_offices(&parts.book, &records);
    judgement.judge_log_time(&records);
    for (name, reader) in ["the first reader", "the second reader"]
        .into_iter()
        .zip(readers)
    {
        judgement.judge_reader(name, &reader.seen());
    }
    for node in nodes {
        judge_store(parts, node, &truth);
    }
    if world.dice().chance(TAMPERED_PERMILLE) {
        tampering::read_with_altered_decision::<P>(parts, &truth, records.clone()).await;
        tampering::read_without_a_term::<P>(parts, &truth, records).await;
    }
}

/// A store is the fold of a prefix; the last owner's, of everything that was decided.
fn judge_store<P: Protocol>(parts: &Parts, node: &Node<P>, truth: &Truth) {
    let number = node.number;
    if node.store.has_torn_stamp() {
        // Nobody has looked into it since.
        return;
    }
    let end = match inspect(&node.store, truth) {
        Ok(end) => end.unwrap_or(0),
        Err(fault) => {
            parts
                .world
                .violate(format!("the store of node {number}: {fault}"));
            return;
        }
    };
    let last_office = parts.book.offices().pop();
    let last_decision = truth.decisions.last().map_or(-1, |one| one.offset);
    if last_office.is_some_and(|office| office.node == number) && end <= last_decision {
        parts.world.violate(format!(
            "the store of node {number} was not saved to the end"
        ));
    }
}

fn digest(parts: &Parts) -> String {
    let mut hasher = blake3::Hasher::new();
    for record in parts.broker.records() {
        hasher.update(&record.key);
        hasher.update(&record.value);
        hasher.update(&record.stamp_ms.to_be_bytes());
    }
    for attempt in parts.book.attempts().iter() {
        hasher.update(format!("{:?}", attempt.heard).as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
