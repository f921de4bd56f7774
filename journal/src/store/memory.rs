//! A store in memory, for tests and for owners that read the whole log at every start.

use super::state_store::{
    Answered, Change, Entries, Entry, EntryKey, MakeChanges, STAMP_KEY, StateStore, StoreError,
    Table, first_entries,
};
use futures_util::future::ready;
use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex},
};

/// A store that loses all entries when the process ends.
#[derive(Debug, Default)]
pub struct Memory {
    entries: Mutex<BTreeMap<EntryKey, Vec<u8>>>,
}

impl Memory {
    /// Applies changes at once.
    pub fn apply(&self, changes: Vec<Change>) {
        let mut entries = self.entries.lock().expect("no holder panics");
        for change in changes {
            let entry_key = (change.table, change.key);
            match change.value {
                Some(value) => entries.insert(entry_key, value),
                None => entries.remove(&entry_key),
            };
        }
    }
}

impl Entries for Memory {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let entries = self.entries.lock().expect("no holder panics");
        Ok(entries.get(&(table, key.to_vec())).cloned())
    }

    fn first(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        count: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let entries = self.entries.lock().expect("no holder panics");
        let range = (
            Bound::Included((table, start.to_vec())),
            Bound::Excluded((table, end.to_vec())),
        );
        let found = entries.range(range);
        let found = found.map(|((_, key), value)| Ok((key.clone(), value.clone())));
        first_entries(found, count)
    }
}

impl StateStore for Memory {
    fn stamp(self: Arc<Self>) -> Answered<Option<Vec<u8>>> {
        Box::pin(ready(self.get(Table::Meta, STAMP_KEY)))
    }

    fn read(self: Arc<Self>, keys: Vec<EntryKey>) -> Answered<Vec<Option<Vec<u8>>>> {
        let values = keys.iter().map(|(table, key)| self.get(*table, key));
        Box::pin(ready(values.collect()))
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
        self.apply(changes(&*self));
        Box::pin(ready(Ok(())))
    }

    fn clear(self: Arc<Self>) -> Answered<()> {
        self.entries.lock().expect("no holder panics").clear();
        Box::pin(ready(Ok(())))
    }
}
