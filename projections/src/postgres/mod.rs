//! Postgres.

mod errors;
pub mod instant;
mod outdated;
mod pool;
#[macro_use]
mod rows;
pub mod store;

pub(crate) use errors::{is_column_missing, is_deadlock, is_reference_missing};
pub use errors::{is_schema_missing, is_statement_timeout, is_transient};
pub use instant::Instant;
pub(crate) use outdated::{close_older_connections, with_new_statements};
pub use pool::connect_lazily;
pub use rows::{PostgresKey, PostgresRow, PostgresTables, bind_column};
pub use store::{PostgresStore, PostgresView, read_position};
