//! The library's database: one keyspace for the entries of all partitions, so that its memory is bounded for
//! the process.
//!
//! | key | value |
//! |---|---|
//! | 0, `name`, name of a partition | number of the partition |
//! | 0, `next` | the next number that was never given |
//! | 0, `dead`, number | nothing: the entries under that number are to be removed |
//! | number, table, key | an entry |
//!
//! Numbers have four bytes, big-endian; a table is one byte. A partition is emptied by giving it another
//! number, in one atomic write. Later writes remove the entries under the old number, some at a time.

use crate::store::{Change, Entry, STAMP_KEY, Table, first_entries};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::{
    io,
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

/// The format of everything in the store's directory. Raise it with every change of the keys above or of
/// the library's files: a directory of another format is set aside.
pub(super) const FORMAT: u32 = 1;
/// Bytes of blocks kept in memory.
const CACHE_BYTES: u64 = 16 << 20;
/// Bytes of new entries kept in memory before they are flushed.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// Maximum size of the library's write-ahead log, in bytes. The library accepts no smaller value.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;
/// Maximum number of files that the library keeps open.
const FILES_MAX: usize = 256;
/// The library's threads, which flush and compact.
const WORKERS: usize = 1;
/// The one keyspace.
const KEYSPACE: &str = "entries";
/// The number at the beginning of the keys that belong to no partition.
const NO_PARTITION: u32 = 0;
/// Maximum number of entries of dead numbers that one write removes.
const DEAD_REMOVED_MAX: usize = 10_000;
/// Memtables that wait to be flushed, and tables that wait to be merged, before a write waits. Below the
/// library's own limits (4 and 30), because the library waits forever once its worker has died.
const SEALED_MAX: usize = 3;
const UNMERGED_MAX: usize = 24;
/// Longest wait for the worker before a write fails.
const ROOM_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval at which a waiting write checks for room. The library has no signal for it.
const ROOM_POLL: Duration = Duration::from_millis(10);

/// The open database.
pub(super) struct Open {
    database: Database,
    entries: Keyspace,
    /// Counts openings within the process.
    pub number: u64,
    /// Held from reading the next number until the write that takes the number, so that no two partitions get the
    /// same number. Only a partition's first write and its emptying take this lock. The lock delays no other writer
    /// further: the library has one write-ahead log, so every writer waits for a write that hangs.
    ///
    /// If numbers were reserved in memory, no lock would be held during the write. But then two writes could land in
    /// reverse order, the lower `next` would stay, and an earlier release would give a number twice.
    numbering: Mutex<()>,
    /// Numbers of partitions that were emptied, each with the key at which its remaining entries begin.
    dead: Mutex<Vec<(u32, Vec<u8>)>>,
}

/// Why the library failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The files are damaged, or of another version of the library.
    Damaged(String),
    /// Time or an operator can remove the cause: the operating system refuses something, or the library has
    /// closed itself.
    Unavailable(String),
    /// A write has not begun, because the library's worker is behind.
    Behind(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged(reason) | Self::Unavailable(reason) | Self::Behind(reason) => {
                f.write_str(reason)
            }
        }
    }
}

impl From<fjall::Error> for Failure {
    fn from(error: fjall::Error) -> Self {
        use fjall::Error;
        let text = error.to_string();
        let io = match &error {
            Error::Io(io) | Error::Storage(fjall::LsmError::Io(io)) => Some(io.kind()),
            Error::Poisoned | Error::Locked | Error::KeyspaceDeleted => {
                return Self::Unavailable(text);
            }
            // The library returns these errors only for damaged files.
            _ => None,
        };
        match io {
            Some(kind) if !is_damage(kind) => Self::Unavailable(text),
            Some(_) | None => Self::Damaged(text),
        }
    }
}

/// Whether an error of the operating system means that a file is incomplete, is missing, or exists although the
/// database was never completed. No other error is a reason to set the store aside.
fn is_damage(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::NotFound
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidData
            | io::ErrorKind::AlreadyExists
    )
}

impl Open {
    /// Opens the database at `path`, or creates it.
    #[expect(
        clippy::self_named_constructors,
        reason = "the type is the open database"
    )]
    pub fn open(path: &Path, number: u64) -> Result<Self, Failure> {
        let database = Database::builder(path)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .max_cached_files(Some(FILES_MAX))
            .worker_threads(WORKERS)
            .open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let entries = database.keyspace(KEYSPACE, options)?;
        let mut dead = Vec::new();
        for entry in entries.prefix(own_key(b"dead", &[])) {
            let key = entry.key()?;
            if let Some(id) = key.last_chunk::<4>() {
                dead.push((u32::from_be_bytes(*id), Vec::new()));
            }
        }
        let dead = Mutex::new(dead);
        Ok(Self {
            database,
            entries,
            number,
            numbering: Mutex::default(),
            dead,
        })
    }

    /// The number of a partition; `None` if it never had an entry.
    pub fn id(&self, name: &str) -> Result<Option<u32>, Failure> {
        self.number_at(own_key(b"name", name.as_bytes()))
    }

    pub fn get(&self, id: u32, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let found = self.entries.get(entry_key(id, table, key))?;
        Ok(found.map(|value| value.to_vec()))
    }

    pub fn first(
        &self,
        id: u32,
        table: Table,
        start: &[u8],
        end: &[u8],
        count: usize,
    ) -> Result<Vec<Entry>, Failure> {
        if start >= end {
            return Ok(Vec::new());
        }
        let range = entry_key(id, table, start)..entry_key(id, table, end);
        let prefix = entry_key(id, table, &[]).len();
        let entries = self.entries.range(range).map(|entry| {
            let (key, value) = entry.into_inner()?;
            Ok((key[prefix..].to_vec(), value.to_vec()))
        });
        first_entries(entries, count)
    }

    /// Writes all changes of a partition, sorted by key, or none. Returns the partition's number.
    pub fn write(&self, name: &str, id: Option<u32>, changes: Vec<Change>) -> Result<u32, Failure> {
        self.wait_for_room()?;
        let mut batch = self.database.batch();
        let (id, _numbering) = match id {
            Some(id) => (id, None),
            None => {
                let numbering = self.numbering();
                (self.allocate_number(name, &mut batch)?, Some(numbering))
            }
        };
        for change in changes {
            let key = entry_key(id, change.table, &change.key);
            match change.value {
                Some(value) => batch.insert(&self.entries, key, value),
                None => batch.remove(&self.entries, key),
            }
        }
        batch.commit()?;
        Ok(id)
    }

    /// Empties a partition: it gets another number in one atomic write, so that a power cut leaves all of
    /// its entries or none.
    pub fn clear(&self, name: &str) -> Result<Option<u32>, Failure> {
        let Some(old) = self.id(name)? else {
            return Ok(None);
        };
        // Every write has a stamp, so a store without a stamp has no entries.
        if self.get(old, Table::Meta, STAMP_KEY)?.is_none() {
            return Ok(Some(old));
        }
        self.wait_for_room()?;
        let mut batch = self.database.batch();
        let _numbering = self.numbering();
        let id = self.allocate_number(name, &mut batch)?;
        batch.insert(&self.entries, own_key(b"dead", &old.to_be_bytes()), []);
        batch.commit()?;
        self.dead().push((old, Vec::new()));
        Ok(Some(id))
    }

    /// Removes some entries of partitions that were emptied, if there are any.
    pub fn remove_dead(&self) -> Result<(), Failure> {
        // Two writers may remove the same entries without harm, so no lock is held.
        let Some((id, start)) = self.dead().last().cloned() else {
            return Ok(());
        };
        let start = match start.is_empty() {
            true => id.to_be_bytes().to_vec(),
            false => start,
        };
        let end = (id + 1).to_be_bytes().to_vec();
        let mut batch = self.database.batch();
        let mut last = None;
        for entry in self.entries.range(start..end).take(DEAD_REMOVED_MAX) {
            let key = entry.key()?;
            batch.remove(&self.entries, key.clone());
            last = Some(key.to_vec());
        }
        if last.is_none() {
            batch.remove(&self.entries, own_key(b"dead", &id.to_be_bytes()));
        }
        let (sealed, unmerged) = self.waiting();
        if !has_room(sealed, unmerged) {
            // A later write removes these entries. The caller's write has already waited for room once.
            return Ok(());
        }
        batch.commit()?;
        let mut dead = self.dead();
        match last {
            Some(last) => dead
                .iter_mut()
                .filter(|(other, _)| *other == id)
                .for_each(|(_, start)| start.clone_from(&last)),
            None => dead.retain(|(other, _)| *other != id),
        }
        Ok(())
    }

    /// Whether an entry of any partition is damaged: reads all of them.
    pub fn verify(&self) -> Result<(), Failure> {
        for entry in self.entries.iter() {
            entry.into_inner()?;
        }
        Ok(())
    }

    fn numbering(&self) -> std::sync::MutexGuard<'_, ()> {
        // The library may panic while the lock is held. The lock guards nothing in memory.
        let numbering = self.numbering.lock();
        numbering.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A number that no partition ever had, for `name`. The caller holds [`Open::numbering`] until the write.
    fn allocate_number(
        &self,
        name: &str,
        batch: &mut fjall::OwnedWriteBatch,
    ) -> Result<u32, Failure> {
        let id = self.number_at(own_key(b"next", &[]))?;
        let id = id.unwrap_or(NO_PARTITION + 1);
        let next = id
            .checked_add(1)
            .ok_or_else(|| Failure::Damaged("no partition number is left".to_owned()))?;
        batch.insert(&self.entries, own_key(b"next", &[]), next.to_be_bytes());
        let name = own_key(b"name", name.as_bytes());
        batch.insert(&self.entries, name, id.to_be_bytes());
        Ok(id)
    }

    fn number_at(&self, key: Vec<u8>) -> Result<Option<u32>, Failure> {
        let Some(found) = self.entries.get(key)? else {
            return Ok(None);
        };
        let bytes = found.as_ref().try_into();
        let bytes = bytes.map_err(|_| {
            Failure::Damaged("a partition number does not have four bytes".to_owned())
        })?;
        Ok(Some(u32::from_be_bytes(bytes)))
    }

    fn dead(&self) -> std::sync::MutexGuard<'_, Vec<(u32, Vec<u8>)>> {
        self.dead.lock().expect("no holder panics")
    }

    /// The number of memtables that wait for a flush, and of tables that wait for a merge.
    fn waiting(&self) -> (usize, usize) {
        let sealed = self.entries.sealed_memtable_count();
        (sealed, self.entries.l0_table_count())
    }

    /// Waits while the worker is behind. Fails if it has died, or does not keep up.
    fn wait_for_room(&self) -> Result<(), Failure> {
        let started = Instant::now();
        loop {
            let (sealed, unmerged) = self.waiting();
            if has_room(sealed, unmerged) {
                return Ok(());
            }
            // An error if the worker has died.
            self.database.persist(PersistMode::Buffer)?;
            if started.elapsed() >= ROOM_TIMEOUT {
                return Err(Failure::Behind(format!(
                    "{sealed} memtables and {unmerged} tables wait for the disk"
                )));
            }
            std::thread::park_timeout(ROOM_POLL);
        }
    }
}

fn has_room(sealed: usize, unmerged: usize) -> bool {
    sealed < SEALED_MAX && unmerged < UNMERGED_MAX
}

/// A key that belongs to no partition.
fn own_key(kind: &[u8; 4], rest: &[u8]) -> Vec<u8> {
    let mut key = NO_PARTITION.to_be_bytes().to_vec();
    key.extend(kind);
    key.extend(rest);
    key
}

fn entry_key(id: u32, table: Table, key: &[u8]) -> Vec<u8> {
    let table = match table {
        Table::Meta => 0,
        Table::Aggregates => 1,
        Table::Answers => 2,
        Table::Expiry => 3,
    };
    let mut entry_key = Vec::with_capacity(5 + key.len());
    entry_key.extend(id.to_be_bytes());
    entry_key.push(table);
    entry_key.extend(key);
    entry_key
}

#[cfg(test)]
mod test_support {
    use super::*;

    impl Open {
        pub fn flush(&self) {
            self.entries.rotate_memtable_and_wait().unwrap();
        }

        /// Entries of all partitions, and the keys that belong to none.
        pub fn len(&self) -> usize {
            self.entries.len().unwrap()
        }

        /// Fills the store to the point from which the library waits for its worker.
        pub fn fill_with_sealed_memtables(&self) {
            for number in 0..=u8::try_from(SEALED_MAX).unwrap() {
                let mut batch = self.database.batch();
                batch.insert(&self.entries, own_key(b"test", &[number]), []);
                // Fails once the worker has died.
                let committed = batch.commit();
                let rotated = self.entries.rotate_memtable();
                if committed.is_err() || rotated.is_err() {
                    return;
                }
            }
        }

        /// All keys and values, as in the table above.
        pub fn text(&self) -> String {
            let line = |entry: fjall::Guard| {
                let (key, value) = entry.into_inner().unwrap();
                let (id, rest) = key.split_at(4);
                let (kind, rest) = match id {
                    [0, 0, 0, 0] => (String::from_utf8_lossy(&rest[..4]).into_owned(), &rest[4..]),
                    _ => (hex::encode(&rest[..1]), &rest[1..]),
                };
                let rest = match rest {
                    [] => String::new(),
                    [0, ..] => format!(" {}", hex::encode(rest)),
                    _ => format!(" {}", String::from_utf8_lossy(rest)),
                };
                format!(
                    "{} {kind}{rest} = {}\n",
                    hex::encode(id),
                    hex::encode(value)
                )
            };
            self.entries.iter().map(line).collect()
        }
    }
}
