//! One line of `daybook audit log`.
//!
//! Numbers are JSON integers, bytes are hexadecimal digits, times are RFC 3339. An event's `type` comes
//! first, then its fields in the order of its schema.

use crate::{
    body::{Decision, Event},
    frame::{Frame, Kind},
    model::{Entry, Void},
};
use apache_avro::types::Value;
use schemas::{Timestamp, ids::event_id};
use serde::{Serialize, Serializer, ser::SerializeMap};

/// A record's position, timestamp and key; every line begins with them.
#[derive(Debug, Serialize)]
pub(super) struct Position<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    key: Option<String>,
}

/// A valid decision.
#[derive(Serialize)]
pub(super) struct DecisionLine<'a> {
    #[serde(flatten)]
    position: Position<'a>,
    epoch: i64,
    seq: i64,
    aggregate_type: &'a str,
    version: i64,
    recorded_at: String,
    command_id: String,
    origin: &'a str,
    actor: &'a str,
    correlation_id: String,
    causation_id: Option<&'a str>,
    outcome: Option<Json<'a>>,
    event_ids: Vec<String>,
    events: Vec<EventJson<'a>>,
}

/// A valid decision that can't be decoded.
#[derive(Serialize)]
pub(super) struct UndecodableLine<'a> {
    #[serde(flatten)]
    position: Position<'a>,
    epoch: i64,
    seq: i64,
    recorded_at: String,
    undecodable: &'a str,
}

/// A valid announcement or no-op.
#[derive(Serialize)]
pub(super) struct OtherLine<'a> {
    #[serde(flatten)]
    position: Position<'a>,
    epoch: i64,
    seq: i64,
    recorded_at: String,
    body: &'static str,
    #[serde(flatten)]
    announcement: Option<&'a schemas::Announcement>,
}

/// A void record.
#[derive(Serialize)]
pub(super) struct VoidLine<'a> {
    #[serde(flatten)]
    position: Position<'a>,
    epoch: Option<i64>,
    seq: Option<i64>,
    void: &'static str,
    detail: String,
}

impl<'a> Position<'a> {
    pub(super) fn new(topic: &'a str, partition: i32, entry: Entry<'_>) -> Self {
        Self {
            topic,
            partition,
            offset: entry.offset,
            timestamp_ms: entry.timestamp_ms,
            key: entry
                .key
                .map(|key| String::from_utf8_lossy(key).into_owned()),
        }
    }

    pub(super) fn decision(
        self,
        frame: &Frame,
        decision: &'a Decision,
        log_id: &[u8; 32],
    ) -> DecisionLine<'a> {
        let id = |index| event_id(log_id, frame.epoch, frame.seq, index);
        DecisionLine {
            position: self,
            epoch: frame.epoch,
            seq: frame.seq,
            aggregate_type: &decision.aggregate_type,
            version: decision.version,
            recorded_at: frame.recorded_at.to_string(),
            command_id: hex::encode(decision.command_id),
            origin: &decision.origin,
            actor: &decision.actor,
            correlation_id: hex::encode(decision.correlation_id),
            causation_id: decision.causation_id.as_deref(),
            outcome: decision.outcome.as_ref().map(Json),
            event_ids: (0..decision.events.len()).map(id).collect(),
            events: decision.events.iter().map(EventJson).collect(),
        }
    }

    pub(super) fn undecodable(self, frame: &Frame, reason: &'a str) -> UndecodableLine<'a> {
        UndecodableLine {
            position: self,
            epoch: frame.epoch,
            seq: frame.seq,
            recorded_at: frame.recorded_at.to_string(),
            undecodable: reason,
        }
    }

    pub(super) fn other(self, frame: &'a Frame) -> OtherLine<'a> {
        let (body, announcement) = match &frame.kind {
            Kind::Announcement(announcement) => ("Announcement", Some(announcement)),
            Kind::NoOp => ("NoOp", None),
            Kind::Decision => ("Decision", None),
        };
        OtherLine {
            position: self,
            epoch: frame.epoch,
            seq: frame.seq,
            recorded_at: frame.recorded_at.to_string(),
            body,
            announcement,
        }
    }

    pub(super) fn void(self, void: &Void) -> VoidLine<'a> {
        let frame = void.frame.as_ref();
        VoidLine {
            position: self,
            epoch: frame.map(|frame| frame.epoch),
            seq: frame.map(|frame| frame.seq),
            void: void.reason.name(),
            detail: void.reason.to_string(),
        }
    }
}

/// An event as JSON.
struct EventJson<'a>(&'a Event);

impl Serialize for EventJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1 + self.0.fields.len()))?;
        map.serialize_entry("type", &self.0.name)?;
        for (name, value) in &self.0.fields {
            map.serialize_entry(name, &Json(value))?;
        }
        map.end()
    }
}

/// Any Avro value as JSON.
struct Json<'a>(&'a Value);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_none(),
            Value::Boolean(value) => serializer.serialize_bool(*value),
            Value::Int(number) | Value::Date(number) | Value::TimeMillis(number) => {
                serializer.serialize_i32(*number)
            }
            Value::Long(number)
            | Value::TimeMicros(number)
            | Value::TimestampNanos(number)
            | Value::LocalTimestampMillis(number)
            | Value::LocalTimestampMicros(number)
            | Value::LocalTimestampNanos(number) => serializer.serialize_i64(*number),
            Value::TimestampMillis(milliseconds) => {
                serializer.collect_str(&Timestamp(milliseconds.saturating_mul(1_000)))
            }
            Value::TimestampMicros(microseconds) => {
                serializer.collect_str(&Timestamp(*microseconds))
            }
            Value::Float(number) => serializer.serialize_f32(*number),
            Value::Double(number) => serializer.serialize_f64(*number),
            Value::Bytes(bytes) | Value::Fixed(_, bytes) => {
                serializer.serialize_str(&hex::encode(bytes))
            }
            Value::String(text) | Value::Enum(_, text) => serializer.serialize_str(text),
            Value::Union(_, value) => Json(value).serialize(serializer),
            Value::Array(items) => serializer.collect_seq(items.iter().map(Json)),
            Value::Map(entries) => {
                serializer.collect_map(entries.iter().map(|(name, value)| (name, Json(value))))
            }
            Value::Record(fields) => {
                serializer.collect_map(fields.iter().map(|(name, value)| (name, Json(value))))
            }
            Value::Uuid(id) => serializer.collect_str(id),
            // Our schemas do not have these types, so their debug format is enough.
            Value::Decimal(_) | Value::BigDecimal(_) | Value::Duration(_) => {
                serializer.collect_str(&format_args!("{:?}", self.0))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_printed_as_integers_hexadecimal_digits_and_rfc_3339() {
        let event = Event {
            name: "Happened".into(),
            fields: vec![
                ("at".into(), Value::TimestampMicros(1_291_191_960_000_000)),
                ("amount".into(), Value::Long(i64::MIN)),
                ("hash".into(), Value::Fixed(2, vec![0xab, 1])),
                (
                    "note".into(),
                    Value::Union(1, Box::new(Value::String("\u{a3}".into()))),
                ),
                ("none".into(), Value::Union(0, Box::new(Value::Null))),
            ],
        };
        let json = serde_json::to_string(&EventJson(&event)).unwrap();
        assert_eq!(
            json,
            "{\"type\":\"Happened\",\"at\":\"2010-12-01T08:26:00Z\",\"amount\":-9223372036854775808,\
             \"hash\":\"ab01\",\"note\":\"\u{a3}\",\"none\":null}"
        );
    }
}
