//! One run, from a seed to the checker's verdict.

use crate::{
    broker::{LATE_MS_MAX, Link},
    checker::Checker,
    client::{ANSWER_TIMEOUT, Clients},
    corruption,
    coverage::Coverage,
    environment::Environment,
    faults::FaultInjector,
    invariants::check_store_contents,
    log::SimLog,
    node::Node,
    paused_runtime,
    reader_task::{ReaderTask, first_checkpoint},
    reference_model::ReferenceModel,
    sim::Sim,
};
use journal::protocol::OwnerProtocol;
use std::{sync::Arc, time::Duration};

/// Time after the last append until all late appends have landed, with a margin.
const SETTLE_TIME: Duration = Duration::from_millis(LATE_MS_MAX + 10_000);
/// Runs in a thousand that end with reading an altered log.
const CORRUPTED_PERMILLE: u64 = 100;

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The seed of the run.
    pub seed: u64,
    /// The invariants that the run violated.
    pub violations: Vec<String>,
    /// How often each situation occurred.
    pub coverage: Coverage,
    /// The events of the run, a line each; empty unless requested.
    pub trace: Vec<String>,
    /// A hash of the log and of all completions, hex.
    pub digest: String,
}

impl Run {
    /// The result of a simulation that has ended.
    pub(crate) fn of(seed: u64, sim: &Sim, digest: String) -> Self {
        let (violations, coverage, trace) = sim.close();
        Self {
            seed,
            violations,
            coverage,
            trace,
            digest,
        }
    }
}

/// Runs owners and readers that follow the protocol `P`, with the faults of the seed.
pub fn run<P: OwnerProtocol>(seed: u64, with_trace: bool) -> Run {
    paused_runtime::block_on(seed, simulate::<P>(seed, with_trace))
}

async fn simulate<P: OwnerProtocol>(seed: u64, with_trace: bool) -> Run {
    let sim = Arc::new(Sim::new(seed, with_trace));
    sim.note(|| format!("{:?}", sim.plan));
    let environment = Environment::new(sim.clone());
    let nodes: Arc<Vec<Node<P>>> = Arc::new(
        (0..sim.plan.nodes)
            .map(|number| Node::new(number, environment.clone()))
            .collect(),
    );
    let readers = run_faults::<P>(&environment, &nodes).await;
    for node in nodes.iter() {
        node.stop().await;
    }
    await_readers(&environment, &readers).await;
    check::<P>(&environment, &nodes, &readers).await;
    Run::of(seed, &sim, digest(&environment))
}

/// Runs clients and faults until all faults are repaired and every counter is served.
async fn run_faults<P: OwnerProtocol>(
    environment: &Environment,
    nodes: &Arc<Vec<Node<P>>>,
) -> Vec<Arc<ReaderTask>> {
    let sim = &environment.sim;
    let log = || -> SimLog {
        let link = Arc::new(Link::default());
        SimLog::new(
            environment.broker.clone(),
            link,
            environment.registry.clone(),
        )
    };
    let faults = FaultInjector::new(sim.clone(), environment.broker.clone(), nodes.clone());
    let faults = tokio::spawn(faults.run());
    let clients = Arc::new(Clients::new(environment.clone(), nodes.clone()));
    let asking: Vec<_> = (0..sim.plan.clients)
        .map(|_| tokio::spawn(clients.clone().run()))
        .collect();
    let first = ReaderTask::start::<P>(log(), first_checkpoint(), sim.clone());
    tokio::time::sleep(Duration::from_millis(sim.plan.faults_ms / 2)).await;
    let checkpoint = {
        let observed = first.observed();
        observed.checkpoints[sim.rng().index(observed.checkpoints.len())].clone()
    };
    let second = ReaderTask::start::<P>(log(), checkpoint, sim.clone());
    faults.await.expect("the simulator itself does not panic");
    for client in asking {
        client.await.expect("the simulator itself does not panic");
    }
    clients.check_service().await;
    // Late appends have landed by now.
    tokio::time::sleep(SETTLE_TIME).await;
    vec![first, second]
}

async fn await_readers(environment: &Environment, readers: &[Arc<ReaderTask>]) {
    let end = environment.broker.end();
    for reader in readers {
        if tokio::time::timeout(ANSWER_TIMEOUT, reader.reaches(end))
            .await
            .is_err()
        {
            environment
                .sim
                .violate("a reader did not reach the end".into());
        }
    }
}

async fn check<P: OwnerProtocol>(
    environment: &Environment,
    nodes: &[Node<P>],
    readers: &[Arc<ReaderTask>],
) {
    let sim = &environment.sim;
    let records = environment.broker.records();
    let model = ReferenceModel::of(&records, &environment.registry);
    sim.add(&model.coverage);
    let checker = Checker::new(sim, &model, &environment.history);
    checker.check_log();
    checker.check_answers();
    checker.check_leaderships(&environment.history, &records);
    checker.check_log_time(&records);
    for (name, reader) in ["the first reader", "the second reader"]
        .into_iter()
        .zip(readers)
    {
        checker.check_reader(name, &reader.observed());
    }
    for node in nodes {
        check_store(environment, node, &model);
    }
    if sim.rng().chance(CORRUPTED_PERMILLE) {
        corruption::read_with_altered_decision::<P>(environment, &model, records.clone()).await;
        corruption::read_without_a_term::<P>(environment, &model, records).await;
    }
}

/// Checks that a store is the fold of a prefix, and the last owner's store of all decisions.
fn check_store<P: OwnerProtocol>(
    environment: &Environment,
    node: &Node<P>,
    model: &ReferenceModel,
) {
    let number = node.number;
    if node.store.has_torn_stamp() {
        // No owner has read it since.
        return;
    }
    let end = match check_store_contents(&node.store, model) {
        Ok(end) => end.unwrap_or(0),
        Err(fault) => {
            environment
                .sim
                .violate(format!("the store of node {number}: {fault}"));
            return;
        }
    };
    // The last leadership has the highest epoch. A fenced owner may begin to serve later, before it learns of
    // its successor.
    let leaderships = environment.history.leaderships().into_iter();
    let last_leadership = leaderships.max_by_key(|leadership| leadership.epoch);
    let last_decision = model.decisions.last().map_or(-1, |one| one.offset);
    if last_leadership.is_some_and(|leadership| leadership.node == number) && end <= last_decision {
        environment
            .sim
            .violate(format!("the store of node {number} lacks the last commits"));
    }
}

fn digest(environment: &Environment) -> String {
    let mut hasher = blake3::Hasher::new();
    for record in environment.broker.records() {
        hasher.update(&record.key);
        hasher.update(&record.value);
        hasher.update(&record.stamp_ms.to_be_bytes());
    }
    for attempt in environment.history.attempts().iter() {
        hasher.update(format!("{:?}", attempt.completion).as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
