//! The index tables that the valid records fold to: aggregates, and the answers of earlier commands.
//!
//! The state store gets all entries with some delay. Recently used entries are in memory too, and unsaved ones
//! exist only there, so they stay. An entry that is not in memory must be fetched from the store before it is
//! used. Memory also records which entries do not exist.

use super::{
    bloom_filter::BloomFilter,
    entries::{Aggregate, Lifetime, StoredAnswer, Unsaved},
    request::Machine,
    store_layout,
    two_generation_cache::TwoGenerationCache,
};
use crate::{
    checkpoint::Checkpoint,
    protocol::OwnerProtocol,
    store::{Answered, EntryKey, MakeChanges, StateStore, StoreError, Table},
};
use schemas::{Decision, Timestamp, ids::CommandId};
use std::sync::Arc;

/// Maximum number of unsaved commits. At this number, the owner takes no command.
pub(super) const UNSAVED_MAX: usize = 200_000;

/// An entry, as far as memory has it.
pub(super) enum Cached<T> {
    /// The entry; `None`: the log has no such entry.
    Known(Option<T>),
    /// The entry must be read from the store.
    Unread,
}

/// The name of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::owner) enum EntryName {
    Aggregate(Arc<str>),
    Answer(CommandId),
}

/// Entries from the store.
pub struct Fetched(Vec<(EntryName, Option<Vec<u8>>)>);

/// Aggregates by key; `None`: the log has none under that key.
type AggregateCache<S> = TwoGenerationCache<Arc<str>, Option<Arc<Aggregate<S>>>>;

/// The owner's index tables, folded from the log alone.
pub(super) struct IndexTables<M: Machine> {
    pub machine: M,
    partition: i32,
    store: Arc<dyn StateStore>,
    /// Fingerprint of the key that hashes commands; `None` if it is not known.
    pub hash_key: Option<Arc<str>>,
    aggregates: AggregateCache<M::State>,
    answers: TwoGenerationCache<CommandId, Option<StoredAnswer>>,
    /// The ids that have an answer in the store.
    stored_ids: BloomFilter,
    unsaved: Unsaved<M::State>,
    saving: Option<(Arc<Unsaved<M::State>>, i64)>,
    /// The store has all entries of commits before this offset.
    saved_before: i64,
}

impl<M: Machine> IndexTables<M> {
    pub fn new(machine: M, partition: i32, store: Arc<dyn StateStore>) -> Self {
        Self {
            machine,
            partition,
            store,
            hash_key: None,
            aggregates: TwoGenerationCache::default(),
            answers: TwoGenerationCache::default(),
            stored_ids: BloomFilter::default(),
            unsaved: Unsaved::default(),
            saving: None,
            saved_before: 0,
        }
    }

    /// Drops the entries in memory, and resumes from the store. Returns the store's checkpoint. If the store is
    /// empty, torn or built by another fold, empties it and returns `None`.
    ///
    /// # Errors
    /// The store can't be read or emptied, or a node with another hash key has written it.
    pub async fn restore(&mut self, topic: &str) -> Result<Option<Checkpoint>, StoreError> {
        self.forget();
        let (partition, hash_key) = (self.partition, self.hash_key.as_deref());
        let checkpoint = store_layout::checkpoint::<M>(&self.store, topic, partition, hash_key);
        let checkpoint = checkpoint.await?;
        match &checkpoint {
            Some(checkpoint) => {
                self.saved_before = checkpoint.next_offset;
                let (log_time, ids) = (checkpoint.log_time, &mut self.stored_ids);
                store_layout::add_ids(&self.store, log_time, ids).await?;
            }
            None => self.store.clone().clear().await?,
        }
        Ok(checkpoint)
    }

    /// Drops all entries, in the store too.
    pub async fn clear(&mut self) -> Result<(), StoreError> {
        self.forget();
        self.store.clone().clear().await
    }

    fn forget(&mut self) {
        self.aggregates = TwoGenerationCache::default();
        self.answers = TwoGenerationCache::default();
        self.stored_ids = BloomFilter::default();
        self.unsaved = Unsaved::default();
        self.saving = None;
        self.saved_before = 0;
    }

    pub fn aggregate(&mut self, key: &str) -> Cached<Arc<Aggregate<M::State>>> {
        match self.aggregates.get(key) {
            Some(aggregate) => Cached::Known(aggregate.clone()),
            None => Cached::Unread,
        }
    }

    /// The answer of an earlier command, unless it has expired.
    pub fn answer(&mut self, id: CommandId, log_time: Timestamp) -> Cached<StoredAnswer> {
        let found = match self.answers.get(&id) {
            Some(stored) => stored.clone(),
            None if !self.stored_ids.may_contain(id) => None,
            None => return Cached::Unread,
        };
        Cached::Known(found.filter(|stored| !stored.is_expired(log_time)))
    }

    /// Fetches entries from the store.
    pub fn fetch(&self, names: Vec<EntryName>) -> Answered<Fetched> {
        let key = |name: &EntryName| -> EntryKey {
            match name {
                EntryName::Aggregate(key) => (Table::Aggregates, key.as_bytes().to_vec()),
                EntryName::Answer(id) => (Table::Answers, id.0.to_vec()),
            }
        };
        let read = self.store.clone().read(names.iter().map(key).collect());
        Box::pin(async move { Ok(Fetched(names.into_iter().zip(read.await?).collect())) })
    }

    /// Adds entries that were fetched, unless memory has newer ones.
    pub fn remember(&mut self, fetched: Fetched) -> Result<(), StoreError> {
        let saved_before = self.saved_before;
        for (name, bytes) in fetched.0 {
            match name {
                EntryName::Aggregate(key) if self.aggregates.get(&*key).is_none() => {
                    let read = |bytes: Vec<u8>| store_layout::read(&key, &bytes).map(Arc::new);
                    let aggregate = bytes.map(read).transpose()?;
                    self.aggregates.remember(key, aggregate, saved_before);
                }
                EntryName::Answer(id) if self.answers.get(&id).is_none() => {
                    let read = |bytes: Vec<u8>| store_layout::read(&hex::encode(id.0), &bytes);
                    let answer = bytes.map(read).transpose()?;
                    self.answers.remember(id, answer, saved_before);
                }
                EntryName::Aggregate(_) | EntryName::Answer(_) => {}
            }
        }
        Ok(())
    }

    /// The aggregate after a decision; `base` is the aggregate before it.
    pub fn after(
        &self,
        key: &str,
        base: Option<&Aggregate<M::State>>,
        events: &[M::Event],
    ) -> Aggregate<M::State> {
        let aggregate_type = schemas::ids::split_key(key).map_or(key, |(kind, _)| kind);
        let (version, state) = match base {
            Some(base) => (base.version, base.state.clone()),
            None => {
                let state = self.machine.blank(aggregate_type);
                // The reader halts at a key of another type, and commands name types of the context.
                (0, state.expect("keys have aggregate types of the context"))
            }
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

    /// Folds a valid decision that was read.
    ///
    /// # Panics
    /// Its aggregate was not fetched.
    pub fn fold<P: OwnerProtocol>(
        &mut self,
        key: &str,
        offset: i64,
        recorded_at: Timestamp,
        decision: &Decision<M::Event>,
    ) {
        if !decision.events.is_empty() {
            let Cached::Known(base) = self.aggregate(key) else {
                panic!(
                    "the aggregate {key} at offset {offset} was not fetched before it was folded"
                );
            };
            let after = self.after(key, base.as_deref(), &decision.events);
            self.put(key.into(), Arc::new(after), offset);
        }
        if P::folds_answers() {
            let count = i64::try_from(decision.events.len()).unwrap_or(i64::MAX);
            let stored = StoredAnswer {
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
    }

    /// Sets an aggregate to its state after a valid commit.
    pub fn put(&mut self, key: Arc<str>, aggregate: Arc<Aggregate<M::State>>, offset: i64) {
        self.unsaved
            .aggregates
            .insert(key.clone(), aggregate.clone());
        self.aggregates.insert(key, Some(aggregate), offset);
    }

    /// Adds the answer of a valid decision.
    pub fn put_answer(&mut self, id: CommandId, stored: StoredAnswer) {
        let offset = stored.offset;
        let lifetime = Lifetime::of(stored.origin);
        self.stored_ids.insert(id, lifetime, stored.recorded_at);
        self.unsaved.answers.push((id, stored.clone()));
        self.answers.insert(id, Some(stored), offset);
    }

    /// Number of unsaved commits.
    pub fn unsaved(&self) -> usize {
        let saving = self.saving.as_ref();
        self.unsaved.answers.len() + saving.map_or(0, |(saving, _)| saving.answers.len())
    }

    /// The changes that bring the store up to `checkpoint`; `None` while earlier ones are being written
    /// or if there are none.
    pub fn save(&mut self, checkpoint: &Checkpoint) -> Option<MakeChanges> {
        if self.saving.is_some() || checkpoint.next_offset <= self.saved_before {
            return None;
        }
        let unsaved = Arc::new(std::mem::take(&mut self.unsaved));
        self.saving = Some((unsaved.clone(), checkpoint.next_offset));
        let (checkpoint, hash_key) = (checkpoint.clone(), self.hash_key.clone());
        Some(Box::new(move |store| {
            store_layout::changes::<M>(&unsaved, &checkpoint, hash_key.as_deref(), store)
        }))
    }

    /// Takes the result of writing the changes from [`IndexTables::save`].
    pub fn finish_save(&mut self, written: bool) {
        let Some((saving, next_offset)) = self.saving.take() else {
            return;
        };
        if written {
            self.saved_before = next_offset;
            self.aggregates.turn_over(next_offset);
            self.answers.turn_over(next_offset);
            return;
        }
        // Later changes win.
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

    /// The store.
    pub fn store(&self) -> Arc<dyn StateStore> {
        self.store.clone()
    }
}
