//! What the valid records come to: aggregates, and the answers of earlier commands.
//!
//! All of it is in the state store sooner or later; what was written or asked for lately is in memory
//! too, and what is not saved yet is nowhere else, so it stays there.

use super::{
    recent::Recent,
    request::{Answer, Machine},
    saved,
    seen::Seen,
};
use crate::{
    checkpoint::Checkpoint,
    protocol::Protocol,
    store::{MakeChanges, StateStore, StoreError, Table},
};
use foldhash::HashMap;
use schemas::{Decision, Origin, Outcome, Timestamp, ids::CommandId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const HOUR_US: i64 = 60 * 60 * 1_000_000;
/// How long a client may retry a key, in log time.
const KEYED_US: i64 = 24 * HOUR_US;
/// How long an answer to a command without a key is kept, in log time.
const SERVER_US: i64 = HOUR_US / 6;
/// Most commits that may wait to be saved; beyond that no command is taken.
pub(super) const UNSAVED_MAX: usize = 200_000;

/// An aggregate's version and state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Aggregate<S> {
    pub version: i64,
    pub state: S,
}

/// An answer that stands in the log. Kept small, for there is one a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub hash: [u8; 16],
    pub recorded_at: Timestamp,
    pub origin: Origin,
    pub offset: i64,
    pub version: i64,
    pub events: usize,
    /// Rare.
    pub outcome: Option<Box<Outcome>>,
}

/// What is saved next, or is being saved.
pub(super) struct Unsaved<S> {
    pub aggregates: HashMap<Arc<str>, Arc<Aggregate<S>>>,
    pub answers: Vec<(CommandId, Stored)>,
}

/// Folded from the log, and from nothing else.
pub(super) struct Tables<M: Machine> {
    pub machine: M,
    partition: i32,
    store: Arc<dyn StateStore>,
    aggregates: Recent<Arc<str>, Arc<Aggregate<M::State>>>,
    answers: Recent<CommandId, Stored>,
    /// Every id that has an answer in the store.
    seen: Seen,
    unsaved: Unsaved<M::State>,
    saving: Option<(Arc<Unsaved<M::State>>, i64)>,
    /// The store has everything before this offset.
    saved_before: i64,
}

impl Stored {
    /// The answer, as it was first given.
    pub fn answer(&self, partition: i32) -> Answer {
        Answer {
            partition,
            offset: self.offset,
            version: self.version,
            events: self.events,
            outcome: self.outcome.as_deref().cloned(),
            replayed: false,
        }
    }

    /// How long an answer is kept, in log time; `None`: as long as its aggregate.
    pub fn kept_us(origin: Origin) -> Option<i64> {
        match origin {
            Origin::Keyed => Some(KEYED_US),
            Origin::Server => Some(SERVER_US),
            Origin::Policy | Origin::Timer | Origin::Unknown => None,
        }
    }

    /// Whether it has been kept for long enough.
    pub fn is_expired(&self, log_time: Timestamp) -> bool {
        Self::kept_us(self.origin)
            .is_some_and(|kept| log_time.0.saturating_sub(self.recorded_at.0) > kept)
    }
}

impl<S> Default for Unsaved<S> {
    fn default() -> Self {
        Self {
            aggregates: HashMap::default(),
            answers: Vec::new(),
        }
    }
}

impl<M: Machine> Tables<M> {
    pub fn new(machine: M, partition: i32, store: Arc<dyn StateStore>) -> Self {
        Self {
            machine,
            partition,
            store,
            aggregates: Recent::default(),
            answers: Recent::default(),
            seen: Seen::default(),
            unsaved: Unsaved::default(),
            saving: None,
            saved_before: 0,
        }
    }

    /// Forgets what is in memory, and takes the store's word: gives its checkpoint, or `None` after
    /// emptying it, for it was empty, torn or of another fold.
    pub fn restore(&mut self, topic: &str) -> Result<Option<Checkpoint>, StoreError> {
        self.forget();
        let checkpoint = saved::checkpoint::<M>(&*self.store, topic, self.partition)?;
        match &checkpoint {
            Some(checkpoint) => {
                self.saved_before = checkpoint.next_offset;
                saved::each_id(&*self.store, |id| self.seen.insert(id))?;
            }
            None => self.store.clear()?,
        }
        Ok(checkpoint)
    }

    /// Forgets everything, in the store too.
    pub fn clear(&mut self) -> Result<(), StoreError> {
        self.forget();
        self.store.clear()
    }

    fn forget(&mut self) {
        self.aggregates = Recent::default();
        self.answers = Recent::default();
        self.seen = Seen::default();
        self.unsaved = Unsaved::default();
        self.saving = None;
        self.saved_before = 0;
    }

    pub fn aggregate(&mut self, key: &str) -> Result<Option<Arc<Aggregate<M::State>>>, StoreError> {
        if let Some(aggregate) = self.aggregates.get(key) {
            return Ok(Some(aggregate.clone()));
        }
        let Some(bytes) = self.store.get(Table::Aggregates, key.as_bytes())? else {
            return Ok(None);
        };
        let aggregate = Arc::new(saved::read(key, &bytes)?);
        self.aggregates
            .remember(key.into(), Arc::clone(&aggregate), self.saved_before);
        Ok(Some(aggregate))
    }

    /// The answer of an earlier command, unless it has expired.
    pub fn answer(
        &mut self,
        id: CommandId,
        log_time: Timestamp,
    ) -> Result<Option<Stored>, StoreError> {
        let found = match self.answers.get(&id) {
            Some(stored) => Some(stored.clone()),
            None if !self.seen.may_have(id) => None,
            None => match self.store.get(Table::Answers, &id.0)? {
                Some(bytes) => Some(saved::read(&hex::encode(id.0), &bytes)?),
                None => None,
            },
        };
        Ok(found.filter(|stored| !stored.is_expired(log_time)))
    }

    /// What an aggregate comes to after a decision; `base` is what it was.
    pub fn after(
        &self,
        key: &str,
        base: Option<&Aggregate<M::State>>,
        events: &[M::Event],
    ) -> Aggregate<M::State> {
        let aggregate_type = schemas::ids::split_key(key).map_or(key, |(kind, _)| kind);
        let (version, state) = match base {
            Some(base) => (base.version, base.state.clone()),
            None => (0, self.machine.blank(aggregate_type)),
        };
        let count = i64::try_from(events.len()).expect("a record has fewer events than 2^63");
        let state = events
            .iter()
            .fold(state, |state, event| self.machine.evolve(state, event));
        Aggregate {
            version: version + count,
            state,
        }
    }

    /// Takes in a valid decision that was read.
    pub fn fold<P: Protocol>(
        &mut self,
        key: &str,
        offset: i64,
        recorded_at: Timestamp,
        decision: &Decision<M::Event>,
    ) -> Result<(), StoreError> {
        if !decision.events.is_empty() {
            let base = self.aggregate(key)?;
            let after = self.after(key, base.as_deref(), &decision.events);
            self.put(key.into(), Arc::new(after), offset);
        }
        if !P::ANSWERS_NOT_FOLDED {
            let count = i64::try_from(decision.events.len()).unwrap_or(i64::MAX);
            let stored = Stored {
                hash: decision.command_hash,
                recorded_at,
                origin: decision.origin,
                offset,
                version: decision.version.saturating_add(count),
                events: decision.events.len(),
                outcome: decision.outcome.clone().map(Box::new),
            };
            self.put_answer(CommandId(decision.command_id), stored);
        }
        Ok(())
    }

    /// Takes in what an aggregate came to by a valid commit.
    pub fn put(&mut self, key: Arc<str>, aggregate: Arc<Aggregate<M::State>>, offset: i64) {
        self.unsaved
            .aggregates
            .insert(key.clone(), aggregate.clone());
        self.aggregates.insert(key, aggregate, offset);
    }

    /// Takes in the answer of a valid decision.
    pub fn put_answer(&mut self, id: CommandId, stored: Stored) {
        let offset = stored.offset;
        self.seen.insert(id);
        self.unsaved.answers.push((id, stored.clone()));
        self.answers.insert(id, stored, offset);
    }

    /// How many commits are not saved.
    pub fn unsaved(&self) -> usize {
        let saving = self.saving.as_ref();
        self.unsaved.answers.len() + saving.map_or(0, |(saving, _)| saving.answers.len())
    }

    /// The changes that make the store what it should be at `checkpoint`; `None` while earlier ones
    /// are under way or if there are none.
    pub fn save(&mut self, checkpoint: &Checkpoint) -> Option<MakeChanges> {
        if self.saving.is_some() || checkpoint.next_offset <= self.saved_before {
            return None;
        }
        let unsaved = Arc::new(std::mem::take(&mut self.unsaved));
        self.saving = Some((unsaved.clone(), checkpoint.next_offset));
        let (store, checkpoint) = (self.store.clone(), checkpoint.clone());
        Some(Box::new(move || {
            saved::changes::<M>(&unsaved, &checkpoint, &*store)
        }))
    }

    /// Hears what became of the changes that [`Tables::save`] gave.
    pub fn is_saved(&mut self, written: bool) {
        let Some((saving, next_offset)) = self.saving.take() else {
            return;
        };
        if written {
            self.saved_before = next_offset;
            self.aggregates.turn_over(next_offset);
            self.answers.turn_over(next_offset);
            return;
        }
        // What came later wins.
        let later = std::mem::take(&mut self.unsaved);
        let aggregates = saving.aggregates.iter();
        self.unsaved.aggregates = aggregates
            .map(|(key, aggregate)| (key.clone(), aggregate.clone()))
            .chain(later.aggregates)
            .collect();
        self.unsaved.answers = saving
            .answers
            .iter()
            .cloned()
            .chain(later.answers)
            .collect();
    }

    /// Where the store's writes go.
    pub fn store(&self) -> Arc<dyn StateStore> {
        self.store.clone()
    }
}
