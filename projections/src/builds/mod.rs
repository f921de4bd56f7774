//! Builds: a build is a projection of a view into tables of its own.
//!
//! One build of a view answers its queries. Another build can be projected from offset 0 at the same time, be
//! compared with the serving build, and replace it in one transaction. The list of builds is in Postgres,
//! also for views in the CQL store. The versions of a view share its list.

mod build;
mod entry;
pub mod registry;
mod serving;
pub mod version;

pub use build::{Build, BuildId, State};
pub use entry::{Entry, answering};
pub use registry::RegistryError;
pub use serving::{CatchUp, Serving};
pub use version::VersionMissing;
