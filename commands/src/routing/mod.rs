//! Several command processes: each takes any command and gets it to the owner of its partition.
//!
//! [`assignment`] makes the group's hints into owners' duties, unless this process can't fulfil them
//! ([`fitness`]); [`announcer`] tells of offices held, and [`directory`] knows who holds which. [`router`]
//! brings a command on its [`journey`] to its owner and back ([`lane`] many of one partition, in order),
//! and [`peer`] carries it to other nodes, in the form of [`wire`]; [`meters`] counts.
//!
//! Nothing here is needed for safety: a command that reaches a process that owns nothing is refused
//! there by the log, and its id makes it the same command wherever it is tried again. A forwarded
//! command is not forwarded on: its receiver decides it or says whom it takes for the owner.

pub mod announcer;
pub mod assignment;
pub mod directory;
pub mod fitness;
pub mod journey;
pub mod lane;
pub mod meters;
pub mod peer;
pub mod router;
pub mod wire;

pub use directory::Directory;
pub use router::Router;
