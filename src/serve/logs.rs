//! Compares the journals' logs with their known state: a log that was truncated, replaced, or created
//! with another number of partitions must not be written to.

use commands::WriteSide;
use futures_util::future::try_join_all;
use journal::{
    Kafka, Source,
    genesis::{Genesis, GenesisError, LogStart, log_starts},
    log::{LimitsError, Log},
    owner::Proved,
    rule::Hash,
};
use kafka::admin::AdminError;
use schemas::{
    Context,
    topics::{PartitionCounts, TOPICS, TopicPartition, TopicSpec},
};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use tokio::time::sleep;

/// Time during which a broker that just became the leader may report an earlier end than the known one,
/// because its followers must fetch from it first.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// The known state of the logs.
pub struct Logs {
    log: Kafka,
    write_side: WriteSide,
    /// The numbers of partitions, read at start.
    partitions: PartitionCounts,
    /// The ids of the logs, as the last check read them.
    seen: HashMap<TopicPartition, Hash>,
}

/// Reasons why the journals' numbers of partitions can't be confirmed.
#[derive(Debug, thiserror::Error)]
pub enum CountError {
    /// A journal has another number of partitions than it was created with.
    #[error(transparent)]
    Mismatch(AdminError),
    /// The beginning of a log can't be read; another attempt may help.
    #[error(transparent)]
    Unread(GenesisError),
}

/// Compares the journals' numbers of partitions at the brokers with those in the first announcements. A
/// command's partition depends on the number, so nothing may be written before this check. An altered
/// beginning passes here, because owners and readers of that partition halt at it.
pub async fn check_partition_counts(
    source: &Source,
    partitions: &PartitionCounts,
) -> Result<(), CountError> {
    let topics = TOPICS.iter();
    let journals = topics.filter(|topic| Context::of_topic(topic.name).is_some());
    let checks = journals.map(async |topic| {
        let count = partitions.of(topic.name);
        let starts = match log_starts(source, topic.name, count).await {
            Ok(starts) => starts,
            Err(GenesisError::Alarm(error)) => {
                tracing::error!(topic = topic.name, %error, "the beginning of a log was altered");
                return Ok(());
            }
            Err(error) => return Err(CountError::Unread(error)),
        };
        starts.into_iter().try_for_each(|(partition, start)| {
            let compared = compare_start(topic, partition, count, start, &[]);
            compared.map(drop).map_err(CountError::Mismatch)
        })
    });
    try_join_all(checks).await.map(drop)
}

impl Logs {
    /// The state before the first check. It has only the ids of the logs that owners have read. `partitions` are the
    /// numbers read at start.
    pub fn new(log: Kafka, write_side: WriteSide, partitions: PartitionCounts) -> Self {
        Self {
            log,
            write_side,
            partitions,
            seen: HashMap::new(),
        }
    }

    /// Compares the logs of a journal, and updates the maximum size of its records.
    ///
    /// # Errors
    /// [`AdminError::Mismatch`]: a log has changed. Other errors: the logs can't be compared now.
    pub async fn check(&mut self, topic: &TopicSpec) -> Result<(), AdminError> {
        let partitions = self.partitions.of(topic.name);
        match self.log.refresh_limits(topic.name).await {
            Ok(()) => {}
            Err(LimitsError::Admin(error)) => return Err(error),
            Err(LimitsError::Appender(error)) => {
                return Err(AdminError::Refused {
                    topic: topic.name.to_owned(),
                    reason: error.to_string(),
                });
            }
        }
        let log = |partition| TopicPartition {
            topic: topic.name,
            partition,
        };
        // The proved records are read before the starts and the ends of the logs, so they can't be newer than those.
        let proved: Vec<Option<Proved>> = (0..partitions)
            .map(|partition| self.write_side.proved(log(partition)))
            .collect();
        let known: Vec<_> = (0..partitions)
            .map(log)
            .zip(&proved)
            .map(|(log, proved)| [self.seen.get(&log).copied(), proved.map(|one| one.log_id)])
            .collect();
        let source = &self.log.source;
        let starts = confirmed_starts(&known, || async move {
            let starts = log_starts(source, topic.name, partitions).await;
            starts.map_err(|error| unknown_genesis(topic, error))
        });
        let starts = starts.await?;
        for ((partition, start), known) in starts.into_iter().zip(&known) {
            if let Some(log_id) = compare_start(topic, partition, partitions, start, known)? {
                self.seen.insert(log(partition), log_id);
            }
        }
        for (partition, proved) in (0..partitions).zip(proved) {
            if let Some(proved) = proved {
                self.check_end(topic, partition, proved).await?;
            }
        }
        Ok(())
    }

    async fn check_end(
        &self,
        topic: &TopicSpec,
        partition: i32,
        proved: Proved,
    ) -> Result<(), AdminError> {
        let admin = &self.log.source.admin;
        let end = confirmed_end(proved.next_offset, || async move {
            let marks = admin.watermarks(topic.name, partition).await?;
            Ok(marks.high)
        });
        compare_end(topic, partition, end.await?, proved)
    }
}

/// Measures a log's end, and measures again if it is before the known one.
async fn confirmed_end<Measured: Future<Output = Result<i64, AdminError>>>(
    known: i64,
    measure: impl Fn() -> Measured,
) -> Result<i64, AdminError> {
    let end = measure().await?;
    if end >= known {
        return Ok(end);
    }
    sleep(SETTLE_TIME).await;
    measure().await
}

/// The starts of a journal's logs, by partition.
type LogStarts = BTreeMap<i32, LogStart>;

/// Measures the starts of a journal's logs, and measures again if a log with known records seems empty. A broker that
/// just became the leader of a new partition may not know yet that the first record is replicated.
async fn confirmed_starts<Measured: Future<Output = Result<LogStarts, AdminError>>>(
    known: &[[Option<Hash>; 2]],
    measure: impl Fn() -> Measured,
) -> Result<LogStarts, AdminError> {
    let starts = measure().await?;
    let mut compared = starts.values().zip(known);
    let seems_lost = compared
        .any(|(start, known)| *start == LogStart::Empty && known.iter().any(Option::is_some));
    if !seems_lost {
        return Ok(starts);
    }
    sleep(SETTLE_TIME).await;
    measure().await
}

/// Compares a log's start with the number of partitions at the brokers, and with the known ids of the log.
/// Returns the log's id. A start that was not found is not compared.
fn compare_start(
    topic: &TopicSpec,
    partition: i32,
    partitions: i32,
    start: LogStart,
    known: &[Option<Hash>],
) -> Result<Option<Hash>, AdminError> {
    let log_id = match start {
        LogStart::Found(genesis) => {
            compare_count(topic, partition, partitions, &genesis)?;
            Some(genesis.log_id)
        }
        LogStart::Empty => None,
        LogStart::NotFound { records } => {
            tracing::warn!(
                topic = topic.name,
                partition,
                records,
                "the first records of the log are void; its id and its number of partitions are not compared"
            );
            return Ok(None);
        }
    };
    compare_id(topic, partition, log_id, known)?;
    Ok(log_id)
}

/// Compares the number of partitions at the brokers with the number for which a log was created.
fn compare_count(
    topic: &TopicSpec,
    partition: i32,
    partitions: i32,
    genesis: &Genesis,
) -> Result<(), AdminError> {
    if genesis.partitions == partitions {
        return Ok(());
    }
    let expected = format!(
        "{}, as the first announcement in partition {partition} says",
        genesis.partitions
    );
    let (property, found) = ("partitions".into(), partitions.to_string());
    Err(mismatch(topic, property, expected, found))
}

/// Compares a log's id, which is `None` before its first record, with the known ids of the log.
fn compare_id(
    topic: &TopicSpec,
    partition: i32,
    log_id: Option<Hash>,
    known: &[Option<Hash>],
) -> Result<(), AdminError> {
    match known.iter().flatten().find(|known| Some(**known) != log_id) {
        None => Ok(()),
        Some(known) => {
            let property = format!("log id of partition {partition}");
            let found = log_id.map_or_else(|| "none".to_owned(), hex::encode);
            let known = hex::encode(known);
            Err(mismatch(topic, property, known, found))
        }
    }
}

/// Compares a log's end with the records that its owner has proved.
fn compare_end(
    topic: &TopicSpec,
    partition: i32,
    end: i64,
    proved: Proved,
) -> Result<(), AdminError> {
    if end >= proved.next_offset {
        return Ok(());
    }
    let property = format!("end of partition {partition}");
    let expected = format!(
        "{} or more, because everything before it is proved",
        proved.next_offset
    );
    Err(mismatch(topic, property, expected, end.to_string()))
}

fn mismatch(topic: &TopicSpec, property: String, expected: String, found: String) -> AdminError {
    AdminError::Mismatch {
        topic: topic.name.to_owned(),
        property,
        expected,
        found,
    }
}

/// The error of a topic with a log whose beginning can't be read.
fn unknown_genesis(topic: &TopicSpec, error: GenesisError) -> AdminError {
    match error {
        GenesisError::Admin(error) => error,
        GenesisError::Alarm(alarm) => mismatch(
            topic,
            "beginning".into(),
            "as it was written".into(),
            format!("altered ({alarm})"),
        ),
        error @ (GenesisError::Read(_) | GenesisError::Slow { .. }) => AdminError::Refused {
            topic: topic.name.to_owned(),
            reason: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn is_mismatch(compared: Result<(), AdminError>, message: &str) {
        let error = compared.unwrap_err();
        assert!(
            matches!(error, AdminError::Mismatch { .. }),
            "{error:?} instead of AdminError::Mismatch"
        );
        assert!(
            error.to_string().contains(message),
            "no {message:?} in: {error}"
        );
    }

    #[test]
    fn a_replaced_or_lost_log_is_a_mismatch() {
        let compared = |log_id, known: &[Option<Hash>]| compare_id(&TOPICS[0], 2, log_id, known);
        compared(Some([1; 32]), &[Some([1; 32]), None]).unwrap();
        // A new log has no first record yet; a known log must still have its first record.
        compared(None, &[None, None]).unwrap();
        is_mismatch(
            compared(None, &[Some([1; 32]), None]),
            "log id of partition 2 = none",
        );
        is_mismatch(
            compared(Some([1; 32]), &[Some([1; 32]), Some([2; 32])]),
            "log id of partition 2 = 0101",
        );
    }

    /// Measures a log of one partition whose first measurement returns `first`, and whose second one returns `then`.
    /// Returns the result and the number of measurements.
    async fn measured(known: Option<Hash>, first: LogStart, then: LogStart) -> (LogStart, u32) {
        let measurements = Cell::new(0);
        let known = [[None, known]];
        let starts = confirmed_starts(&known, || {
            measurements.set(measurements.get() + 1);
            let start = if measurements.get() == 1 { first } else { then };
            std::future::ready(Ok(LogStarts::from([(0, start)])))
        });
        (starts.await.unwrap()[&0], measurements.get())
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_with_known_records_that_seems_empty_is_measured_again() {
        let begun = LogStart::Found(Genesis {
            log_id: [1; 32],
            partitions: 1,
        });
        let empty = LogStart::Empty;
        let known = Some([1; 32]);
        assert_eq!(measured(known, empty, begun).await, (begun, 2));
        assert_eq!(measured(known, empty, empty).await, (empty, 2));
        assert_eq!(measured(known, begun, empty).await, (begun, 1));
        assert_eq!(measured(None, empty, begun).await, (empty, 1));
    }

    /// Measures the end of a log with 7 records. The first measurement returns `first`, and the second one `then`.
    /// Returns the result and the number of measurements.
    async fn measured_end(first: i64, then: i64) -> (i64, u32) {
        let measurements = Cell::new(0);
        let end = confirmed_end(7, || {
            measurements.set(measurements.get() + 1);
            std::future::ready(Ok(if measurements.get() == 1 { first } else { then }))
        });
        (end.await.unwrap(), measurements.get())
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_before_proved_records_is_measured_again() {
        assert_eq!(measured_end(6, 7).await, (7, 2));
        assert_eq!(measured_end(6, 6).await, (6, 2));
        assert_eq!(measured_end(7, 6).await, (7, 1));
    }

    #[test]
    fn a_start_that_was_not_found_is_not_compared() {
        let compared = |start| compare_start(&TOPICS[0], 2, 8, start, &[Some([1; 32])]);
        assert_eq!(
            compared(LogStart::NotFound { records: 1_000 }).unwrap(),
            None
        );
        is_mismatch(
            compared(LogStart::Empty).map(drop),
            "log id of partition 2 = none",
        );
        let genesis = Genesis {
            log_id: [1; 32],
            partitions: 8,
        };
        assert_eq!(compared(LogStart::Found(genesis)).unwrap(), Some([1; 32]));
    }

    #[test]
    fn a_log_for_another_number_of_partitions_is_a_mismatch() {
        let genesis = Genesis {
            log_id: [1; 32],
            partitions: 8,
        };
        compare_count(&TOPICS[0], 2, 8, &genesis).unwrap();
        is_mismatch(
            compare_count(&TOPICS[0], 2, 4, &genesis),
            "partitions = 4, it must be 8, as the first announcement in partition 2",
        );
    }

    #[test]
    fn a_truncated_log_is_a_mismatch() {
        let proved = Proved {
            log_id: [1; 32],
            next_offset: 7,
        };
        compare_end(&TOPICS[0], 1, 7, proved).unwrap();
        is_mismatch(
            compare_end(&TOPICS[0], 1, 6, proved),
            "end of partition 1 = 6, it must be 7 or more",
        );
    }
}
