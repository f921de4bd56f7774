//! The stores of one node in an LSM tree on disk: one database, a few keyspaces per partition.
//!
//! Writes are not synced: a killed process loses none, a power failure loses the last ones, and the rest
//! is still consistent. The library closes itself after a failed write, for example on a full disk; then
//! the database is reopened before its next use. A database that can't be opened is deleted, because it
//! is a cache of the log. A user of a store that was reopened without some of its writes gets an error:
//! an owner keeps only part of the entries in memory, and must not treat the others as absent.

use super::state_store::{Entry, MakeChanges, STAMP_KEY, StateStore, StoreError, Table};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use futures_util::future::BoxFuture;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, RwLock},
};

/// Bytes of blocks kept in memory, for all partitions together.
const CACHE_BYTES: u64 = 16 << 20;
/// Bytes of a table kept in memory before they are flushed.
const MEMTABLE_BYTES: u64 = 8 << 20;
/// Bytes of the library's write-ahead log; its minimum.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;
/// Most times that it is opened for one use: a failed write of another partition closes it.
const OPENINGS_MAX: usize = 3;
/// In the order of [`Table`]'s variants.
const TABLE_NAMES: [&str; 4] = ["meta", "aggregates", "answers", "expiry"];

/// The stores of one node.
#[derive(Clone)]
pub struct Disk {
    path: PathBuf,
    connection: Arc<RwLock<Connection>>,
}

/// The database, while it is open.
struct Connection {
    open: Option<Open>,
    /// Number of times that it was opened.
    opened: u64,
}

/// One partition's keyspaces, in the order of [`Table`]'s variants.
type Keyspaces = [Keyspace; TABLE_NAMES.len()];

struct Open {
    database: Database,
    /// By partition.
    keyspaces: HashMap<String, Keyspaces>,
}

/// One partition's store.
struct DiskPartition {
    disk: Disk,
    name: String,
    known: Mutex<Known>,
}

/// The state that a partition's user relies on.
struct Known {
    /// [`Connection::opened`] at the last check.
    opened: u64,
    /// The stamp that was last read or written.
    stamp: Option<Vec<u8>>,
}

/// Why an operation on a partition's keyspaces failed.
enum Failure {
    /// The database was reopened since its user last read the stamp.
    Reopened,
    Failed(String),
}

impl Disk {
    /// Opens the directory, or creates it. A database that can't be opened is deleted and recreated.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it open; [`StoreError::Unusable`] if recreating it
    /// failed too.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = open_or_make(path)?;
        let connection = Connection {
            open: Some(open),
            opened: 1,
        };
        Ok(Self {
            path: path.to_owned(),
            connection: Arc::new(RwLock::new(connection)),
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
        self.connection.write().expect("no holder panics").open = None;
    }

    /// Calls `work` with a partition's keyspaces, opened if necessary; gives [`Connection::opened`] as
    /// well. Fails if that differs from `known`. `work` must not call this again: a writer that waits for
    /// the lock in between would cause a deadlock.
    fn with<T>(
        &self,
        name: &str,
        known: Option<u64>,
        work: impl FnOnce(&Database, &Keyspaces) -> fjall::Result<T>,
    ) -> Result<(T, u64), Failure> {
        for _ in 0..OPENINGS_MAX {
            self.ensure(name).map_err(Failure::Failed)?;
            let connection = self.connection.read().expect("no holder panics");
            if known.is_some_and(|known| known != connection.opened) {
                return Err(Failure::Reopened);
            }
            let open = connection.open.as_ref();
            let found = open.and_then(|open| Some((&open.database, open.keyspaces.get(name)?)));
            // Otherwise it was closed just now.
            if let Some((database, keyspaces)) = found {
                let worked = work(database, keyspaces);
                let worked = worked.map_err(|error| Failure::Failed(error.to_string()))?;
                return Ok((worked, connection.opened));
            }
        }
        Err(Failure::Failed(
            "it was closed again after each reopening".into(),
        ))
    }

    /// Opens the database and a partition's keyspaces, if they are closed.
    fn ensure(&self, name: &str) -> Result<(), String> {
        let is_open = |connection: &Connection| {
            let open = connection.open.as_ref();
            open.is_some_and(|open| open.keyspaces.contains_key(name))
        };
        if is_open(&self.connection.read().expect("no holder panics")) {
            return Ok(());
        }
        let mut connection = self.connection.write().expect("no holder panics");
        if connection.open.is_none() {
            connection.open = Some(open_or_make(&self.path).map_err(|error| error.to_string())?);
            connection.opened += 1;
        }
        let open = connection.open.as_mut().expect("it was opened above");
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
            tracing::warn!(path = %path_text, reason, "state store can't be opened, deleting it; it will be rebuilt from the log");
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
    fn unreadable(&self, failure: Failure) -> StoreError {
        let partition = self.name.clone();
        match failure {
            Failure::Reopened => StoreError::Reopened { partition },
            Failure::Failed(reason) => StoreError::Unreadable { partition, reason },
        }
    }

    /// Closes the database, because the library takes no writes after one that failed.
    fn unwritable(&self, failure: Failure) -> StoreError {
        let partition = self.name.clone();
        match failure {
            Failure::Reopened => StoreError::Reopened { partition },
            Failure::Failed(reason) => {
                self.disk.close();
                StoreError::Unwritable { partition, reason }
            }
        }
    }

    /// Checks that a database that was reopened still has its user's writes; gives
    /// [`Connection::opened`], because it may be reopened at any time.
    fn check_known(&self) -> Result<u64, StoreError> {
        let opened = self.disk.ensure(&self.name);
        opened.map_err(|reason| self.unreadable(Failure::Failed(reason)))?;
        let mut known = self.known.lock().expect("no holder panics");
        if known.opened
            == self
                .disk
                .connection
                .read()
                .expect("no holder panics")
                .opened
        {
            return Ok(known.opened);
        }
        let (stamp, opened) = self.stored_stamp()?;
        if stamp != known.stamp {
            return Err(self.unreadable(Failure::Reopened));
        }
        known.opened = opened;
        Ok(opened)
    }

    /// Calls `work` with the keyspaces if they have all of their user's writes, even if the database was
    /// reopened since.
    fn with_known<T>(
        &self,
        mut work: impl FnMut(&Database, &Keyspaces) -> fjall::Result<T>,
        error: impl Fn(Failure) -> StoreError,
    ) -> Result<(T, u64), StoreError> {
        for _ in 0..OPENINGS_MAX {
            let known = self.check_known()?;
            match self.disk.with(&self.name, Some(known), &mut work) {
                Err(Failure::Reopened) => {}
                worked => return worked.map_err(error),
            }
        }
        Err(error(Failure::Reopened))
    }

    fn stored_stamp(&self) -> Result<(Option<Vec<u8>>, u64), StoreError> {
        let found = self.disk.with(&self.name, None, |_, tables| {
            tables[Table::Meta as usize].get(STAMP_KEY)
        });
        let (stamp, opened) = found.map_err(|failure| self.unreadable(failure))?;
        Ok((stamp.map(|stamp| stamp.to_vec()), opened))
    }

    /// Records the state that the user knows from now on.
    fn adopt(&self, stamp: Option<Vec<u8>>, opened: u64) {
        *self.known.lock().expect("no holder panics") = Known { opened, stamp };
    }

    fn write_now(&self, changes: MakeChanges) -> Result<(), StoreError> {
        self.check_known()?;
        // Building the changes reads the store, so it must happen before the store is locked.
        let mut changes = changes();
        // Sorted keys reuse the cached path of the previous search. The sort is stable: of two changes
        // of one entry the last one wins.
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
        let ((), opened) = self.with_known(write, |failure| self.unwritable(failure))?;
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
        let (found, _) = self.with_known(get, |failure| self.unreadable(failure))?;
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
        let (found, _) = self.with_known(first, |failure| self.unreadable(failure))?;
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
            // The tables are empty at once, but the library's write-ahead log is not: after a power
            // failure an earlier write, including its stamp, would be replayed into them.
            database.persist(PersistMode::SyncAll)
        });
        let ((), opened) = cleared.map_err(|failure| self.unwritable(failure))?;
        self.adopt(None, opened);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
