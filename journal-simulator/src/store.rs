//! A state store of a run: it outlives its node, but may lose writes.

use crate::{coverage::CoveragePoint, sim::Sim};
use futures_util::future::ready;
use journal::store::{
    Answered, Change, Entries, Entry, EntryKey, MakeChanges, STAMP_KEY, StateStore, StoreError,
    Table, first_entries,
};
use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard},
};

/// Number of last writes that may be lost.
const WRITES_AT_RISK_MAX: usize = 6;
/// Longest time of a slow write: longer than an owner waits for its last write.
const SLOW_WRITE_MS_MAX: u64 = 4_000;
/// Longest time of a slow read. A read of more than [`READ_TIMEOUT_MS`] times out.
const SLOW_READ_MS_MAX: u64 = 4_000;
const READ_TIMEOUT_MS: u64 = 3_000;

/// The previous values of the entries that a write changed.
type Undo = Vec<(EntryKey, Option<Vec<u8>>)>;

/// One node's store.
pub(super) struct SimStore {
    sim: Arc<Sim>,
    name: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<EntryKey, Vec<u8>>,
    undo: VecDeque<Undo>,
    has_unreadable_entries: bool,
    has_torn_stamp: bool,
    is_foreign: bool,
    /// It was reopened without some of its user's writes.
    is_reopened: bool,
    full_until_ms: u64,
    slow_until_ms: u64,
}

impl SimStore {
    pub fn new(sim: Arc<Sim>, node: usize) -> Self {
        Self {
            sim,
            name: format!("node {node}"),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// All entries.
    pub fn entries(&self) -> BTreeMap<EntryKey, Vec<u8>> {
        self.state().entries.clone()
    }

    /// Whether it belongs to another log, and has not been emptied since.
    pub fn is_foreign(&self) -> bool {
        self.state().is_foreign
    }

    /// Loses some of the last writes. A node that starts does not notice the loss; a running node gets an
    /// error.
    pub fn lose_end(&self, writes: usize, is_running: bool) {
        let mut state = self.state();
        if state.is_foreign {
            return;
        }
        let mut lost = 0;
        while lost < writes
            && let Some(undo) = state.undo.pop_back()
        {
            lost += 1;
            for (entry_key, value) in undo.into_iter().rev() {
                match value {
                    Some(value) => state.entries.insert(entry_key, value),
                    None => state.entries.remove(&entry_key),
                };
            }
        }
        if lost > 0 {
            state.is_reopened = is_running;
            self.sim.count(match is_running {
                true => CoveragePoint::StoreReopened,
                false => CoveragePoint::StoreLostEnd,
            });
        }
    }

    /// An operator deletes it, with its node down.
    pub fn delete(&self) {
        *self.state() = State::default();
    }

    /// Some entries can't be read from now on.
    pub fn tear(&self) {
        self.state().has_unreadable_entries = true;
    }

    /// Cuts its stamp in half.
    pub fn tear_stamp(&self) {
        let entry_key = (Table::Meta, STAMP_KEY.to_vec());
        let mut state = self.state();
        if let Some(stamp) = state.entries.get_mut(&entry_key) {
            stamp.truncate(stamp.len() / 2);
            state.has_torn_stamp = true;
        }
    }

    /// Whether its stamp is torn, and its owner has not rebuilt it.
    pub fn has_torn_stamp(&self) -> bool {
        self.state().has_torn_stamp
    }

    pub fn fill_until(&self, until_ms: u64) {
        self.state().full_until_ms = until_ms;
    }

    pub fn slow_until(&self, until_ms: u64) {
        self.state().slow_until_ms = until_ms;
    }

    /// Replaces the store with the store of another log, which is ahead or has other content. Returns `false` if the
    /// store has no entry that distinguishes logs.
    pub fn replace_with_other_log(&self, is_ahead: bool) -> bool {
        let mut state = self.state();
        let entry_key = (Table::Meta, STAMP_KEY.to_vec());
        let Some(stamp) = state.entries.get_mut(&entry_key) else {
            return false;
        };
        let Ok(mut json) = serde_json::from_slice::<serde_json::Value>(stamp) else {
            return false;
        };
        let checkpoint = &mut json["checkpoint"];
        let (Some(probe), Some(next)) = (
            checkpoint["probe_offset"].as_i64(),
            checkpoint["next_offset"].as_i64(),
        ) else {
            return false;
        };
        match is_ahead {
            true => {
                checkpoint["probe_offset"] = (probe + 100_000).into();
                checkpoint["next_offset"] = (next + 100_000).into();
            }
            false => checkpoint["hash"] = "5a".repeat(32).into(),
        }
        *stamp = json.to_string().into_bytes();
        state.is_foreign = true;
        true
    }

    fn check_reopened(&self, state: &State) -> Result<(), StoreError> {
        match state.is_reopened {
            true => Err(StoreError::Reopened {
                partition: self.name.clone(),
            }),
            false => Ok(()),
        }
    }

    fn apply(&self, changes: Vec<Change>) {
        let mut state = self.state();
        let mut undo = Vec::with_capacity(changes.len());
        for change in changes {
            let entry_key = (change.table, change.key);
            let before = match change.value {
                Some(value) => state.entries.insert(entry_key.clone(), value),
                None => state.entries.remove(&entry_key),
            };
            undo.push((entry_key, before));
        }
        state.undo.push_back(undo);
        if state.undo.len() > WRITES_AT_RISK_MAX {
            state.undo.pop_front();
        }
    }
}

impl Entries for SimStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let state = self.state();
        self.check_reopened(&state)?;
        let found = state.entries.get(&(table, key.to_vec())).cloned();
        // Every other key, so that some commands fail and others don't.
        if state.has_unreadable_entries
            && found.is_some()
            && key.last().is_some_and(|byte| byte % 2 == 0)
        {
            return Err(StoreError::Unreadable {
                partition: self.name.clone(),
                reason: "a block is torn".into(),
            });
        }
        Ok(found)
    }

    fn first(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        count: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let range = (
            Bound::Included((table, start.to_vec())),
            Bound::Excluded((table, end.to_vec())),
        );
        let state = self.state();
        let found = state.entries.range(range);
        let found = found.map(|((_, key), value)| Ok((key.clone(), value.clone())));
        first_entries(found, count)
    }
}

impl StateStore for SimStore {
    fn stamp(self: Arc<Self>) -> Answered<Option<Vec<u8>>> {
        let mut state = self.state();
        state.is_reopened = false;
        let entry_key = (Table::Meta, STAMP_KEY.to_vec());
        let stamp = state.entries.get(&entry_key).cloned();
        drop(state);
        if stamp.is_some() {
            self.sim.count(CoveragePoint::StoreResumed);
        }
        Box::pin(ready(Ok(stamp)))
    }

    fn read(self: Arc<Self>, keys: Vec<EntryKey>) -> Answered<Vec<Option<Vec<u8>>>> {
        Box::pin(async move {
            let now_ms = self.sim.now_ms();
            let is_slow = now_ms < self.state().slow_until_ms;
            if is_slow {
                let delay_ms = self.sim.rng().between(1, SLOW_READ_MS_MAX);
                let answers_ms = now_ms + delay_ms.min(READ_TIMEOUT_MS);
                tokio::time::sleep_until(self.sim.instant(answers_ms)).await;
                if delay_ms > READ_TIMEOUT_MS {
                    self.sim.count(CoveragePoint::StoreTimedOut);
                    return Err(StoreError::Unavailable {
                        path: self.name.clone(),
                        reason: "no answer from the disk".into(),
                    });
                }
            }
            keys.iter()
                .map(|(table, key)| self.get(*table, key))
                .collect()
        })
    }

    fn scan(
        self: Arc<Self>,
        table: Table,
        start: Vec<u8>,
        end: Vec<u8>,
        count: usize,
    ) -> Answered<Vec<Entry>> {
        Box::pin(ready(self.first(table, &start, &end, count)))
    }

    fn write(self: Arc<Self>, changes: MakeChanges) -> Answered<()> {
        Box::pin(async move {
            let now_ms = self.sim.now_ms();
            let is_slow = now_ms < self.state().slow_until_ms;
            if is_slow {
                let delay_ms = self.sim.rng().between(1, SLOW_WRITE_MS_MAX);
                tokio::time::sleep_until(self.sim.instant(now_ms + delay_ms)).await;
            }
            self.check_reopened(&self.state())?;
            if self.sim.now_ms() < self.state().full_until_ms {
                return Err(StoreError::Unwritable {
                    partition: self.name.clone(),
                    reason: "the disk is full".into(),
                });
            }
            let changes = changes(&*self);
            self.apply(changes);
            Ok(())
        })
    }

    fn clear(self: Arc<Self>) -> Answered<()> {
        let mut state = self.state();
        if !state.entries.is_empty() {
            self.sim.count(CoveragePoint::StoreRebuilt);
            self.sim
                .note(|| format!("the store of {} is emptied", self.name));
        }
        let (full_until_ms, slow_until_ms) = (state.full_until_ms, state.slow_until_ms);
        *state = State {
            full_until_ms,
            slow_until_ms,
            ..State::default()
        };
        drop(state);
        Box::pin(ready(Ok(())))
    }
}
