//! The filter of `daybook audit log`.

use crate::{body::Decision, frame::Frame, model::Entry};
use schemas::Timestamp;

/// Conditions on records. A record must meet all of them; an absent one is always met.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The record's whole key.
    pub key: Option<String>,
    /// The name of at least one of the decision's events.
    pub event: Option<String>,
    /// The earliest `recorded_at`, inclusive.
    pub from_time: Option<Timestamp>,
    /// The latest `recorded_at`, exclusive.
    pub to_time: Option<Timestamp>,
    /// The partition's number, the same in each topic.
    pub partition: Option<i32>,
    /// The first offset, the same in each partition.
    pub from_offset: i64,
    /// Whether void records are accepted.
    pub include_void: bool,
    /// Whether announcements and no-ops are accepted.
    pub all: bool,
}

impl Filter {
    /// Whether a partition is read.
    pub fn accepts_partition(&self, partition: i32) -> bool {
        self.partition.is_none_or(|wanted| wanted == partition)
    }

    /// Whether a void record is printed. Conditions on times or events reject void records, because their content does
    /// not count.
    pub fn accepts_void(&self, entry: Entry<'_>) -> bool {
        let has_conditions_on_content =
            self.event.is_some() || self.from_time.is_some() || self.to_time.is_some();
        self.include_void && !has_conditions_on_content && self.accepts_position(entry)
    }

    /// Whether a valid announcement or no-op is printed.
    pub fn accepts_other(&self, entry: Entry<'_>, frame: &Frame) -> bool {
        self.all && self.event.is_none() && self.accepts_frame(entry, frame)
    }

    /// Whether a valid decision is to be decoded.
    pub fn accepts_frame(&self, entry: Entry<'_>, frame: &Frame) -> bool {
        let time = frame.recorded_at;
        self.accepts_position(entry)
            && self.from_time.is_none_or(|from| from <= time)
            && self.to_time.is_none_or(|to| time < to)
    }

    /// Whether a decoded valid decision is printed.
    pub fn accepts_decision(&self, decision: &Decision) -> bool {
        let mut events = decision.events.iter();
        self.event
            .as_ref()
            .is_none_or(|wanted| events.any(|event| event.name == *wanted))
    }

    /// Whether a valid decision that can't be decoded is printed.
    pub fn accepts_undecodable(&self) -> bool {
        self.event.is_none()
    }

    fn accepts_position(&self, entry: Entry<'_>) -> bool {
        let key = self.key.as_ref().map(String::as_bytes);
        entry.offset >= self.from_offset && key.is_none_or(|wanted| entry.key == Some(wanted))
    }
}
