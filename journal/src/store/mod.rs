//! The state store: an owner's cache of the state that it folded from the log. It may be lost at any
//! time, because the log has all of it. A store knows bytes only; the owner defines their layout.
//!
//! A write is atomic and contains the checkpoint that its other changes belong to. So after a crash a
//! store has some complete earlier state of the owner.

mod disk;
mod memory;
mod state_store;

pub use disk::{Disk, Pulse};
pub use memory::Memory;
pub use state_store::{
    Answered, Change, Entries, Entry, EntryKey, MakeChanges, SCAN_BYTES_MAX, STAMP_KEY, StateStore,
    StoreError, Table, first_entries,
};
