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

/// Builds the changes to write, outside the owner's task.
pub type MakeChanges = Box<dyn FnOnce() -> Vec<Change> + Send>;

/// Key and value of an entry.
pub type Entry = (Vec<u8>, Vec<u8>);

/// One partition's store.
pub trait StateStore: Send + Sync + 'static {
    /// The stamp of the store's entries; `None` if it is empty. After this call the store gives the state
    /// that this stamp names, plus later writes, or an error.
    fn stamp(&self) -> Result<Option<Vec<u8>>, StoreError>;

    /// An entry's value. The owner waits for it, so it must be fast.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The first entries with keys in `start..end`, in the order of their keys; at most `count`.
    fn first(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        count: usize,
    ) -> Result<Vec<Entry>, StoreError>;

    /// Writes all changes or none. A crash may lose the last writes, but never an earlier one alone.
    fn write(self: Arc<Self>, changes: MakeChanges) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Removes all entries.
    fn clear(&self) -> Result<(), StoreError>;
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
    /// It can't be opened, and recreating it failed.
    #[error("the state store {path} can't be opened: {reason}")]
    Unusable {
        /// Its directory.
        path: String,
        /// The library's error.
        reason: String,
    },
    /// It had to be reopened and has lost the last writes: read its [`StateStore::stamp`] and resume from
    /// there.
    #[error("the state store of {partition} was reopened and has lost its last writes")]
    Reopened {
        /// Topic and partition.
        partition: String,
    },
    /// An entry can't be read.
    #[error("the state store of {partition} can't be read: {reason}")]
    Unreadable {
        /// Topic and partition.
        partition: String,
        /// The library's error.
        reason: String,
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
