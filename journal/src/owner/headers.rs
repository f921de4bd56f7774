//! A record's headers, for other tools that read Kafka without Avro. Our own code does not read them.
//!
//! Texts that don't change from record to record are reused.

use super::core::Outgoing;
use schemas::{Context, Timestamp};
use std::fmt::Write;

/// Maximum number of headers of a record.
const HEADERS_MAX: usize = 4;

/// The last record's headers, as text.
pub(super) struct Headers {
    kind: String,
    id: Id,
    time: Time,
}

/// `<term>/<seq>`.
#[derive(Default)]
struct Id {
    text: String,
    term: [u8; 16],
    /// Number of bytes of the text that name the term; 0 before the first record.
    term_bytes: usize,
}

/// RFC 3339.
#[derive(Default)]
struct Time {
    text: String,
    time: Option<Timestamp>,
}

impl Headers {
    /// Headers of a context's commits.
    pub fn new(context: &Context) -> Self {
        Self {
            kind: format!("daybook.{}.Commit", context.name),
            id: Id::default(),
            time: Time::default(),
        }
    }

    /// Calls `work` with a record's headers.
    pub fn with<T>(&mut self, record: &Outgoing, work: impl FnOnce(&[(&str, &[u8])]) -> T) -> T {
        let traceparent = record.traceparent.as_deref();
        let all: [(&str, &[u8]); HEADERS_MAX] = [
            ("ce_type", self.kind.as_bytes()),
            ("ce_id", self.id.of(record).as_bytes()),
            ("ce_time", self.time.of(record.recorded_at).as_bytes()),
            ("traceparent", traceparent.unwrap_or_default().as_bytes()),
        ];
        let count = HEADERS_MAX - usize::from(traceparent.is_none());
        work(&all[..count])
    }
}

impl Id {
    fn of(&mut self, record: &Outgoing) -> &str {
        if self.term_bytes == 0 || self.term != record.term {
            self.text = hex::encode(record.term) + "/";
            (self.term, self.term_bytes) = (record.term, self.text.len());
        }
        self.text.truncate(self.term_bytes);
        write!(self.text, "{}", record.seq).expect("writing to a string does not fail");
        &self.text
    }
}

impl Time {
    /// Records that are appended together have the same time.
    fn of(&mut self, time: Timestamp) -> &str {
        if self.time != Some(time) {
            self.text = time.to_string();
            self.time = Some(time);
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::PROBE;

    fn record(term: u8, seq: i64, time: i64, traceparent: Option<&str>) -> Outgoing {
        Outgoing {
            number: 0,
            key: "".into(),
            value: Vec::new(),
            term: [term; 16],
            seq,
            recorded_at: Timestamp(time),
            traceparent: traceparent.map(str::to_owned),
        }
    }

    fn texts(headers: &mut Headers, record: &Outgoing) -> Vec<String> {
        headers.with(record, |headers| {
            let text = |(name, value): &(&str, &[u8])| {
                format!("{name}={}", String::from_utf8(value.to_vec()).unwrap())
            };
            headers.iter().map(text).collect()
        })
    }

    #[test]
    fn headers_name_the_record() {
        let mut headers = Headers::new(&PROBE);
        let (first, second) = ("01".repeat(16), "02".repeat(16));
        for (record, id, time, traceparent) in [
            (
                record(1, 9, 0, None),
                format!("{first}/9"),
                "1970-01-01T00:00:00Z",
                None,
            ),
            (
                record(1, 10, 0, Some("00-a")),
                format!("{first}/10"),
                "1970-01-01T00:00:00Z",
                Some("00-a"),
            ),
            (
                record(2, 1, 1_000_000, None),
                format!("{second}/1"),
                "1970-01-01T00:00:01Z",
                None,
            ),
        ] {
            let mut expected = vec![
                "ce_type=daybook.probe.Commit".to_owned(),
                format!("ce_id={id}"),
                format!("ce_time={time}"),
            ];
            expected.extend(traceparent.map(|text| format!("traceparent={text}")));
            assert_eq!(texts(&mut headers, &record), expected);
        }
    }
}
