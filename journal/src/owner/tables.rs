//! What the valid records come to: aggregates, and the answers of earlier commands.

use super::request::{Answer, Machine};
use schemas::{Decision, Origin, Timestamp, ids::CommandId};
use std::collections::{HashMap, VecDeque};

const HOUR_US: i64 = 60 * 60 * 1_000_000;
/// How long a client may retry a key, in log time.
const KEYED_US: i64 = 24 * HOUR_US;
/// How long an answer to a command without a key is kept, in log time.
const SERVER_US: i64 = HOUR_US / 6;

/// An aggregate's version and state.
#[derive(Debug, Clone)]
pub(super) struct Aggregate<S> {
    pub version: i64,
    pub state: S,
}

/// An answer that stands in the log.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub hash: [u8; 16],
    pub answer: Answer,
}

/// Folded from the log, and from nothing else.
pub(super) struct Tables<M: Machine> {
    pub machine: M,
    partition: i32,
    aggregates: HashMap<String, Aggregate<M::State>>,
    answers: HashMap<CommandId, Stored>,
    /// Ids by the log time of their commits, which never falls: the oldest is in front.
    keyed: VecDeque<(Timestamp, CommandId)>,
    server: VecDeque<(Timestamp, CommandId)>,
}

impl<M: Machine> Tables<M> {
    pub fn new(machine: M, partition: i32) -> Self {
        Self {
            machine,
            partition,
            aggregates: HashMap::new(),
            answers: HashMap::new(),
            keyed: VecDeque::new(),
            server: VecDeque::new(),
        }
    }

    pub fn aggregate(&self, key: &str) -> Option<&Aggregate<M::State>> {
        self.aggregates.get(key)
    }

    pub fn answer(&self, id: CommandId) -> Option<&Stored> {
        self.answers.get(&id)
    }

    /// What an aggregate comes to after a decision; `base` is what it was.
    pub fn after(
        &self,
        key: &str,
        base: Option<Aggregate<M::State>>,
        events: &[M::Event],
    ) -> Aggregate<M::State> {
        let aggregate_type = schemas::ids::split_key(key).map_or(key, |(kind, _)| kind);
        let base = base.unwrap_or_else(|| Aggregate {
            version: 0,
            state: self.machine.blank(aggregate_type),
        });
        let count = i64::try_from(events.len()).expect("a record has fewer events than 2^63");
        let state = events
            .iter()
            .fold(base.state, |state, event| self.machine.evolve(state, event));
        Aggregate {
            version: base.version + count,
            state,
        }
    }

    /// Takes in a valid decision; gives its answer.
    pub fn take(
        &mut self,
        key: &str,
        offset: i64,
        log_time: Timestamp,
        decision: &Decision<M::Event>,
    ) -> Answer {
        if !decision.events.is_empty() {
            let base = self.aggregates.remove(key);
            let after = self.after(key, base, &decision.events);
            self.aggregates.insert(key.to_owned(), after);
        }
        let events = decision.events.len();
        let version = decision.version + i64::try_from(events).unwrap_or(i64::MAX);
        let answer = Answer {
            partition: self.partition,
            offset,
            version,
            events,
            outcome: decision.outcome.clone(),
            replayed: false,
        };
        self.remember(decision, log_time, answer.clone());
        answer
    }

    fn remember(&mut self, decision: &Decision<M::Event>, log_time: Timestamp, answer: Answer) {
        let id = CommandId(decision.command_id);
        match decision.origin {
            Origin::Keyed => self.keyed.push_back((log_time, id)),
            Origin::Server => self.server.push_back((log_time, id)),
            // These live as long as their aggregates.
            Origin::Policy | Origin::Timer | Origin::Unknown => {}
        }
        self.answers.insert(
            id,
            Stored {
                hash: decision.command_hash,
                answer,
            },
        );
        for (ids, kept_us) in [(&mut self.keyed, KEYED_US), (&mut self.server, SERVER_US)] {
            while let Some((time, id)) = ids.front()
                && log_time.0 - time.0 > kept_us
            {
                self.answers.remove(id);
                ids.pop_front();
            }
        }
    }
}
