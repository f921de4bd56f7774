//! What a partition comes to: a fold of its records by the void rule.

use journal::{
    frame::{Frame, Kind},
    rule::{Rule, Verdict},
};
use kafka::Record;
use schemas::{Timestamp, owners::Place};
use std::{collections::BTreeMap, ops::ControlFlow};

/// A partition as far as it was read.
pub struct Description {
    pub place: Place,
    /// The offset that the next record gets, when reading began.
    pub end: i64,
    pub rule: Rule,
    /// The last valid announcement.
    pub term: Option<Term>,
    /// Records read, whatever they are.
    pub records: u64,
    pub announcements: u64,
    pub no_ops: u64,
    pub decisions: u64,
    /// Void records by reason.
    pub void: BTreeMap<&'static str, u64>,
    /// Records behind the last valid one.
    pub behind: u64,
    pub alarm: Option<Alarm>,
}

/// What the announcement of the term in force says.
pub struct Term {
    pub owner_url: String,
    /// When the broker took it; if it does not say, when its writer made it.
    pub since: Timestamp,
    pub rule_version: i32,
    pub partitions: i32,
}

/// Why a partition can't be read on.
pub struct Alarm {
    pub name: &'static str,
    pub text: String,
}

impl Description {
    /// Nothing read yet, of a log that begins at `low` and ends before `end`.
    pub fn begin((topic, partition): Place, low: i64, end: i64) -> Self {
        let alarm = (low > 0).then(|| Alarm {
            name: "beginning_gone",
            text: format!("{topic}/{partition} begins at offset {low}: without its beginning nothing can be judged"),
        });
        Self {
            place: (topic, partition),
            end,
            rule: Rule::new(topic, partition),
            term: None,
            records: 0,
            announcements: 0,
            no_ops: 0,
            decisions: 0,
            void: BTreeMap::new(),
            behind: 0,
            alarm,
        }
    }

    /// Whether there is a beginning to read from.
    pub fn is_readable(&self) -> bool {
        self.alarm.is_none()
    }

    /// Judges the next record; breaks at one at which readers halt.
    pub fn take(&mut self, record: &Record) -> ControlFlow<()> {
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let verdict = match self.rule.judge(record.offset, key, value) {
            Ok(verdict) => verdict,
            Err(alarm) => {
                self.alarm = Some(Alarm {
                    name: alarm.name(),
                    text: alarm.to_string(),
                });
                return ControlFlow::Break(());
            }
        };
        self.records += 1;
        match verdict {
            Verdict::Valid(frame) => self.take_valid(frame, record.timestamp_ms),
            Verdict::Void(reason) => {
                *self.void.entry(reason.name()).or_default() += 1;
                self.behind += 1;
            }
        }
        ControlFlow::Continue(())
    }

    fn take_valid(&mut self, frame: Frame, stamp_ms: i64) {
        self.behind = 0;
        match frame.kind {
            Kind::Announcement {
                rule_version,
                partitions,
                owner_url,
            } => {
                self.announcements += 1;
                self.term = Some(Term {
                    owner_url,
                    since: match stamp_ms {
                        ..0 => frame.recorded_at,
                        stamp_ms => Timestamp(stamp_ms.saturating_mul(1_000)),
                    },
                    rule_version,
                    partitions,
                });
            }
            Kind::NoOp => self.no_ops += 1,
            Kind::Decision => self.decisions += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::{
        Announcement, Body, Commit, ContextEvent, NoOp, catalog::Event, topics::PARTITIONS,
    };

    /// A partition that is written to and described.
    struct Log {
        description: Description,
        offset: i64,
        encoder: kafka::Encoder,
    }

    impl Log {
        fn new() -> Self {
            Self {
                description: Description::begin(("journal.catalog", 1), 0, 9),
                offset: 0,
                encoder: kafka::Encoder::new(7, &Event::CONTEXT.schema()).unwrap(),
            }
        }

        fn append(&mut self, epoch: i64, seq: i64, body: Body<Event>) -> ControlFlow<()> {
            let commit = Commit {
                prev: self.description.rule.hash(),
                term: [u8::try_from(epoch).unwrap(); 16],
                epoch,
                seq,
                recorded_at: Timestamp(5_000_000),
                body,
            };
            let value = self.encoder.encode(&commit).unwrap();
            self.record(Some(value))
        }

        fn announce(&mut self, epoch: i64) -> ControlFlow<()> {
            let announcement = Announcement {
                rule_version: 1,
                partitions: PARTITIONS,
                owner_url: format!("http://{epoch}"),
            };
            self.append(epoch, 0, Body::Announcement(announcement))
        }

        fn record(&mut self, value: Option<Vec<u8>>) -> ControlFlow<()> {
            let record = Record {
                partition: 1,
                offset: self.offset,
                timestamp_ms: 1_000 + self.offset,
                key: Some("".into()),
                value: value.map(Into::into),
            };
            self.offset += 1;
            self.description.take(&record)
        }
    }

    #[test]
    fn says_who_owns_it_and_what_is_void_and_why() {
        let mut log = Log::new();
        assert!(log.announce(1).is_continue());
        assert!(log.append(1, 1, Body::NoOp(NoOp {})).is_continue());
        assert!(log.record(None).is_continue());
        assert!(log.announce(2).is_continue());
        assert!(log.record(Some(vec![7])).is_continue());
        let description = &log.description;
        let term = description.term.as_ref().unwrap();
        assert_eq!(
            (term.owner_url.as_str(), term.since),
            ("http://2", Timestamp(1_003_000))
        );
        assert_eq!(description.rule.epoch(), 2);
        assert_eq!(
            (
                description.records,
                description.announcements,
                description.no_ops
            ),
            (5, 2, 1)
        );
        let void = [("malformed_magic", 1), ("null_value", 1)];
        assert_eq!(description.void, BTreeMap::from(void));
        assert_eq!(description.behind, 1);
        assert!(description.alarm.is_none());
    }

    #[test]
    fn stops_where_readers_halt() {
        let mut log = Log::new();
        assert!(log.announce(1).is_continue());
        assert!(log.announce(3).is_break());
        let alarm = log.description.alarm.as_ref().unwrap();
        assert_eq!(alarm.name, "announcement_skips_epoch");
        assert!(alarm.text.contains("journal.catalog/1@1"), "{}", alarm.text);
        assert_eq!(log.description.rule.next_offset(), 1);
    }

    #[test]
    fn a_log_without_its_beginning_is_not_read() {
        let description = Description::begin(("journal.catalog", 1), 7, 9);
        assert!(!description.is_readable());
        assert_eq!(description.alarm.unwrap().name, "beginning_gone");
    }
}
