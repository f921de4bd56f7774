//! Read-your-writes for the queries of all views: see `service::consistency`.
//!
//! The registry wraps the routes of each view; a view has no code for this. The topics and partitions that a view
//! reads are those for which its projector reports progress.

mod stored;
mod waits;

pub use stored::of_other_processes;
pub use waits::Waits;
