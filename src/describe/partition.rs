//! Describes a partition: a fold of its records by the void rule.

use journal::{
    frame::{Frame, Kind},
    rule::{Rule, Verdict},
};
use kafka::Record;
use schemas::{Timestamp, topics::TopicPartition};
use std::{collections::BTreeMap, ops::ControlFlow};

/// Description of the part of a partition that was read.
pub struct Description {
    pub topic_partition: TopicPartition,
    /// Offset of the next record at the time when reading began.
    pub end: i64,
    pub rule: Rule,
    /// The last valid announcement.
    pub term: Option<Term>,
    /// Number of records that were read.
    pub records: u64,
    pub announcements: u64,
    pub no_ops: u64,
    pub decisions: u64,
    /// Numbers of void records by reason.
    pub void: BTreeMap<&'static str, u64>,
    /// Number of records after the last valid one.
    pub behind: u64,
    pub alarm: Option<Alarm>,
}

/// The current term, according to its announcement.
pub struct Term {
    pub owner_url: String,
    /// The broker's timestamp of the announcement; the writer's time if the record has no timestamp.
    pub since: Timestamp,
    pub rule_version: i32,
    pub partitions: i32,
}

/// The reason why a partition can't be read further.
pub struct Alarm {
    pub name: &'static str,
    pub text: String,
}

impl Description {
    /// Starts the description of a log whose first offset is `low` and whose end offset is `end`, before any record is
    /// read.
    pub fn begin(topic_partition: TopicPartition, low: i64, end: i64) -> Self {
        let TopicPartition { topic, partition } = topic_partition;
        let alarm = (low > 0).then(|| Alarm {
            name: "beginning_gone",
            text: format!("{topic}/{partition} begins at offset {low}: its records can't be judged without the earlier ones"),
        });
        Self {
            topic_partition,
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

    /// Whether the log still has its first record.
    pub fn is_readable(&self) -> bool {
        self.alarm.is_none()
    }

    /// Judges the next record; breaks at a record where readers halt.
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
    use schemas::{Announcement, Body, Commit, ContextEvent, NoOp, catalog::Event};

    const CONTINUE: ControlFlow<()> = ControlFlow::Continue(());

    const PARTITION: TopicPartition = TopicPartition {
        topic: "journal.catalog",
        partition: 1,
    };

    /// A partition that is written and described.
    struct Log {
        description: Description,
        offset: i64,
        encoder: kafka::Encoder,
    }

    impl Log {
        fn new() -> Self {
            Self {
                description: Description::begin(PARTITION, 0, 9),
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
                partitions: 4,
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
    fn the_owner_and_void_records_by_reason_are_described() {
        let mut log = Log::new();
        assert_eq!(log.announce(1), CONTINUE);
        assert_eq!(log.append(1, 1, Body::NoOp(NoOp {})), CONTINUE);
        assert_eq!(log.record(None), CONTINUE);
        assert_eq!(log.announce(2), CONTINUE);
        assert_eq!(log.record(Some(vec![7])), CONTINUE);
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
        let alarm = description.alarm.as_ref().map(|alarm| &alarm.text);
        assert_eq!(alarm, None);
    }

    #[test]
    fn an_alarm_ends_the_description() {
        let mut log = Log::new();
        assert_eq!(log.announce(1), CONTINUE);
        assert_eq!(log.announce(3), ControlFlow::Break(()));
        let alarm = log.description.alarm.as_ref().unwrap();
        assert_eq!(alarm.name, "announcement_skips_epoch");
        assert!(
            alarm.text.contains("journal.catalog/1@1"),
            "no \"journal.catalog/1@1\" in: {}",
            alarm.text
        );
        assert_eq!(log.description.rule.next_offset(), 1);
    }

    #[test]
    fn a_log_without_its_first_record_is_not_read() {
        let description = Description::begin(PARTITION, 7, 9);
        let alarm = description.alarm.as_ref().map(|alarm| alarm.name);
        assert_eq!(
            (description.is_readable(), alarm),
            (false, Some("beginning_gone"))
        );
    }
}
