//! The read side: the projector runtime, the views and their queries.
//!
//! A view is one folder under `views` and one line of its registry. It knows facts, not rules: what
//! it shows is a pure fold of the journal, and can be thrown away and posted again.

pub mod cql;
pub mod databases;
pub mod facts;
pub mod metrics;
pub mod order;
mod paging;
pub mod postgres;
mod problems;
pub mod projector;
pub mod settings;
pub mod store;
pub mod totals;
pub mod views;

pub use databases::Databases;
pub use projector::Runtime;
pub use settings::{CqlSettings, PostgresSettings, SettingsError};
pub use store::{PostError, Store};
pub use views::{routes, run};
