//! A client of a run: sends commands, waits, retries under the same id, and records the completions.

use crate::{
    coverage::CoveragePoint,
    environment::Environment,
    history::{ClientCommand, Completion},
    machine::{Invocation, VALUE_MAX},
    node::Node,
    trace_format,
};
use futures_util::future::join_all;
use journal::{
    owner::{Answer, Refusal, Request},
    protocol::OwnerProtocol,
};
use schemas::{Origin, Timestamp, ids::CommandId};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// The counters; the first one is hot.
const COUNTERS: [&str; 4] = ["counter_HOT", "counter_B", "counter_C", "counter_D"];
/// Maximum number of attempts of a client to get an answer to a command.
const ATTEMPTS_MAX: u32 = 6;
/// Longest time that an impatient client waits.
const IMPATIENT_MS_MAX: u64 = 12_000;
/// Longest time for any answer: longer than the duration of all faults plus the recovery of an owner.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Maximum number of commands that are kept for clients to send again.
const POOL_MAX: usize = 12;

/// The result of one attempt: an answer, or none in time.
type Outcome = Option<Result<Answer, Refusal>>;

/// The state that clients share.
pub(super) struct Clients<P> {
    environment: Environment,
    nodes: Arc<Vec<Node<P>>>,
    /// Keyed commands that were sent recently.
    pool: Mutex<Vec<ClientCommand>>,
    /// By counter, the latest version that an answer has named.
    versions: Mutex<BTreeMap<String, i64>>,
}

impl<P: OwnerProtocol> Clients<P> {
    pub fn new(environment: Environment, nodes: Arc<Vec<Node<P>>>) -> Self {
        Self {
            environment,
            nodes,
            pool: Mutex::default(),
            versions: Mutex::default(),
        }
    }

    /// Runs the client from its first command to its last.
    pub async fn run(self: Arc<Self>) {
        let sim = self.environment.sim.clone();
        let mut left = sim.plan.commands_of_client;
        while left > 0 {
            let (think_ms, burst) = {
                let mut rng = sim.rng();
                let think_ms = rng.between(0, sim.plan.think_ms_max);
                (think_ms, rng.between(1, sim.plan.burst_max).min(left))
            };
            tokio::time::sleep(Duration::from_millis(think_ms)).await;
            left -= burst;
            let commands: Vec<ClientCommand> = (0..burst).map(|_| self.draw_command()).collect();
            join_all(
                commands
                    .into_iter()
                    .map(|command| self.send_until_answered(command)),
            )
            .await;
        }
    }

    /// Checks that every counter is served soon after the faults are over.
    pub async fn check_service(&self) {
        let sim = &self.environment.sim;
        for counter in COUNTERS {
            let command = ClientCommand {
                id: sim.rng().id(),
                key: counter.into(),
                invocation: Invocation::Set { value: 1 },
                origin: Origin::Keyed,
                expected_version: None,
                created_at: sim.wall(),
            };
            let deadline = tokio::time::Instant::now() + ANSWER_TIMEOUT;
            loop {
                let answered = self.send(&command, self.assigned_node(), None).await;
                if matches!(answered, Some(Ok(_))) {
                    break;
                }
                if tokio::time::Instant::now() > deadline {
                    sim.violate(format!("{counter} is not served although faults are over"));
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    /// Draws a command.
    fn draw_command(&self) -> ClientCommand {
        let sim = &self.environment.sim;
        sim.count(CoveragePoint::Command);
        let mut rng = sim.rng();
        let mut pool = self.pool.lock().expect("no holder panics");
        if !pool.is_empty() && rng.chance(120) {
            let index = rng.index(pool.len());
            let known = pool[index].clone();
            return match rng.chance(600) {
                true => known,
                // Another command gets the same idempotency key.
                false => ClientCommand {
                    invocation: Invocation::Set { value: 7 },
                    ..known
                },
            };
        }
        let counter = match rng.chance(600) {
            true => 0,
            false => rng.index(COUNTERS.len()),
        };
        let key = COUNTERS[counter].to_owned();
        let value_max = u64::try_from(VALUE_MAX).expect("it is above 0");
        let invocation = match rng.index(6) {
            0..=2 => Invocation::Raise {
                steps: 1 + i64::from(rng.chance(200)),
            },
            3 | 4 => Invocation::Lower {
                by: 1 + i64::from(rng.chance(300)),
            },
            _ => Invocation::Set {
                value: i64::try_from(rng.between(0, value_max)).expect("it is small"),
            },
        };
        let last_version = self
            .versions
            .lock()
            .expect("no holder panics")
            .get(&key)
            .copied();
        let expected_version = match rng.index(10) {
            0..=2 => last_version,
            3 => last_version.map(|version| (version - 1).max(0)),
            _ => None,
        };
        let origin = match rng.chance(600) {
            true => Origin::Keyed,
            false => Origin::Server,
        };
        let id = rng.id();
        let command = ClientCommand {
            id,
            key,
            invocation,
            origin,
            expected_version,
            created_at: sim.wall(),
        };
        if origin == Origin::Keyed {
            if pool.len() == POOL_MAX {
                pool.remove(0);
            }
            pool.push(command.clone());
        }
        command
    }

    /// Sends a command until it is answered, and sometimes once more.
    async fn send_until_answered(&self, command: ClientCommand) {
        let sim = self.environment.sim.clone();
        for _ in 0..ATTEMPTS_MAX {
            let (node, deadline_ms) = (self.some_node(), self.deadline_ms());
            let outcome = self.send(&command, node, deadline_ms).await;
            let is_answered = match &outcome {
                Some(Ok(_) | Err(Refusal::VersionMismatch { .. } | Refusal::KeyReused)) => true,
                Some(Err(
                    Refusal::NotOwner(_)
                    | Refusal::Unavailable(_)
                    | Refusal::Busy(_)
                    | Refusal::TooLarge { .. }
                    | Refusal::Forbidden(_)
                    | Refusal::Unencodable(_),
                ))
                | None => false,
            };
            let (again, wait_ms) = {
                let mut rng = sim.rng();
                let again = match is_answered {
                    true => rng.chance(150),
                    false => true,
                };
                (again, rng.between(10, 1_500))
            };
            // Without a key an owner can't recognise the same command.
            if !again || command.origin != Origin::Keyed {
                return;
            }
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }

    fn deadline_ms(&self) -> Option<u64> {
        let mut rng = self.environment.sim.rng();
        match rng.chance(700) {
            true => Some(rng.between(5, IMPATIENT_MS_MAX)),
            false => None,
        }
    }

    /// Usually a node that has the partition, otherwise any node.
    fn some_node(&self) -> usize {
        let is_sensible = self.environment.sim.rng().chance(700);
        match is_sensible {
            true => self.assigned_node(),
            false => self.environment.sim.rng().index(self.nodes.len()),
        }
    }

    fn assigned_node(&self) -> usize {
        let assigned: Vec<usize> = self
            .nodes
            .iter()
            .filter(|node| node.is_assigned())
            .map(|node| node.number)
            .collect();
        let mut rng = self.environment.sim.rng();
        match assigned.len() {
            0 => rng.index(self.nodes.len()),
            count => assigned[rng.index(count)],
        }
    }

    /// Sends a command once, and waits until the deadline, or for [`ANSWER_TIMEOUT`] if there is no deadline.
    async fn send(
        &self,
        command: &ClientCommand,
        node: usize,
        deadline_ms: Option<u64>,
    ) -> Outcome {
        let (sim, history) = (&self.environment.sim, &self.environment.history);
        sim.count(CoveragePoint::Attempt);
        let handle = self.nodes[node].handle();
        let attempt = history.send(command.clone(), node, self.environment.broker.end());
        sim.note(|| {
            let id = trace_format::id(&command.id);
            let ClientCommand { key, invocation, origin, expected_version, .. } = command;
            format!("#{attempt} {id} -> node {node}: {key} {invocation:?} {origin:?} expects {expected_version:?}")
        });
        let answered = async {
            let answer = handle?.submit(request(command, sim.wall())).await;
            match answer {
                // The channel closes without an answer if the owner died.
                Ok(answer) => answer.await.ok(),
                Err(refusal) => Some(Err(refusal)),
            }
        };
        let wait = deadline_ms.map_or(ANSWER_TIMEOUT, Duration::from_millis);
        let outcome = match tokio::time::timeout(wait, answered).await {
            Ok(outcome) => outcome,
            Err(_) => {
                if deadline_ms.is_none() {
                    sim.violate(format!("attempt #{attempt} got no answer"));
                }
                None
            }
        };
        sim.note(|| format!("#{attempt} {outcome:?}"));
        self.count(command, &outcome);
        let (end, answer) = (self.environment.broker.end(), outcome.clone());
        history.complete(attempt, Completion { end, answer });
        outcome
    }

    fn count(&self, command: &ClientCommand, outcome: &Outcome) {
        let (point, version) = match outcome {
            Some(Ok(answer)) if answer.replayed => (CoveragePoint::Replay, Some(answer.version)),
            Some(Ok(answer)) if answer.outcome.is_some() => {
                (CoveragePoint::Outcome, Some(answer.version))
            }
            Some(Ok(answer)) => (CoveragePoint::Answer, Some(answer.version)),
            Some(Err(Refusal::VersionMismatch { current, .. })) => {
                (CoveragePoint::VersionMismatch, Some(*current))
            }
            Some(Err(Refusal::KeyReused)) => (CoveragePoint::KeyReused, None),
            Some(Err(Refusal::Forbidden(_))) => (CoveragePoint::Forbidden, None),
            Some(Err(
                Refusal::NotOwner(_)
                | Refusal::Unavailable(_)
                | Refusal::Busy(_)
                | Refusal::TooLarge { .. }
                | Refusal::Unencodable(_),
            ))
            | None => (CoveragePoint::NoAnswer, None),
        };
        self.environment.sim.count(point);
        if let Some(version) = version {
            let mut versions = self.versions.lock().expect("no holder panics");
            versions.insert(command.key.clone(), version);
        }
    }
}

fn request(command: &ClientCommand, now: Timestamp) -> Request<Invocation> {
    Request {
        key: command.key.clone(),
        command: command.invocation.clone(),
        id: CommandId(command.id),
        hash: command.hash(),
        origin: command.origin,
        actor: "a client".into(),
        correlation_id: command.id,
        causation_id: None,
        traceparent: None,
        trace_id: None,
        expected_version: command.expected_version,
        received_at: match command.origin {
            Origin::Server => command.created_at,
            Origin::Keyed | Origin::Policy | Origin::Timer | Origin::Unknown => now,
        },
    }
}
