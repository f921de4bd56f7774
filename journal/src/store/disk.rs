//! The stores of one process, in an LSM tree on disk: one database, a few keyspaces per partition.
//!
//! Nothing is synced: a killed process loses nothing, a machine without power loses some of the end,
//! and what is left is still whole. The library closes itself after a write that failed, as on a full
//! disk; then the database is opened anew before the next use. A database that can't be opened is
//! thrown away, for it is a cache of the log. Whoever used it before is told if it does not have what
//! was written: an owner keeps only part of it in memory, and must not take the rest for absent.

use super::{Entry, MakeChanges, STAMP_KEY, StateStore, StoreError, Table};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use futures_util::future::BoxFuture;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, RwLock},
};

/// Blocks kept in memory, of all partitions together.
const CACHE_BYTES: u64 = 16 << 20;
/// A table's part in memory, before it is written out.
const MEMTABLE_BYTES: u64 = 8 << 20;
/// The library's log of what was not written out yet; its least.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;
/// How often it is opened for one use: a write of another partition that fails closes it.
const OPENINGS_MAX: usize = 3;
/// In the order of [`Table`]'s variants.
const TABLE_NAMES: [&str; 4] = ["meta", "aggregates", "answers", "expiry"];

/// The stores of one process.
#[derive(Clone)]
pub struct Disk {
    path: PathBuf,
    open: Arc<RwLock<Slot>>,
}

/// The database, while it is open.
struct Slot {
    open: Option<Open>,
    /// How often it was opened.
    opened: u64,
}

/// One partition's, in the order of [`Table`]'s variants.
type Keyspaces = [Keyspace; TABLE_NAMES.len()];

struct Open {
    database: Database,
    /// By partition.
    keyspaces: HashMap<String, Keyspaces>,
}

/// One partition's part of it.
struct DiskPartition {
    disk: Disk,
    name: String,
    known: Mutex<Known>,
}

/// What a partition's user takes for granted.
struct Known {
    /// [`Slot::opened`] when it was last looked at.
    opened: u64,
    /// The stamp that was read or written last.
    stamp: Option<Vec<u8>>,
}

/// Why nothing was done with a partition's keyspaces.
enum Trouble {
    /// The database was opened again since its user looked into it.
    Reopened,
    Failed(String),
}

impl Disk {
    /// Opens the directory, or makes it. What can't be opened is thrown away.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it; [`StoreError::Unusable`] if a new one can't be
    /// made either.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = open_or_make(path)?;
        let slot = Slot {
            open: Some(open),
            opened: 1,
        };
        Ok(Self {
            path: path.to_owned(),
            open: Arc::new(RwLock::new(slot)),
        })
    }

    /// One partition's store.
    pub fn partition(&self, topic: &str, partition: i32) -> Arc<dyn StateStore> {
        let known = Known {
            opened: 0,
            stamp: None,
        };
        Arc::new(DiskPartition {
            disk: self.clone(),
            name: format!("{topic}-{partition}"),
            known: Mutex::new(known),
        })
    }

    /// Closes the database, so that the next use opens it again.
    fn close(&self) {
        self.open.write().expect("no holder panics").open = None;
    }

    /// Does something with a partition's keyspaces, which it opens if need be; gives
    /// [`Slot::opened`] as well. It is not done if that is not `known`. `work` must not come here
    /// again: whoever waits to open something would stand between.
    fn with<T>(
        &self,
        name: &str,
        known: Option<u64>,
        work: impl FnOnce(&Database, &Keyspaces) -> fjall::Result<T>,
    ) -> Result<(T, u64), Trouble> {
        for _ in 0..OPENINGS_MAX {
            self.ensure(name).map_err(Trouble::Failed)?;
            let slot = self.open.read().expect("no holder panics");
            if known.is_some_and(|known| known != slot.opened) {
                return Err(Trouble::Reopened);
            }
            let open = slot.open.as_ref();
            let found = open.and_then(|open| Some((&open.database, open.keyspaces.get(name)?)));
            // Else it was closed just now.
            if let Some((database, keyspaces)) = found {
                let worked = work(database, keyspaces);
                let worked = worked.map_err(|error| Trouble::Failed(error.to_string()))?;
                return Ok((worked, slot.opened));
            }
        }
        Err(Trouble::Failed("it is closed again and again".into()))
    }

    /// Opens what is closed: the database, and a partition's keyspaces.
    fn ensure(&self, name: &str) -> Result<(), String> {
        let is_open = |slot: &Slot| {
            let open = slot.open.as_ref();
            open.is_some_and(|open| open.keyspaces.contains_key(name))
        };
        if is_open(&self.open.read().expect("no holder panics")) {
            return Ok(());
        }
        let mut slot = self.open.write().expect("no holder panics");
        if slot.open.is_none() {
            slot.open = Some(open_or_make(&self.path).map_err(|error| error.to_string())?);
            slot.opened += 1;
        }
        let open = slot.open.as_mut().expect("it was opened just now");
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let keyspace = |table: &str| open.database.keyspace(&format!("{name}-{table}"), options);
        let [meta, aggregates, answers, expiry] = TABLE_NAMES.map(keyspace);
        let opened = (|| Ok([meta?, aggregates?, answers?, expiry?]))();
        let opened = opened.map_err(|error: fjall::Error| error.to_string())?;
        open.keyspaces.insert(name.to_owned(), opened);
        Ok(())
    }
}

fn open_or_make(path: &Path) -> Result<Open, StoreError> {
    match open(path) {
        Err(StoreError::Unusable { reason, .. }) => {
            let path_text = path.display();
            tracing::warn!(path = %path_text, reason, "the state store is thrown away and made again from the log");
            std::fs::remove_dir_all(path).map_err(|error| unusable(path, &error))?;
            open(path)
        }
        opened => opened,
    }
}

fn open(path: &Path) -> Result<Open, StoreError> {
    let database = Database::builder(path)
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNAL_BYTES_MAX)
        .worker_threads(1)
        .open();
    match database {
        Ok(database) => Ok(Open {
            database,
            keyspaces: HashMap::new(),
        }),
        Err(fjall::Error::Locked) => Err(StoreError::InUse {
            path: path.display().to_string(),
        }),
        Err(error) => Err(unusable(path, &error)),
    }
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unusable {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}

impl DiskPartition {
    fn unreadable(&self, trouble: Trouble) -> StoreError {
        let partition = self.name.clone();
        match trouble {
            Trouble::Reopened => StoreError::Reopened { partition },
            Trouble::Failed(reason) => StoreError::Unreadable { partition, reason },
        }
    }

    /// It takes no more writes after one that failed.
    fn unwritable(&self, trouble: Trouble) -> StoreError {
        let partition = self.name.clone();
        match trouble {
            Trouble::Reopened => StoreError::Reopened { partition },
            Trouble::Failed(reason) => {
                self.disk.close();
                StoreError::Unwritable { partition, reason }
            }
        }
    }

    /// Makes sure that a database that was opened again has what its user left in it; gives
    /// [`Slot::opened`], for it may be opened again at any time.
    fn check_known(&self) -> Result<u64, StoreError> {
        let opened = self.disk.ensure(&self.name);
        opened.map_err(|reason| self.unreadable(Trouble::Failed(reason)))?;
        let mut known = self.known.lock().expect("no holder panics");
        if known.opened == self.disk.open.read().expect("no holder panics").opened {
            return Ok(known.opened);
        }
        let (stamp, opened) = self.stored_stamp()?;
        if stamp != known.stamp {
            return Err(self.unreadable(Trouble::Reopened));
        }
        known.opened = opened;
        Ok(opened)
    }

    /// Does something with the keyspaces as their user knows them; also if the database was opened again
    /// since, and has all of that.
    fn with_known<T>(
        &self,
        mut work: impl FnMut(&Database, &Keyspaces) -> fjall::Result<T>,
        error: impl Fn(Trouble) -> StoreError,
    ) -> Result<(T, u64), StoreError> {
        for _ in 0..OPENINGS_MAX {
            let known = self.check_known()?;
            match self.disk.with(&self.name, Some(known), &mut work) {
                Err(Trouble::Reopened) => {}
                worked => return worked.map_err(error),
            }
        }
        Err(error(Trouble::Reopened))
    }

    fn stored_stamp(&self) -> Result<(Option<Vec<u8>>, u64), StoreError> {
        let found = self.disk.with(&self.name, None, |_, tables| {
            tables[Table::Meta as usize].get(STAMP_KEY)
        });
        let (stamp, opened) = found.map_err(|trouble| self.unreadable(trouble))?;
        Ok((stamp.map(|stamp| stamp.to_vec()), opened))
    }

    /// Takes what is there for what its user knows.
    fn adopt(&self, stamp: Option<Vec<u8>>, opened: u64) {
        *self.known.lock().expect("no holder panics") = Known { opened, stamp };
    }

    fn write_now(&self, changes: MakeChanges) -> Result<(), StoreError> {
        self.check_known()?;
        // They are made of what the store has, so not while it is held.
        let mut changes = changes();
        // Each is searched for from the top; next to the last one all of that way is in the cache. Of
        // changes of one entry the last one wins, so they keep their order.
        changes.sort_by(|one, other| (one.table, &one.key).cmp(&(other.table, &other.key)));
        let (mut changes, mut stamp) = (Some(changes), None);
        let write = |database: &Database, tables: &Keyspaces| {
            let mut batch = database.batch();
            for change in changes.take().unwrap_or_default() {
                let table = &tables[change.table as usize];
                if change.table == Table::Meta {
                    stamp.clone_from(&change.value);
                }
                match change.value {
                    Some(value) => batch.insert(table, change.key, value),
                    None => batch.remove(table, change.key),
                }
            }
            batch.commit()
        };
        let ((), opened) = self.with_known(write, |trouble| self.unwritable(trouble))?;
        self.adopt(stamp, opened);
        Ok(())
    }
}

impl StateStore for DiskPartition {
    fn stamp(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let (stamp, opened) = self.stored_stamp()?;
        self.adopt(stamp.clone(), opened);
        Ok(stamp)
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let get = |_: &Database, tables: &Keyspaces| tables[table as usize].get(key);
        let (found, _) = self.with_known(get, |trouble| self.unreadable(trouble))?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn first(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        count: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let first = |_: &Database, tables: &Keyspaces| {
            let entries = tables[table as usize].range(start.to_vec()..end.to_vec());
            let entries = entries.take(count).map(|entry| {
                let (key, value) = entry.into_inner()?;
                Ok((key.to_vec(), value.to_vec()))
            });
            entries.collect()
        };
        let (found, _) = self.with_known(first, |trouble| self.unreadable(trouble))?;
        Ok(found)
    }

    fn write(self: Arc<Self>, changes: MakeChanges) -> BoxFuture<'static, Result<(), StoreError>> {
        let partition = self.name.clone();
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(move || self.write_now(changes)).await;
            written.unwrap_or_else(|error| {
                Err(StoreError::Unwritable {
                    partition,
                    reason: error.to_string(),
                })
            })
        })
    }

    fn clear(&self) -> Result<(), StoreError> {
        let cleared = self.disk.with(&self.name, None, |database, tables| {
            tables.iter().try_for_each(Keyspace::clear)?;
            // The tables are empty at once, but their journal is not: after a power cut an earlier
            // write of it, stamp and all, would come back into them.
            database.persist(PersistMode::SyncAll)
        });
        let ((), opened) = cleared.map_err(|trouble| self.unwritable(trouble))?;
        self.adopt(None, opened);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
