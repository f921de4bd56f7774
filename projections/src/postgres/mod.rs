//! Postgres.

mod errors;
pub mod instant;
mod pool;
pub mod store;

pub use errors::{is_schema_missing, is_transient};
pub use pool::connect_lazily;
pub use store::{PostgresStore, PostgresView};
