//! Which records `daybook audit log` prints.

use crate::{body::Decision, frame::Frame, model::Entry};
use schemas::Timestamp;

/// All conditions hold at once; an absent one always holds.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The record's key, whole.
    pub key: Option<String>,
    /// The name of at least one of the decision's events.
    pub event: Option<String>,
    /// The earliest log time (`recorded_at`).
    pub from_time: Option<Timestamp>,
    /// The log time before which it must be.
    pub to_time: Option<Timestamp>,
    /// The partition's number, in each topic.
    pub partition: Option<i32>,
    /// The first offset, in each partition.
    pub from_offset: i64,
    /// Void records too.
    pub include_void: bool,
    /// Announcements and no-ops too.
    pub all: bool,
}

impl Filter {
    /// Whether a partition is looked at.
    pub fn takes_partition(&self, partition: i32) -> bool {
        self.partition.is_none_or(|wanted| wanted == partition)
    }

    /// Whether a void record is printed. What it says of times and events is nobody's truth.
    pub fn takes_void(&self, entry: Entry<'_>) -> bool {
        let has_conditions_on_content =
            self.event.is_some() || self.from_time.is_some() || self.to_time.is_some();
        self.include_void && !has_conditions_on_content && self.takes_place(entry)
    }

    /// Whether a valid announcement or no-op is printed.
    pub fn takes_other(&self, entry: Entry<'_>, frame: &Frame) -> bool {
        self.all && self.event.is_none() && self.takes_frame(entry, frame)
    }

    /// Whether a valid decision is worth decoding.
    pub fn takes_frame(&self, entry: Entry<'_>, frame: &Frame) -> bool {
        let time = frame.recorded_at;
        self.takes_place(entry)
            && self.from_time.is_none_or(|from| from <= time)
            && self.to_time.is_none_or(|to| time < to)
    }

    /// Whether a valid decision is printed, once it is decoded.
    pub fn takes_decision(&self, decision: &Decision) -> bool {
        let mut events = decision.events.iter();
        self.event
            .as_ref()
            .is_none_or(|wanted| events.any(|event| event.name == *wanted))
    }

    /// Whether a valid decision that can't be decoded is printed.
    pub fn takes_undecodable(&self) -> bool {
        self.event.is_none()
    }

    fn takes_place(&self, entry: Entry<'_>) -> bool {
        let key = self.key.as_ref().map(String::as_bytes);
        entry.offset >= self.from_offset && key.is_none_or(|wanted| entry.key == Some(wanted))
    }
}
