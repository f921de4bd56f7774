//! A client of a run: asks, waits, asks again under the same key, and writes down what it hears.

use super::{
    book::{Heard, Order},
    machine::{Ask, PRICE_MAX},
    node::{Node, Parts},
    show,
    tally::Happening,
};
use crate::{
    owner::{Answer, Refusal, Request},
    protocol::Protocol,
};
use futures_util::future::join_all;
use schemas::{Origin, Timestamp, ids::CommandId};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Products; the first is the one that everybody wants.
const PRODUCTS: [&str; 4] = ["product_HOT", "product_B", "product_C", "product_D"];
/// How often a client sends a command again that it got no answer to.
const TRIES_MAX: u32 = 6;
/// Longest time that an impatient client waits.
const IMPATIENT_MS_MAX: u64 = 12_000;
/// How long anybody may wait for an answer, whatever happens: longer than all faults last, and what an
/// owner may take after them.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// Commands that others may send too.
const POOL_MAX: usize = 12;

/// What came of one sending: an answer, or none in time.
type Outcome = Option<Result<Answer, Refusal>>;

/// What clients share.
pub(super) struct Clients<P> {
    parts: Parts,
    nodes: Arc<Vec<Node<P>>>,
    /// Keyed commands that were sent of late.
    pool: Mutex<Vec<Order>>,
    /// The versions last heard of.
    versions: Mutex<BTreeMap<String, i64>>,
}

impl<P: Protocol> Clients<P> {
    pub fn new(parts: Parts, nodes: Arc<Vec<Node<P>>>) -> Self {
        Self {
            parts,
            nodes,
            pool: Mutex::default(),
            versions: Mutex::default(),
        }
    }

    /// One client's whole life.
    pub async fn run(self: Arc<Self>) {
        let world = self.parts.world.clone();
        let mut left = world.plan.commands_of_client;
        while left > 0 {
            let (think_ms, burst) = {
                let mut dice = world.dice();
                let think_ms = dice.between(0, world.plan.think_ms_max);
                (think_ms, dice.between(1, world.plan.burst_max).min(left))
            };
            tokio::time::sleep(Duration::from_millis(think_ms)).await;
            left -= burst;
            let orders: Vec<Order> = (0..burst).map(|_| self.order()).collect();
            join_all(orders.into_iter().map(|order| self.pursue(order))).await;
        }
    }

    /// Once faults are over: every product is served, and soon.
    pub async fn probe(&self) {
        let world = &self.parts.world;
        for product in PRODUCTS {
            let order = Order {
                id: world.dice().id(),
                key: product.into(),
                ask: Ask::Set { price: 1 },
                origin: Origin::Keyed,
                expected_version: None,
                made_at: world.wall(),
            };
            let deadline = tokio::time::Instant::now() + PATIENCE;
            loop {
                let answered = self.send(&order, self.assigned_node(), None).await;
                if matches!(answered, Some(Ok(_))) {
                    break;
                }
                if tokio::time::Instant::now() > deadline {
                    world.violate(format!("{product} is not served though faults are over"));
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    /// Something to ask.
    fn order(&self) -> Order {
        let world = &self.parts.world;
        world.count(Happening::Command);
        let mut dice = world.dice();
        let mut pool = self.pool.lock().expect("no holder panics");
        if !pool.is_empty() && dice.chance(120) {
            let index = dice.index(pool.len());
            let known = pool[index].clone();
            return match dice.chance(600) {
                true => known,
                // The same key for something else.
                false => Order {
                    ask: Ask::Set { price: 7 },
                    ..known
                },
            };
        }
        let product = match dice.chance(600) {
            true => 0,
            false => dice.index(PRODUCTS.len()),
        };
        let key = PRODUCTS[product].to_owned();
        let price_max = u64::try_from(PRICE_MAX).expect("it is above 0");
        let ask = match dice.index(6) {
            0..=2 => Ask::Raise {
                steps: 1 + i64::from(dice.chance(200)),
            },
            3 | 4 => Ask::Lower {
                by: 1 + i64::from(dice.chance(300)),
            },
            _ => Ask::Set {
                price: i64::try_from(dice.between(0, price_max)).expect("it is small"),
            },
        };
        let heard = self
            .versions
            .lock()
            .expect("no holder panics")
            .get(&key)
            .copied();
        let expected_version = match dice.index(10) {
            0..=2 => heard,
            3 => heard.map(|version| (version - 1).max(0)),
            _ => None,
        };
        let origin = match dice.chance(600) {
            true => Origin::Keyed,
            false => Origin::Server,
        };
        let id = dice.id();
        let order = Order {
            id,
            key,
            ask,
            origin,
            expected_version,
            made_at: world.wall(),
        };
        if origin == Origin::Keyed {
            if pool.len() == POOL_MAX {
                pool.remove(0);
            }
            pool.push(order.clone());
        }
        order
    }

    /// Sends a command until it is answered, and sometimes once more.
    async fn pursue(&self, order: Order) {
        let world = self.parts.world.clone();
        for _ in 0..TRIES_MAX {
            let (node, deadline_ms) = (self.some_node(), self.deadline_ms());
            let outcome = self.send(&order, node, deadline_ms).await;
            let is_answered = match &outcome {
                Some(Ok(_) | Err(Refusal::VersionMismatch { .. } | Refusal::KeyReused)) => true,
                Some(Err(
                    Refusal::NotOwner(_)
                    | Refusal::Unavailable(_)
                    | Refusal::Busy(_)
                    | Refusal::TooLarge { .. }
                    | Refusal::Unencodable(_),
                ))
                | None => false,
            };
            let (again, wait_ms) = {
                let mut dice = world.dice();
                let again = match is_answered {
                    true => dice.chance(150),
                    false => true,
                };
                (again, dice.between(10, 1_500))
            };
            // Without a key nobody would know it to be the same command.
            if !again || order.origin != Origin::Keyed {
                return;
            }
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }

    fn deadline_ms(&self) -> Option<u64> {
        let mut dice = self.parts.world.dice();
        match dice.chance(700) {
            true => Some(dice.between(5, IMPATIENT_MS_MAX)),
            false => None,
        }
    }

    /// A node that has the partition if there is one, or any.
    fn some_node(&self) -> usize {
        let is_sensible = self.parts.world.dice().chance(700);
        match is_sensible {
            true => self.assigned_node(),
            false => self.parts.world.dice().index(self.nodes.len()),
        }
    }

    fn assigned_node(&self) -> usize {
        let assigned: Vec<usize> = self
            .nodes
            .iter()
            .filter(|node| node.is_assigned())
            .map(|node| node.number)
            .collect();
        let mut dice = self.parts.world.dice();
        match assigned.len() {
            0 => dice.index(self.nodes.len()),
            count => assigned[dice.index(count)],
        }
    }

    /// Sends a command once, and waits for so long; without a deadline for as long as anybody may.
    async fn send(&self, order: &Order, node: usize, deadline_ms: Option<u64>) -> Outcome {
        let (world, book) = (&self.parts.world, &self.parts.book);
        world.count(Happening::Attempt);
        let handle = self.nodes[node].handle();
        let attempt = book.send(order.clone(), node, self.parts.broker.end());
        world.note(|| {
            let id = show::id(&order.id);
            let Order { key, ask, origin, expected_version, .. } = order;
            format!("#{attempt} {id} -> node {node}: {key} {ask:?} {origin:?} expects {expected_version:?}")
        });
        let asked = async {
            let answer = handle?.submit(request(order, world.wall())).await;
            match answer {
                // Without an answer its sender is dead.
                Ok(answer) => answer.await.ok(),
                Err(refusal) => Some(Err(refusal)),
            }
        };
        let wait = deadline_ms.map_or(PATIENCE, Duration::from_millis);
        let outcome = match tokio::time::timeout(wait, asked).await {
            Ok(outcome) => outcome,
            Err(_) => {
                if deadline_ms.is_none() {
                    world.violate(format!("attempt #{attempt} waits for ever"));
                }
                None
            }
        };
        world.note(|| format!("#{attempt} {outcome:?}"));
        self.learn(order, &outcome);
        let (end, answer) = (self.parts.broker.end(), outcome.clone());
        book.hear(attempt, Heard { end, answer });
        outcome
    }

    fn learn(&self, order: &Order, outcome: &Outcome) {
        let (happening, version) = match outcome {
            Some(Ok(answer)) if answer.replayed => (Happening::Replay, Some(answer.version)),
            Some(Ok(answer)) if answer.outcome.is_some() => {
                (Happening::Outcome, Some(answer.version))
            }
            Some(Ok(answer)) => (Happening::Answer, Some(answer.version)),
            Some(Err(Refusal::VersionMismatch { current, .. })) => {
                (Happening::VersionMismatch, Some(*current))
            }
            Some(Err(Refusal::KeyReused)) => (Happening::KeyReused, None),
            Some(Err(
                Refusal::NotOwner(_)
                | Refusal::Unavailable(_)
                | Refusal::Busy(_)
                | Refusal::TooLarge { .. }
                | Refusal::Unencodable(_),
            ))
            | None => (Happening::NoAnswer, None),
        };
        self.parts.world.count(happening);
        if let Some(version) = version {
            let mut versions = self.versions.lock().expect("no holder panics");
            versions.insert(order.key.clone(), version);
        }
    }
}

fn request(order: &Order, now: Timestamp) -> Request<Ask> {
    Request {
        key: order.key.clone(),
        command: order.ask.clone(),
        id: CommandId(order.id),
        hash: order.hash(),
        origin: order.origin,
        actor: "a client".into(),
        correlation_id: order.id,
        causation_id: None,
        traceparent: None,
        expected_version: order.expected_version,
        received_at: match order.origin {
            Origin::Server => order.made_at,
            Origin::Keyed | Origin::Policy | Origin::Timer | Origin::Unknown => now,
        },
    }
}
