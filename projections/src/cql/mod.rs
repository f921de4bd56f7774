//! The CQL store (Scylla or Cassandra).
//!
//! The code uses only features that both support: no tablets, no materialized views, no `USING TIMEOUT`.

pub mod apply;
mod connection;
mod errors;
mod migrations;
pub(crate) mod other_versions;
mod rows;
mod scan;
mod schema;
mod session;
pub mod store;
mod write_requests;
pub mod writes;

pub use connection::Cql;
pub use errors::CqlError;
pub use rows::{CqlKey, CqlRow, CqlTables};
pub use schema::TableColumns;
pub use session::Session;
pub use store::{CqlStore, CqlView, read_position};
