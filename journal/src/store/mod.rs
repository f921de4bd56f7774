//! Where an owner keeps what it has folded from the log: a cache that may be lost at any time, for the
//! log has it all. Bytes only; what they mean, the owner knows.
//!
//! One write is atomic, and holds the checkpoint that its other changes belong to; so whatever a store
//! comes back with after a crash is some earlier state of the owner, whole.

mod disk;
mod memory;

pub use disk::Disk;
pub use memory::Memory;

use futures_util::future::BoxFuture;
use std::sync::Arc;

/// The one key of [`Table::Meta`].
pub const STAMP_KEY: &[u8] = b"stamp";

/// The parts of a partition's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// What the rest belongs to, under [`STAMP_KEY`]; every write has it.
    Meta,
    /// Aggregates by key.
    Aggregates,
    /// Answers by command id.
    Answers,
    /// Command ids by the log time at which they can be forgotten.
    Expiry,
}

/// One entry, written or (`None`) removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub table: Table,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Option<Vec<u8>>,
}

/// Makes the changes to write, away from the owner's task.
pub type MakeChanges = Box<dyn FnOnce() -> Vec<Change> + Send>;

/// Key and value of an entry.
pub type Entry = (Vec<u8>, Vec<u8>);

/// One partition's store.
pub trait StateStore: Send + Sync + 'static {
    /// What the rest belongs to; `None` if it is empty. From here on the store answers for the state
    /// that this stamp names, and for what is written on top.
    fn stamp(&self) -> Result<Option<Vec<u8>>, StoreError>;

    /// An entry's value. Short, for the owner waits for it.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The first entries from `start` on and below `end`, in the order of their keys; at most `count`.
    fn first(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        count: usize,
    ) -> Result<Vec<Entry>, StoreError>;

    /// Writes all changes or none. What was written before a crash may be lost from the end on.
    fn write(self: Arc<Self>, changes: MakeChanges) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Forgets everything.
    fn clear(&self) -> Result<(), StoreError>;
}

/// Why a store can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Two processes may not share a directory.
    #[error("the state store {path} is in use by another process")]
    InUse {
        /// Its directory.
        path: String,
    },
    /// It can't be opened, and making it anew did not help.
    #[error("the state store {path} can't be opened: {reason}")]
    Unusable {
        /// Its directory.
        path: String,
        /// The library's words.
        reason: String,
    },
    /// It had to be opened again and does not have what was written last: ask for its
    /// [`StateStore::stamp`] and go on from there.
    #[error("the state store of {partition} was opened again and has lost its end")]
    Reopened {
        /// Topic and partition.
        partition: String,
    },
    /// What stands there can't be read.
    #[error("the state store of {partition} can't be read: {reason}")]
    Unreadable {
        /// Topic and partition.
        partition: String,
        /// The library's words.
        reason: String,
    },
    /// A write failed; nothing of it counts.
    #[error("the state store of {partition} can't be written: {reason}")]
    Unwritable {
        /// Topic and partition.
        partition: String,
        /// The library's words.
        reason: String,
    },
}
