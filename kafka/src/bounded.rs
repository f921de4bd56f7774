//! Reads partitions of a topic from their first offsets to the ends that they had at the start.
//!
//! An end is a position, not a record: the last offsets may belong to control records of transactions or to
//! records that compaction removed, and a reader gets neither. The client reports its position at a partition's
//! current end.

use crate::{
    admin::{Admin, AdminError},
    consumer::{BatchConsumer, ConsumerError, EndReached, Ends, Fetch, Fetched, Record},
    settings::KafkaSettings,
};
use schemas::topics::{Retention, TOPICS};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{Instant, timeout_at};

/// A read fails after this time without progress.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// If the client reports an end before the measured one, a partition of a compacted topic counts as read after
/// this time without a record: compaction may have removed the last records. A broker that just became the
/// leader reports an early end too, but catches up sooner. In other topics an early end means lost records, and
/// the read fails.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// A partition's offsets to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The partition.
    pub partition: i32,
    /// The first offset.
    pub low: i64,
    /// The offset after the last one.
    pub end: i64,
}

/// Why a bounded read does not reach its end.
#[derive(Debug, thiserror::Error)]
pub enum BoundedReadError {
    /// The partitions can't be measured.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The partitions can't be read.
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
    /// No record came in time, although the log has more.
    #[error(
        "topic {topic} partition {partition}: no record at or after offset {next} came within {} s, but the log ends at {end}{}",
        STALL_TIMEOUT.as_secs(),
        last_error.as_ref().map_or_else(String::new, |error| format!("; last error: {error}"))
    )]
    Stalled {
        /// The topic.
        topic: String,
        /// The first partition that is not read to its end.
        partition: i32,
        /// The next offset to read.
        next: i64,
        /// The end to read to.
        end: i64,
        /// The last transient error.
        last_error: Option<ConsumerError>,
    },
}

/// Reads some partitions of a topic to given ends.
pub struct BoundedReader {
    topic: String,
    /// The progress in each partition.
    progress: BTreeMap<i32, Progress>,
    /// `None` if no partition has an offset to read.
    consumer: Option<BatchConsumer>,
}

/// The progress in a partition.
#[derive(Debug, Clone, Copy)]
struct Progress {
    next: i64,
    end: i64,
    /// Whether compaction may have removed the last records before `end`.
    is_compacted: bool,
    /// When the client reported the partition's end while `next` was before `end`. Only set in compacted
    /// topics.
    quiet_since: Option<Instant>,
}

impl BoundedReader {
    /// Measures all partitions of a topic, and begins to read them at their first offsets. `role` names the
    /// thread and the client.
    ///
    /// # Errors
    /// The partitions can't be measured, or the consumer can't be started.
    pub async fn open(
        settings: &KafkaSettings,
        admin: &Admin,
        role: &str,
        topic: &str,
    ) -> Result<Self, BoundedReadError> {
        let mut spans = Vec::new();
        for partition in 0..admin.partitions(topic).await? {
            spans.push(Span::measure(admin, topic, partition).await?);
        }
        Self::start(settings, role, topic, &spans, Fetch::Ahead)
    }

    /// Begins to read these spans. `role` names the thread and the client.
    ///
    /// # Errors
    /// The consumer can't be started.
    pub fn start(
        settings: &KafkaSettings,
        role: &str,
        topic: &str,
        spans: &[Span],
        fetch: Fetch,
    ) -> Result<Self, BoundedReadError> {
        let unread = spans.iter().filter(|span| span.low < span.end);
        let starts: Vec<(i32, i64)> = unread.map(|span| (span.partition, span.low)).collect();
        let options = (fetch, Ends::All);
        let consumer = match starts.is_empty() {
            true => None,
            false => Some(BatchConsumer::start_with(
                settings, role, topic, &starts, options,
            )?),
        };
        let is_compacted = is_compacted(topic);
        Ok(Self {
            topic: topic.to_owned(),
            progress: spans
                .iter()
                .map(|span| (span.partition, Progress::new(*span, is_compacted)))
                .collect(),
            consumer,
        })
    }

    /// The offset before which everything in a partition was read; `None` if the partition is not read.
    pub fn position(&self, partition: i32) -> Option<i64> {
        self.progress
            .get(&partition)
            .map(|progress| progress.next.min(progress.end))
    }

    /// Waits for at least one record; `None` once every partition is read to its end. Retries after transient
    /// errors. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Vec<Record>>, BoundedReadError> {
        let (mut progressed, mut last_error) = (Instant::now(), None);
        loop {
            let now = Instant::now();
            finish_empty(&mut self.progress, now);
            let Some(consumer) = self.consumer.as_mut() else {
                return Ok(None);
            };
            let mut unread = self.progress.iter().filter(|(_, one)| !one.is_at_end());
            let Some((partition, first)) = unread.next() else {
                return Ok(None);
            };
            let stalls_at = progressed + STALL_TIMEOUT;
            if now >= stalls_at {
                return Err(BoundedReadError::Stalled {
                    topic: self.topic.clone(),
                    partition: *partition,
                    next: first.next,
                    end: first.end,
                    last_error,
                });
            }
            let settles_at = self.progress.values().filter_map(Progress::settles_at);
            let wakes_at = settles_at.min().map_or(stalls_at, |at| at.min(stalls_at));
            match timeout_at(wakes_at, consumer.next_fetched()).await {
                // Now a partition counts as read, or the read has stalled.
                Err(_) => {}
                Ok(Ok(batch)) => {
                    let before = unread_offsets(&self.progress);
                    let records = take(&mut self.progress, batch, Instant::now());
                    if !records.is_empty() {
                        return Ok(Some(records));
                    }
                    // Records after the ends don't count as progress.
                    if unread_offsets(&self.progress) < before {
                        progressed = Instant::now();
                    }
                }
                Ok(Err(error)) if error.is_transient() => {
                    tracing::warn!(topic = self.topic, %error, "failed to read the topic, retrying");
                    restart_settling(&mut self.progress, Instant::now());
                    last_error = Some(error);
                }
                Ok(Err(error)) => return Err(error.into()),
            }
        }
    }
}

impl Span {
    /// The span of all offsets that a partition has now.
    pub async fn measure(admin: &Admin, topic: &str, partition: i32) -> Result<Self, AdminError> {
        let watermarks = admin.watermarks(topic, partition).await?;
        Ok(Self {
            partition,
            low: watermarks.low,
            end: watermarks.high,
        })
    }
}

impl Progress {
    fn new(span: Span, is_compacted: bool) -> Self {
        Self {
            next: span.low,
            end: span.end,
            is_compacted,
            quiet_since: None,
        }
    }

    fn is_at_end(&self) -> bool {
        self.next >= self.end
    }

    fn advance(&mut self, next: i64) {
        self.next = self.next.max(next);
        self.quiet_since = None;
    }

    fn settles_at(&self) -> Option<Instant> {
        self.quiet_since.map(|since| since + SETTLE_TIME)
    }
}

/// Updates the progress from a batch. Returns the records of the batch that are before the ends.
fn take(progress: &mut BTreeMap<i32, Progress>, batch: Fetched, now: Instant) -> Vec<Record> {
    let Fetched { mut records, ends } = batch;
    records.retain(|record| {
        let Some(progress) = progress.get_mut(&record.partition) else {
            return false;
        };
        progress.advance(record.offset + 1);
        record.offset < progress.end
    });
    for EndReached {
        partition,
        position,
    } in ends
    {
        if let Some(progress) = progress.get_mut(&partition) {
            progress.advance(position.unwrap_or(progress.next));
            if !progress.is_at_end() && progress.is_compacted {
                progress.quiet_since = Some(now);
            }
        }
    }
    records
}

/// Whether a topic keeps only the last record of each key.
fn is_compacted(topic: &str) -> bool {
    TOPICS
        .iter()
        .any(|spec| spec.name == topic && spec.retention == Retention::LastOfKey)
}

/// The number of unread offsets before the ends.
fn unread_offsets(progress: &BTreeMap<i32, Progress>) -> i64 {
    let progress = progress.values();
    progress
        .map(|progress| (progress.end - progress.next).max(0))
        .sum()
}

/// Marks the partitions that were quiet for long enough as read to their ends.
fn finish_empty(progress: &mut BTreeMap<i32, Progress>, now: Instant) {
    for progress in progress.values_mut() {
        if progress.settles_at().is_some_and(|at| at <= now) {
            progress.advance(progress.end);
        }
    }
}

/// Restarts the quiet time after an error, because records may have arrived meanwhile.
fn restart_settling(progress: &mut BTreeMap<i32, Progress>, now: Instant) {
    for progress in progress.values_mut() {
        progress.quiet_since = progress.quiet_since.map(|_| now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Span = Span {
        partition: 1,
        low: 3,
        end: 6,
    };

    fn progress() -> BTreeMap<i32, Progress> {
        BTreeMap::from([(SPAN.partition, Progress::new(SPAN, true))])
    }

    fn records(offsets: &[i64]) -> Fetched {
        let record = |offset: &i64| Record {
            partition: SPAN.partition,
            offset: *offset,
            timestamp_ms: 0,
            key: None,
            value: None,
        };
        Fetched {
            records: offsets.iter().map(record).collect(),
            ends: Vec::new(),
        }
    }

    fn end(position: Option<i64>) -> Fetched {
        Fetched {
            records: Vec::new(),
            ends: vec![EndReached {
                partition: SPAN.partition,
                position,
            }],
        }
    }

    fn offsets(records: &[Record]) -> Vec<i64> {
        records.iter().map(|record| record.offset).collect()
    }

    #[test]
    fn records_behind_the_end_are_left_out_and_show_that_it_is_reached() {
        let (mut progress, now) = (progress(), Instant::now());
        let taken = take(&mut progress, records(&[3, 4]), now);
        assert_eq!(offsets(&taken), [3, 4]);
        assert!(!progress[&1].is_at_end());
        // Offset 5 has no record.
        let taken = take(&mut progress, records(&[7, 8]), now);
        assert_eq!(offsets(&taken), [] as [i64; 0]);
        assert!(progress[&1].is_at_end());
        assert_eq!(unread_offsets(&progress), 0);
        take(&mut progress, records(&[9]), now);
        assert_eq!(unread_offsets(&progress), 0);
    }

    #[test]
    fn the_clients_position_reaches_an_end_behind_control_records() {
        let (mut progress, now) = (progress(), Instant::now());
        take(&mut progress, records(&[3, 4]), now);
        take(&mut progress, end(Some(6)), now);
        assert!(progress[&1].is_at_end());
    }

    #[test]
    fn a_tail_without_records_counts_as_read_after_a_quiet_time() {
        for position in [None, Some(5)] {
            let (mut progress, now) = (progress(), Instant::now());
            take(&mut progress, records(&[3, 4]), now);
            take(&mut progress, end(position), now);
            finish_empty(&mut progress, now + SETTLE_TIME / 2);
            assert!(!progress[&1].is_at_end());
            finish_empty(&mut progress, now + SETTLE_TIME);
            assert!(progress[&1].is_at_end());
        }
    }

    #[test]
    fn a_journal_that_ends_before_the_measured_end_is_never_read_to_it() {
        assert!(is_compacted("journal.owners"));
        for context in schemas::CONTEXTS {
            assert!(
                !is_compacted(context.topic),
                "{} is compacted",
                context.topic
            );
        }
        let mut progress = BTreeMap::from([(SPAN.partition, Progress::new(SPAN, false))]);
        let now = Instant::now();
        take(&mut progress, records(&[3, 4]), now);
        take(&mut progress, end(Some(5)), now);
        finish_empty(&mut progress, now + SETTLE_TIME * 100);
        assert!(!progress[&1].is_at_end());
    }

    #[test]
    fn a_record_or_an_error_after_an_early_end_restarts_the_quiet_time() {
        let (mut progress, now) = (progress(), Instant::now());
        take(&mut progress, end(None), now);
        restart_settling(&mut progress, now + SETTLE_TIME / 2);
        finish_empty(&mut progress, now + SETTLE_TIME);
        assert!(!progress[&1].is_at_end());
        // The leader has caught up.
        take(&mut progress, records(&[3]), now + SETTLE_TIME);
        finish_empty(&mut progress, now + SETTLE_TIME * 4);
        assert!(!progress[&1].is_at_end());
        assert_eq!(progress[&1].next, 4);
    }
}
