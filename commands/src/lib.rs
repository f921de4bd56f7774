//! The write side: takes commands over HTTP, gives each its identity, and lets the owner of its
//! partition decide it.
//!
//! A command's way: `http` reads it, [`identity`] names it, [`call`] makes it whole, [`wire`] checks its
//! fields, [`routing`] brings it to its owner, here or on another node, and [`contexts`] holds the
//! rules that the owner decides by.

pub mod call;
pub mod contexts;
pub mod http;
pub mod identity;
pub mod metrics;
pub mod outcome;
pub mod routing;
pub mod settings;
pub mod wire;
pub mod write_side;

pub use settings::CommandsSettings;
pub use write_side::{Process, Slot, WriteSide};
