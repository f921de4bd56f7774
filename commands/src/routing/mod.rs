//! Several command processes: each takes any command and gets it to the owner of its partition.
//!
//! [`assignment`] makes the group's hints into owners' duties, [`announcer`] tells of offices held,
//! [`directory`] knows who holds which, [`router`] brings a command to its owner and back (one is a
//! [`journey`]; [`lane`] has many of one partition, in order), [`peer`] carries them to other nodes, in
//! the form of [`wire`]; [`meters`] counts.
//!
//! Nothing here is needed for safety: a command that reaches a process that owns nothing is refused
//! there by the log, and its id makes it the same command wherever it is tried again. A forwarded
//! command is not forwarded on: its receiver decides it or says whom it takes for the owner.

pub mod announcer;
pub mod assignment;
pub mod directory;
pub mod journey;
pub mod lane;
pub mod meters;
pub mod peer;
pub mod router;
pub mod wire;

pub use directory::Directory;
pub use router::Router;
