//! The views: each is a folder here, and one line of the registry.

pub mod orders_by_customer_v1;
pub mod orders_v1;
mod registry;
#[cfg(test)]
mod samples;

pub use registry::{Registration, routes, run};
