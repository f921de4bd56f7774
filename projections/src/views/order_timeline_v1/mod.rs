//! `order_timeline_v1`: the events of each order in their order, in the CQL store.

mod query;
mod tables;
#[cfg(test)]
mod tests;

pub use query::{TimelineEntry, TimelinePage};
pub use tables::{Entries, EntryRow, OrderTimeline};

use crate::{cql::CqlStore, registration::Registration, view::View};

/// This view in the registry.
pub(super) const REGISTRATION: Registration = Registration {
    name: OrderTimeline::NAME,
    database: "CQL",
    project: |runtime, databases| {
        runtime.project(CqlStore::<OrderTimeline>::new(databases.cql.clone()));
    },
    routes: |databases| query::routes().with_state(databases.cql.clone()),
    totals: None,
};
