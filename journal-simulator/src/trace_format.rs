//! Records and ids as a trace prints them.

use crate::record::StoredRecord;
use journal::frame::{Frame, Kind};

/// One record, as the rule sees it.
pub(super) fn record(record: &StoredRecord) -> String {
    let Ok(frame) = Frame::read(&record.value) else {
        return "no frame".into();
    };
    let kind = match frame.kind {
        Kind::Announcement { owner_url, .. } => format!("announcement of {owner_url}"),
        Kind::NoOp => "no-op".into(),
        Kind::Decision => format!("decision on {}", String::from_utf8_lossy(&record.key)),
    };
    let (epoch, seq) = (frame.epoch, frame.seq);
    let delay_ms = record.landed_ms - record.handed_ms;
    format!(
        "{kind}: epoch {epoch}, term {}, seq {seq}, {delay_ms} ms after it was handed over",
        id(&frame.term)
    )
}

/// A short form of an id.
pub(super) fn id(id: &[u8; 16]) -> String {
    hex::encode(&id[..3])
}
