//! Builds: a build is a projection of a view into tables of its own.
//!
//! One build of a view answers its queries. Another one can be projected from offset 0 beside it, be compared
//! with it, and take its place in one transaction. The list of builds is in Postgres, for the CQL store, too.

mod build;
pub mod registry;
mod serving;

pub use build::{Build, State};
pub use registry::{Entry, RegistryError};
pub use serving::Serving;
