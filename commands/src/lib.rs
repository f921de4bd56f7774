//! The write side: it takes commands over HTTP, gives each an identity, and sends it to the owner of its
//! partition, which decides it.
//!
//! [`http`] reads a command, whose [`fields`] check themselves. [`identity`] gives it an id, [`envelope`]
//! holds the command and its id, and [`routing`] sends it to its owner, in [`owners`] or on another node.
//! [`contexts`] has each context's commands and the machine that its owners decide by; a command is a file
//! there that implements [`api_command::ApiCommand`]. [`write_side`] starts all of it; no other module
//! depends on it.

pub mod api_command;
pub mod command;
pub mod contexts;
pub mod envelope;
pub mod fields;
pub mod handle;
pub mod http;
pub mod identity;
pub mod metrics;
mod ndjson;
pub mod outcome;
pub mod owners;
pub mod request;
pub mod routing;
pub mod settings;
pub mod write_side;

pub use handle::{WriteSide, WriteSideHandle};
pub use settings::CommandsSettings;
pub use write_side::{Node, start};
