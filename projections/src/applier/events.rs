//! Counts events: each event that was read counts as applied, parked or stale.

use crate::{builds::Build, metrics as names, view::ViewEvent};
use journal::Batch;
use metrics::counter;
use schemas::Body;

/// The number of events of a batch that are neither applied nor parked yet. When this is dropped, the remaining events
/// count as stale.
pub(super) struct ReadEvents {
    labels: [(&'static str, String); 2],
    pub unapplied: u64,
}

impl ReadEvents {
    pub fn new(build: Build, events: u64) -> Self {
        let labels = labels(build);
        counter!(names::EVENTS_READ, &labels).increment(events);
        Self {
            labels,
            unapplied: events,
        }
    }
}

impl Drop for ReadEvents {
    fn drop(&mut self) {
        counter!(names::EVENTS_STALE, &self.labels).increment(self.unapplied);
    }
}

/// The labels of a build's metrics.
pub(super) fn labels(build: Build) -> [(&'static str, String); 2] {
    [
        ("view", build.view.to_owned()),
        ("build", build.number.to_string()),
    ]
}

/// The number of events in a batch.
pub(super) fn event_count<E: ViewEvent>(batch: &Batch<E>) -> u64 {
    let events = batch.commits.iter().map(|valid| match &valid.commit.body {
        Body::Decision(decision) => decision.events.len() as u64,
        Body::Announcement(_) | Body::NoOp(_) => 0,
    });
    events.sum()
}
