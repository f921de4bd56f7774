//! The start of a log: its id, and the number of partitions that its topic was created with.

use crate::{
    frame::Kind,
    log::Source,
    rule::{Alarm, Hash, Rule, Verdict},
};
use kafka::{BoundedReadError, BoundedReader, Fetch, Record, Span, admin::AdminError};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::timeout;

/// Maximum number of records of a partition that are read. The first record is the announcement, unless another
/// program wrote to the topic before the owner did.
const RECORDS_MAX: u64 = 1_000;
/// Longest time to read all partitions of a topic.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The content of a partition's first valid record, which is an announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Genesis {
    /// h(1), which names the log.
    pub log_id: Hash,
    /// The topic's number of partitions, on which the partition of a key depends.
    pub partitions: i32,
}

/// The start of a partition's log, as far as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStart {
    /// The log has no valid record yet.
    Empty,
    /// The log has begun.
    Found(Genesis),
    /// The first `records` records are void, and more follow that were not read. It is unknown whether the log
    /// has begun.
    NotFound {
        /// Number of records that were read.
        records: u64,
    },
}

/// Why the start of a log is unknown.
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    /// The brokers did not return an offset.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The brokers did not return records.
    #[error(transparent)]
    Read(#[from] BoundedReadError),
    /// The start of the log was altered or is lost.
    #[error(transparent)]
    Alarm(#[from] Alarm),
    /// Too few records came in time; another attempt may succeed.
    #[error("the start of topic {topic} was not read within {READ_TIMEOUT:?}")]
    Slow {
        /// The journal.
        topic: String,
    },
}

/// A partition whose start is being read.
struct PartitionStart {
    rule: Rule,
    /// The end of its log.
    end: i64,
    taken: u64,
    /// Whether all offsets before `end` were read, including those without a record.
    is_at_end: bool,
    genesis: Option<Genesis>,
}

/// The start of the log of each of a topic's partitions, by partition.
///
/// # Errors
/// [`GenesisError`]: a partition can't be measured or read, its start raises an alarm, or reading takes too long.
pub async fn log_starts(
    source: &Source,
    topic: &str,
    partitions: i32,
) -> Result<BTreeMap<i32, LogStart>, GenesisError> {
    let mut starts = BTreeMap::new();
    for partition in 0..partitions {
        let end = source.admin.watermarks(topic, partition).await?.high;
        starts.insert(partition, PartitionStart::new(topic, partition, end));
    }
    let reading = read(source, topic, &mut starts);
    timeout(READ_TIMEOUT, reading)
        .await
        .map_err(|_| GenesisError::Slow {
            topic: topic.to_owned(),
        })??;
    let found = starts.into_iter();
    Ok(found
        .map(|(partition, start)| (partition, start.found()))
        .collect())
}

async fn read(
    source: &Source,
    topic: &str,
    starts: &mut BTreeMap<i32, PartitionStart>,
) -> Result<(), GenesisError> {
    let with_records = starts.iter().filter(|(_, start)| start.end > 0);
    let spans: Vec<Span> = with_records
        .map(|(partition, start)| Span {
            partition: *partition,
            low: 0,
            end: start.end,
        })
        .collect();
    if spans.is_empty() {
        return Ok(());
    }
    let mut reader = BoundedReader::start(&source.kafka, "genesis", topic, &spans, Fetch::Small)?;
    let is_known = |reader: &BoundedReader, partition: i32, start: &PartitionStart| {
        // Control records may follow a partition's last record.
        start.is_known() || reader.position(partition) == Some(start.end)
    };
    while !starts
        .iter()
        .all(|(partition, start)| is_known(&reader, *partition, start))
    {
        let Some(records) = reader.next().await? else {
            break;
        };
        for record in &records {
            if let Some(start) = starts.get_mut(&record.partition) {
                start.take(record)?;
            }
        }
    }
    for (partition, start) in starts {
        // Records beyond the limit may lie before this position.
        if start.taken < RECORDS_MAX {
            start.is_at_end |= reader.position(*partition) == Some(start.end);
        }
    }
    Ok(())
}

impl PartitionStart {
    fn new(topic: &str, partition: i32, end: i64) -> Self {
        Self {
            rule: Rule::new(topic, partition),
            end,
            taken: 0,
            is_at_end: end <= 0,
            genesis: None,
        }
    }

    fn is_known(&self) -> bool {
        self.genesis.is_some() || self.is_at_end || self.taken >= RECORDS_MAX
    }

    fn found(&self) -> LogStart {
        match self.genesis {
            Some(genesis) => LogStart::Found(genesis),
            None if self.is_at_end => LogStart::Empty,
            None => LogStart::NotFound {
                records: self.taken,
            },
        }
    }

    fn take(&mut self, record: &Record) -> Result<(), Alarm> {
        if self.is_known() {
            return Ok(());
        }
        self.taken += 1;
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let verdict = self.rule.judge(record.offset, key, value)?;
        self.is_at_end = self.rule.next_offset() >= self.end;
        let Verdict::Valid(frame) = verdict else {
            return Ok(());
        };
        let log_id = self.rule.log_id();
        if let (Kind::Announcement { partitions, .. }, Some(log_id)) = (frame.kind, log_id) {
            self.genesis = Some(Genesis { log_id, partitions });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        probe::{Event, PROBE},
        rule::{RULE_VERSION_ANNOUNCED, chain_hash, genesis_hash},
    };
    use kafka::Encoder;
    use schemas::{Announcement, Body, Commit, ContextEvent, NoOp, Timestamp};

    const TOPIC: &str = PROBE.topic;

    fn value(epoch: i64, seq: i64, body: Body<Event>) -> Vec<u8> {
        let commit = Commit {
            prev: [0; 32],
            term: [1; 16],
            epoch,
            seq,
            recorded_at: Timestamp(0),
            body,
        };
        let encoder = Encoder::new(7, &Event::CONTEXT.schema()).unwrap();
        encoder.encode(&commit).unwrap()
    }

    fn announcement(epoch: i64, partitions: i32) -> Vec<u8> {
        let body = Announcement {
            rule_version: RULE_VERSION_ANNOUNCED,
            partitions,
            owner_url: String::new(),
        };
        value(epoch, 0, Body::Announcement(body))
    }

    fn record(offset: i64, value: Vec<u8>) -> Record {
        Record {
            partition: 2,
            offset,
            timestamp_ms: 0,
            key: Some("".into()),
            value: Some(value.into()),
        }
    }

    #[test]
    fn the_first_valid_announcement_is_the_genesis() {
        let mut start = PartitionStart::new(TOPIC, 2, 9);
        let first = announcement(1, 8);
        start.take(&record(0, b"garbage".to_vec())).unwrap();
        assert!(!start.is_known());
        start.take(&record(1, first.clone())).unwrap();
        start.take(&record(2, announcement(2, 4))).unwrap();
        let log_id = chain_hash(&genesis_hash(TOPIC, 2), b"", &first);
        let genesis = Genesis {
            log_id,
            partitions: 8,
        };
        assert_eq!(start.found(), LogStart::Found(genesis));
    }

    #[test]
    fn a_log_that_starts_in_mid_term_raises_an_alarm() {
        let mut start = PartitionStart::new(TOPIC, 2, 9);
        let commit = value(1, 1, Body::NoOp(NoOp {}));
        start.take(&record(0, commit)).unwrap_err();
    }

    #[test]
    fn reading_ends_at_the_end_of_the_log() {
        let mut start = PartitionStart::new(TOPIC, 2, 1);
        start.take(&record(0, b"garbage".to_vec())).unwrap();
        assert!(start.is_known());
        assert_eq!(start.found(), LogStart::Empty);
        assert_eq!(PartitionStart::new(TOPIC, 2, 0).found(), LogStart::Empty);
    }

    #[test]
    fn void_records_before_a_late_announcement_are_not_an_empty_log() {
        let void = i64::try_from(RECORDS_MAX).unwrap();
        let after_void = |end: i64| {
            let mut start = PartitionStart::new(TOPIC, 2, end);
            for offset in 0..void {
                start.take(&record(offset, b"garbage".to_vec())).unwrap();
            }
            start
        };
        let mut start = after_void(void + 1);
        assert!(start.is_known());
        start.take(&record(void, announcement(1, 8))).unwrap();
        let records = RECORDS_MAX;
        assert_eq!(start.found(), LogStart::NotFound { records });
        assert_eq!(after_void(void).found(), LogStart::Empty);
    }
}
