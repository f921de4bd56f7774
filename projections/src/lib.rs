//! The read side: the projector runtime, the views and their queries.
//!
//! A view is one folder under `views` and one line of the list there. It depends on events, not on rules: its
//! rows are a pure fold of the journal, and can be dropped and projected again.
//!
//! `view` is the port that a view implements, and `fold` computes its rows. `store` is the port between the
//! projector and a database; `postgres` and `cql` implement it.
//!
//! `paging` contains the cursors of lists, `problems` the errors of queries, and `conditional` the tags of their
//! answers.

pub mod admin;
mod applier;
pub mod builds;
mod catch_up;
pub mod columns;
pub mod commits;
mod conditional;
mod consistency;
pub mod cql;
pub mod databases;
pub mod difference;
pub mod fold;
#[cfg(test)]
mod golden;
pub mod group;
mod lag;
pub mod live;
pub mod metrics;
pub mod operations;
pub mod order;
mod paging;
pub mod parking;
#[macro_use]
pub mod postgres;
pub mod problems;
pub mod projector;
pub mod recorded;
pub mod registration;
mod registry;
mod repeated_failure;
mod sale;
pub mod settings;
mod shared_tables;
#[cfg(test)]
mod spec;
mod split;
mod status;
pub mod store;
pub mod supervisor;
mod versioned_routes;
pub mod versions;
pub mod view;
pub mod views;

pub use conditional::conditional;
pub use consistency::{Waits, of_other_processes};
pub use databases::Databases;
pub use live::Live;
pub use projector::{Runtime, Share};
pub use recorded::{FoldError, Recorded};
pub use registry::{TotalsError, live_routes, parked_events, routes, run, totals};
pub use settings::{CqlSettings, PostgresSettings, SettingsError, SharedPartitions, ViewsSettings};
pub use store::{Failure, Opened, Step, Store, StoreError};
pub use view::{RowFeed, Table, View};
