//! An owner's metrics, looked up once, so that counting costs an addition and formats no name.

use crate::metrics as names;
use metrics::{Counter, Gauge, Histogram, Label, counter, gauge, histogram};

/// The handles of one partition's metrics; see [`crate::metrics`].
pub(super) struct Meters {
    pub appends: Counter,
    pub no_ops: Counter,
    pub takeovers: Counter,
    pub takeover_seconds: Histogram,
    pub barriers: Counter,
    pub decided_again: Counter,
    pub fenced: Counter,
    pub replays: Counter,
    pub joined: Counter,
    pub store_errors: Counter,
    pub epoch: Gauge,
    pub unanswered: Gauge,
    pub queued: Gauge,
    pub unproved: Gauge,
    pub unsaved: Gauge,
}

impl Meters {
    /// All metrics, at 0, registered with the recorder that is installed now.
    pub fn new(topic: &'static str, partition: i32) -> Self {
        let labels = || {
            vec![
                Label::from_static_parts("topic", topic),
                Label::new("partition", partition.to_string()),
            ]
        };
        Self {
            appends: counter!(names::APPENDS, labels()),
            no_ops: counter!(names::NO_OPS, labels()),
            takeovers: counter!(names::TAKEOVERS, labels()),
            takeover_seconds: histogram!(names::TAKEOVER_SECONDS, labels()),
            barriers: counter!(names::BARRIERS, labels()),
            decided_again: counter!(names::DECIDED_AGAIN, labels()),
            fenced: counter!(names::FENCED, labels()),
            replays: counter!(names::REPLAYS, labels()),
            joined: counter!(names::JOINED, labels()),
            store_errors: counter!(names::STORE_ERRORS, labels()),
            epoch: gauge!(names::EPOCH, labels()),
            unanswered: gauge!(names::UNANSWERED, labels()),
            queued: gauge!(names::QUEUED, labels()),
            unproved: gauge!(names::UNPROVED, labels()),
            unsaved: gauge!(names::UNSAVED, labels()),
        }
    }
}
