//! `order_timeline_v1`: the events of each order, sorted by version, in the CQL store.

mod query;
mod tables;
#[cfg(test)]
mod tests;

pub use query::{TimelineEntry, TimelinePage};
pub use tables::{Entries, EntryRow, OrderTimeline};

use crate::registration::Registration;

/// This view in the registry.
pub(super) const REGISTRATION: Registration = Registration::cql::<OrderTimeline>(query::queries);
