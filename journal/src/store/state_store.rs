//! The contract of a state store, which `journal::conformance` checks for every implementation.

use futures_util::future::BoxFuture;
use std::sync::Arc;

/// The one key of [`Table::Meta`].
pub const STAMP_KEY: &[u8] = b"stamp";

/// The tables of a partition's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// The stamp that the other entries belong to, under [`STAMP_KEY`]; every write includes it.
    Meta,
    /// Aggregates by key.
    Aggregates,
    /// Answers by command id.
    Answers,
    /// Command ids by the log time at which their answers expire.
    Expiry,
}

/// One entry, written or (`None`) removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its table.
    pub table: Table,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Option<Vec<u8>>,
}

/// The table and key of an entry.
pub type EntryKey = (Table, Vec<u8>);

/// Key and value of an entry.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Bytes of values after which one read of a range stops.
pub const SCAN_BYTES_MAX: usize = 4 << 20;

/// The first `count` of these entries, or fewer as soon as their values have [`SCAN_BYTES_MAX`] bytes. So memory
/// is bounded even if some entries are large.
///
/// # Errors
/// The first error of `entries`.
pub fn first_entries<E>(
    entries: impl Iterator<Item = Result<Entry, E>>,
    count: usize,
) -> Result<Vec<Entry>, E> {
    let (mut first, mut bytes) = (Vec::new(), 0);
    for entry in entries.take(count) {
        let entry = entry?;
        bytes += entry.1.len();
        first.push(entry);
        if bytes >= SCAN_BYTES_MAX {
            break;
        }
    }
    Ok(first)
}

/// Builds the changes to write from the entries of the store, on one of the store's threads.
pub type MakeChanges = Box<dyn FnOnce(&dyn Entries) -> Vec<Change> + Send>;

/// An answer of a store.
pub type Answered<T> = BoxFuture<'static, Result<T, StoreError>>;

/// The entries of one partition's store, as a write that is being built sees them.
pub trait Entries {
    /// An entry's value.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The first entries with keys in `start..end`, in the order of their keys; see [`first_entries`].
    fn first(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        count: usize,
    ) -> Result<Vec<Entry>, StoreError>;
}

/// One partition's store. No call waits on the caller's thread, and every answer comes within a bounded
/// time: a disk that does not answer is an error.
///
/// A call that was dropped before its answer takes effect in full or not at all, and never after the next
/// [`StateStore::stamp`] has answered.
pub trait StateStore: Send + Sync + 'static {
    /// The stamp of the store's entries; `None` if it is empty. After this call the store returns the state
    /// that this stamp names, plus later writes, or an error.
    fn stamp(self: Arc<Self>) -> Answered<Option<Vec<u8>>>;

    /// The values of entries, in the order of `keys`.
    fn read(self: Arc<Self>, keys: Vec<EntryKey>) -> Answered<Vec<Option<Vec<u8>>>>;

    /// The first entries with keys in `start..end`, in the order of their keys; see [`first_entries`].
    fn scan(
        self: Arc<Self>,
        table: Table,
        start: Vec<u8>,
        end: Vec<u8>,
        count: usize,
    ) -> Answered<Vec<Entry>>;

    /// Writes all changes or none. A crash may lose the last writes, but never an earlier one alone.
    fn write(self: Arc<Self>, changes: MakeChanges) -> Answered<()>;

    /// Removes all entries, or none if it fails or the machine stops in between.
    fn clear(self: Arc<Self>) -> Answered<()>;
}

/// Why a store can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has the directory open.
    #[error("the state store {path} is in use by another process")]
    InUse {
        /// Its directory.
        path: String,
    },
    /// The directory has files that no state store made.
    #[error(
        "{path} is neither empty nor a state store: set commands.state_dir to another directory, or move \
         the files in {path} away"
    )]
    ForeignDirectory {
        /// The directory.
        path: String,
    },
    /// The store can't answer now: a right is missing, the disk is full or does not answer, no file descriptor is
    /// free, or an I/O error occurred. Its entries are kept; another attempt may succeed.
    #[error("the state store {path} is not available: {reason}")]
    Unavailable {
        /// Its directory.
        path: String,
        /// The message of the operating system or the library.
        reason: String,
    },
    /// The store had to be reopened and has lost the last writes: read its [`StateStore::stamp`] and resume from
    /// there.
    #[error("the state store of {partition} was reopened and has lost its last writes")]
    Reopened {
        /// Topic and partition.
        partition: String,
    },
    /// An entry is damaged.
    #[error("the state store of {partition} can't be read: {reason}")]
    Unreadable {
        /// Topic and partition.
        partition: String,
        /// The library's error.
        reason: String,
    },
    /// A node that hashes commands with another key has written the store.
    #[error(
        "the state store of {partition} was written with another hash key (fingerprint {found}) than this node's \
         (fingerprint {own}); commands.hash_key_file must hold the same key on every node, permanently"
    )]
    HashKeyMismatch {
        /// Topic and partition.
        partition: String,
        /// The fingerprint in the store.
        found: String,
        /// This node's fingerprint.
        own: String,
    },
    /// A write failed as a whole.
    #[error("the state store of {partition} can't be written: {reason}")]
    Unwritable {
        /// Topic and partition.
        partition: String,
        /// The library's error.
        reason: String,
    },
}
