//! The start of a log: which log it is, and for how many partitions it was created.

use crate::{
    frame::Kind,
    log::Source,
    rule::{Alarm, Hash, Rule, Verdict},
};
use kafka::{BoundedReadError, BoundedReader, Fetch, Record, Span, admin::AdminError};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::timeout;

/// Most records of a partition that are read; the first one is the announcement, unless another program
/// wrote to the topic before.
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

/// Why the start of a log is unknown.
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    /// The brokers did not give an offset.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The brokers did not give records.
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
    genesis: Option<Genesis>,
}

/// The first announcement of each of a topic's partitions. A partition without a valid record among the
/// first `RECORDS_MAX` ones is left out.
pub async fn geneses(
    source: &Source,
    topic: &str,
    partitions: i32,
) -> Result<BTreeMap<i32, Genesis>, GenesisError> {
    let mut starts = BTreeMap::new();
    for partition in 0..partitions {
        let end = source.admin.watermarks(topic, partition).await?.high;
        if end > 0 {
            starts.insert(partition, PartitionStart::new(topic, partition, end));
        }
    }
    let reading = read(source, topic, &mut starts);
    timeout(READ_TIMEOUT, reading)
        .await
        .map_err(|_| GenesisError::Slow {
            topic: topic.to_owned(),
        })??;
    let found = starts.into_iter();
    Ok(found
        .filter_map(|(partition, start)| Some((partition, start.genesis?)))
        .collect())
}

async fn read(
    source: &Source,
    topic: &str,
    starts: &mut BTreeMap<i32, PartitionStart>,
) -> Result<(), GenesisError> {
    if starts.is_empty() {
        return Ok(());
    }
    let span = |(partition, start): (&i32, &PartitionStart)| Span {
        partition: *partition,
        low: 0,
        end: start.end,
    };
    let spans: Vec<Span> = starts.iter().map(span).collect();
    let mut reader = BoundedReader::start(&source.kafka, "genesis", topic, &spans, Fetch::Sparing)?;
    let is_known = |reader: &BoundedReader, partition: i32, start: &PartitionStart| {
        // Control records may end a partition behind its last record.
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
    Ok(())
}

impl PartitionStart {
    fn new(topic: &str, partition: i32, end: i64) -> Self {
        Self {
            rule: Rule::new(topic, partition),
            end,
            taken: 0,
            genesis: None,
        }
    }

    fn is_known(&self) -> bool {
        let is_at_end = self.rule.next_offset() >= self.end;
        self.genesis.is_some() || is_at_end || self.taken >= RECORDS_MAX
    }

    fn take(&mut self, record: &Record) -> Result<(), Alarm> {
        if self.is_known() {
            return Ok(());
        }
        self.taken += 1;
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let verdict = self.rule.judge(record.offset, key, value)?;
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
        rule::{RULE_VERSION, chain_hash, genesis_hash},
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
            rule_version: RULE_VERSION,
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
        assert_eq!(start.genesis, Some(genesis));
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
        assert!(start.is_known() && start.genesis.is_none());
    }
}
