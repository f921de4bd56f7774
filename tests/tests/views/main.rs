//! The views on real databases: one suite for both stores, and the queries of the views. Each test has
//! a database or a keyspace of its own.

#![allow(
    clippy::unwrap_used,
    reason = "a test program; clippy knows only its test functions"
)]

mod backends;
mod builds;
mod catalog;
mod cql_configuration;
mod cql_faults;
mod differences;
mod log;
mod lost_lists;
mod outdated_statements;
mod parking;
mod plans;
mod products;
mod queries;
mod rows;
mod spec;
mod stores;
mod timeline;
mod totals;
mod versions;
