//! A log's beginning: which log it is, and for how many partitions it was made.

use crate::{
    frame::Kind,
    log::Source,
    rule::{Alarm, Hash, Rule, Verdict},
};
use kafka::{BatchConsumer, ConsumerError, Record, admin::AdminError};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::timeout;

/// So many records of a partition are looked at; the first one is the announcement, unless somebody
/// else wrote to the topic before.
const RECORDS_MAX: u64 = 1_000;
/// Longest time for all partitions of a topic.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// What the first valid record of a partition says, which is an announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Genesis {
    /// h(1), which names the log.
    pub log_id: Hash,
    /// The topic's number of partitions: a key's partition hangs on it.
    pub partitions: i32,
}

/// Why a log's beginning can't be told.
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    /// The brokers, asked for offsets.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The brokers, asked for records.
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
    /// The beginning was altered or is lost.
    #[error(transparent)]
    Alarm(#[from] Alarm),
    /// Too little came in time; another try may help.
    #[error("topic {topic}: its beginning was not read within {READ_TIMEOUT:?}")]
    Slow {
        /// The journal.
        topic: String,
    },
}

/// A partition whose beginning is being read.
struct Beginning {
    rule: Rule,
    /// Where its log ends.
    end: i64,
    taken: u64,
    genesis: Option<Genesis>,
}

/// The beginnings of a topic's partitions, as they stand in the log now. A partition without a valid
/// record among its first ones is left out.
pub async fn geneses(
    source: &Source,
    topic: &str,
    partitions: i32,
) -> Result<BTreeMap<i32, Genesis>, GenesisError> {
    let mut beginnings = BTreeMap::new();
    for partition in 0..partitions {
        let end = source.admin.watermarks(topic, partition).await?.high;
        if end > 0 {
            beginnings.insert(partition, Beginning::new(topic, partition, end));
        }
    }
    let reading = read(source, topic, &mut beginnings);
    timeout(READ_TIMEOUT, reading)
        .await
        .map_err(|_| GenesisError::Slow {
            topic: topic.to_owned(),
        })??;
    let found = beginnings.into_iter();
    Ok(found
        .filter_map(|(partition, beginning)| Some((partition, beginning.genesis?)))
        .collect())
}

async fn read(
    source: &Source,
    topic: &str,
    beginnings: &mut BTreeMap<i32, Beginning>,
) -> Result<(), GenesisError> {
    if beginnings.is_empty() {
        return Ok(());
    }
    let starts: Vec<(i32, i64)> = beginnings.keys().map(|partition| (*partition, 0)).collect();
    let mut consumer = BatchConsumer::start_sparing(&source.kafka, "genesis", topic, &starts)?;
    while !beginnings.values().all(Beginning::is_told) {
        let records = match consumer.next().await {
            Ok(records) => records,
            // The client goes on by itself; the caller's patience is bounded.
            Err(error) if error.is_transient() => continue,
            Err(error) => return Err(error.into()),
        };
        for record in &records {
            if let Some(beginning) = beginnings.get_mut(&record.partition) {
                beginning.take(record)?;
            }
        }
    }
    Ok(())
}

impl Beginning {
    fn new(topic: &str, partition: i32, end: i64) -> Self {
        Self {
            rule: Rule::new(topic, partition),
            end,
            taken: 0,
            genesis: None,
        }
    }

    fn is_told(&self) -> bool {
        let is_at_end = self.rule.next_offset() >= self.end;
        self.genesis.is_some() || is_at_end || self.taken >= RECORDS_MAX
    }

    fn take(&mut self, record: &Record) -> Result<(), Alarm> {
        if self.is_told() {
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
    use crate::rule::{RULE_VERSION, chain_hash, genesis_hash};
    use kafka::Encoder;
    use schemas::{Announcement, Body, Commit, ContextEvent, NoOp, Timestamp, catalog::Event};

    const TOPIC: &str = "journal.catalog";

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
    fn the_first_valid_announcement_tells() {
        let mut beginning = Beginning::new(TOPIC, 2, 9);
        let first = announcement(1, 8);
        beginning.take(&record(0, b"garbage".to_vec())).unwrap();
        assert!(!beginning.is_told());
        beginning.take(&record(1, first.clone())).unwrap();
        beginning.take(&record(2, announcement(2, 4))).unwrap();
        let log_id = chain_hash(&genesis_hash(TOPIC, 2), b"", &first);
        let genesis = Genesis {
            log_id,
            partitions: 8,
        };
        assert_eq!(beginning.genesis, Some(genesis));
    }

    #[test]
    fn a_log_that_begins_in_mid_term_is_an_alarm() {
        let mut beginning = Beginning::new(TOPIC, 2, 9);
        let commit = value(1, 1, Body::NoOp(NoOp {}));
        beginning.take(&record(0, commit)).unwrap_err();
    }

    #[test]
    fn reading_ends_where_the_log_does() {
        let mut beginning = Beginning::new(TOPIC, 2, 1);
        beginning.take(&record(0, b"garbage".to_vec())).unwrap();
        assert!(beginning.is_told() && beginning.genesis.is_none());
    }
}
