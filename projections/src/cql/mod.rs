//! The CQL store (Scylla or Cassandra).
//!
//! Only what both speak is used: no tablets, no materialized views, no `USING TIMEOUT`.

mod connection;
mod errors;
mod session;
pub mod store;

pub use connection::Cql;
pub use errors::CqlError;
pub use session::Session;
pub use store::{CqlStore, CqlView};
