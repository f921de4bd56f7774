//! The consumer's thread: collects the client's messages into batches.

use super::batch::{ConsumerError, EndReached, Ends, Fetched, Record};
use bytes::Bytes;
use rdkafka::{Message, error::KafkaError, message::BorrowedMessage, types::RDKafkaErrorCode};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::sync::mpsc;

/// Maximum number of records in one batch.
pub const BATCH_RECORDS_MAX: usize = 2_000;
/// A batch ends once its values have this many bytes.
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// Longest time until a thread notices that its consumer was stopped.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// Chooses the ends that are reported to the reader.
pub(super) struct EndFilter {
    ends: Ends,
    /// By partition: the next offset after the last record or end that was passed to the reader.
    reported: BTreeMap<i32, i64>,
}

impl EndFilter {
    pub fn new(ends: Ends, starts: &[(i32, i64)]) -> Self {
        Self {
            ends,
            reported: starts.iter().copied().collect(),
        }
    }

    /// The ends to report after `records`.
    fn choose(&mut self, records: &[Record], mut ends: Vec<EndReached>) -> Vec<EndReached> {
        if self.ends == Ends::All {
            return ends;
        }
        // Records of one partition come in runs, so one look-up per run is enough.
        for run in records.chunk_by(|one, next| one.partition == next.partition) {
            if let Some(last) = run.last() {
                self.reported.insert(last.partition, last.offset + 1);
            }
        }
        ends.retain(|end| {
            let reported = self.reported.entry(end.partition).or_insert(0);
            let is_new = end.position.is_some_and(|position| position > *reported);
            if let (true, Some(position)) = (is_new, end.position) {
                *reported = position;
            }
            is_new
        });
        ends
    }
}

/// Polls until the consumer is stopped, its reader is gone, or an error is permanent.
pub(super) fn run(
    mut poll: impl FnMut(Duration) -> Option<Result<Record, KafkaError>>,
    position: impl Fn(i32) -> Option<i64>,
    topic: &str,
    mut filter: EndFilter,
    sender: &mpsc::Sender<Result<Fetched, ConsumerError>>,
    stop: &AtomicBool,
) {
    while !stop.load(Ordering::Relaxed) && !sender.is_closed() {
        let Polled {
            records,
            ends,
            error,
        } = poll_batch(&mut poll, topic);
        let is_last = error.as_ref().is_some_and(|error| !error.is_transient());
        let ends = ends.into_iter().map(|partition| EndReached {
            partition,
            position: position(partition),
        });
        let ends = filter.choose(&records, ends.collect());
        let is_empty = records.is_empty() && ends.is_empty();
        let fetched = (!is_empty).then_some(Ok(Fetched { records, ends }));
        for sent in fetched.into_iter().chain(error.map(Err)) {
            if sender.blocking_send(sent).is_err() {
                return;
            }
        }
        if is_last {
            return;
        }
    }
}

/// The result of one round of polling: records and ends, and the error that came after them.
#[derive(Default)]
struct Polled {
    records: Vec<Record>,
    /// Partitions.
    ends: Vec<i32>,
    error: Option<ConsumerError>,
}

/// Polls everything that is available, up to a batch's limits. The result is empty if nothing came within the
/// timeout.
///
/// During an outage of the brokers the client queues an error for each of its attempts. A reader should learn
/// of the outage once, and of no queued error after it has ended. So a transient error is reported only if no
/// record came. A permanent error comes only once, so it is reported even after records.
fn poll_batch(
    mut poll: impl FnMut(Duration) -> Option<Result<Record, KafkaError>>,
    topic: &str,
) -> Polled {
    let (mut polled, mut bytes) = (Polled::default(), 0);
    let (mut transient, mut timeout) = (None, POLL_TIMEOUT);
    while polled.records.len() < BATCH_RECORDS_MAX && bytes < BATCH_BYTES_MAX {
        match poll(timeout) {
            Some(Ok(record)) => {
                bytes += record.value.as_ref().map_or(0, Bytes::len);
                polled.records.push(record);
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => polled.ends.push(partition),
            Some(Err(error)) => match classify(topic, &error) {
                Some(error) if error.is_transient() => transient = Some(error),
                Some(error) => {
                    polled.error = Some(error);
                    return polled;
                }
                None => {}
            },
            None => break,
        }
        timeout = Duration::ZERO;
    }
    polled.error = transient.filter(|_| polled.records.is_empty());
    polled
}

pub(super) fn record(message: &BorrowedMessage<'_>) -> Record {
    Record {
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
    }
}

/// `None` for errors that a reader can ignore. The client retries after any error except those named here, so
/// an unknown error is transient.
fn classify(topic: &str, error: &KafkaError) -> Option<ConsumerError> {
    use RDKafkaErrorCode as Code;
    let topic = topic.to_owned();
    let reason = error.to_string();
    if let KafkaError::MessageConsumptionFatal(_) = error {
        return Some(ConsumerError::Fatal { topic, reason });
    }
    match error.rdkafka_error_code() {
        Some(Code::OffsetOutOfRange | Code::AutoOffsetReset | Code::LogTruncation) => {
            Some(ConsumerError::OffsetOutOfRange { topic, reason })
        }
        // The client skips records that it can't read, with these codes.
        Some(Code::BadMessage | Code::BadCompression | Code::NotImplemented) => {
            Some(ConsumerError::Fatal { topic, reason })
        }
        Some(
            Code::Fatal
            | Code::InvalidTopic
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed,
        ) => Some(ConsumerError::Fatal { topic, reason }),
        Some(Code::PartitionEOF | Code::NoError) => None,
        // A topic may be unknown while it is created or deleted or while its broker restarts, and forbidden
        // while its access rules are changed. Such a state ends by itself, or an operator ends it.
        Some(_) | None => Some(ConsumerError::Unreachable { topic, reason }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const TOPIC: &str = "journal.orders";
    /// The client's position in partition 0.
    const POSITION: i64 = 70;

    type Polls = VecDeque<Option<Result<Record, KafkaError>>>;

    fn at(offset: i64) -> Record {
        Record {
            partition: 0,
            offset,
            timestamp_ms: 0,
            key: None,
            value: None,
        }
    }

    fn error(code: RDKafkaErrorCode) -> Option<Result<Record, KafkaError>> {
        Some(Err(KafkaError::MessageConsumption(code)))
    }

    /// The offsets and errors that a reader receives, batch by batch. The thread is stopped once the client
    /// has nothing more.
    fn received(polls: Polls) -> Vec<Result<Vec<i64>, ConsumerError>> {
        let offsets = |records: Vec<Record>| records.iter().map(|record| record.offset).collect();
        batches(polls)
            .into_iter()
            .map(|batch| batch.map(|batch| offsets(batch.records)))
            .collect()
    }

    fn batches(polls: Polls) -> Vec<Result<Fetched, ConsumerError>> {
        batches_with(polls, EndFilter::new(Ends::All, &[]))
    }

    fn batches_with(mut polls: Polls, filter: EndFilter) -> Vec<Result<Fetched, ConsumerError>> {
        let stop = AtomicBool::new(false);
        let (sender, mut batches) = mpsc::channel(8);
        let poll = |_| {
            stop.store(polls.len() <= 1, Ordering::Relaxed);
            polls.pop_front().flatten()
        };
        run(
            poll,
            |partition| Some(POSITION + i64::from(partition)),
            TOPIC,
            filter,
            &sender,
            &stop,
        );
        drop(sender);
        std::iter::from_fn(|| batches.blocking_recv()).collect()
    }

    #[test]
    fn a_permanent_error_comes_behind_the_records_before_it_and_ends_the_stream() {
        for code in [
            RDKafkaErrorCode::AutoOffsetReset,
            RDKafkaErrorCode::OffsetOutOfRange,
            RDKafkaErrorCode::LogTruncation,
            RDKafkaErrorCode::GroupAuthorizationFailed,
            RDKafkaErrorCode::Fatal,
            RDKafkaErrorCode::BadMessage,
        ] {
            let received = received(Polls::from([
                Some(Ok(at(4))),
                Some(Ok(at(5))),
                error(code),
                Some(Ok(at(6))),
            ]));
            let [Ok(offsets), Err(error)] = &received[..] else {
                panic!("{code:?}: {received:?} instead of offsets and an error");
            };
            assert_eq!(offsets, &[4, 5], "{code:?}");
            assert!(!error.is_transient(), "transient: {error}");
        }
    }

    #[test]
    fn a_transient_error_is_reported_only_if_no_record_came() {
        let down = || error(RDKafkaErrorCode::AllBrokersDown);
        let received = received(Polls::from([
            down(),
            down(),
            None,
            down(),
            Some(Ok(at(4))),
            None,
            Some(Ok(at(5))),
            None,
        ]));
        let [Err(error), Ok(first), Ok(second)] = &received[..] else {
            panic!("{received:?} instead of an error and two batches");
        };
        assert!(error.is_transient(), "not transient: {error}");
        assert_eq!((&first[..], &second[..]), (&[4][..], &[5][..]));
    }

    #[test]
    fn an_error_after_which_the_client_retries_is_transient() {
        for code in [
            RDKafkaErrorCode::Fail,
            RDKafkaErrorCode::InvalidMessage,
            RDKafkaErrorCode::UnknownTopicOrPartition,
            RDKafkaErrorCode::UnknownTopicId,
            RDKafkaErrorCode::TopicAuthorizationFailed,
            RDKafkaErrorCode::Unknown,
        ] {
            let received = received(Polls::from([error(code), None, Some(Ok(at(4))), None]));
            let [Err(error), Ok(offsets)] = &received[..] else {
                panic!("{code:?}: {received:?} instead of an error and offsets");
            };
            assert!(error.is_transient(), "not transient: {error}");
            assert_eq!(offsets, &[4], "{code:?}");
        }
    }

    #[test]
    fn an_end_is_reported_with_the_position_even_without_a_record() {
        let end = |partition| Some(Err(KafkaError::PartitionEOF(partition)));
        let polls = Polls::from([Some(Ok(at(4))), end(0), None, end(2), None]);
        let found: Vec<_> = batches(polls).into_iter().map(Result::unwrap).collect();
        let reached = |partition: i32| EndReached {
            partition,
            position: Some(POSITION + i64::from(partition)),
        };
        let [first, second] = &found[..] else {
            panic!("{found:?} instead of two batches");
        };
        assert_eq!(
            (first.records.len(), &first.ends[..]),
            (1, &[reached(0)][..])
        );
        assert_eq!(
            (second.records.len(), &second.ends[..]),
            (0, &[reached(2)][..])
        );
    }

    #[test]
    fn an_end_behind_offsets_without_a_record_is_reported_to_a_follower_once() {
        let end = |partition| Some(Err(KafkaError::PartitionEOF(partition)));
        let record = |partition, offset| {
            let at = at(offset);
            Some(Ok(Record { partition, ..at }))
        };
        // Partition 1 ends directly after its last record. Partitions 0 and 2 end with offsets without a
        // record.
        let polls = Polls::from([
            record(0, POSITION - 2),
            record(1, POSITION),
            end(0),
            end(1),
            None,
            end(0),
            end(2),
            None,
        ]);
        let filter = EndFilter::new(Ends::BehindRecords, &[(0, 0), (1, 0), (2, 9)]);
        let found = batches_with(polls, filter);
        let ends: Vec<Vec<EndReached>> = found.into_iter().map(|one| one.unwrap().ends).collect();
        let reached = |partition: i32| EndReached {
            partition,
            position: Some(POSITION + i64::from(partition)),
        };
        assert_eq!(ends, [vec![reached(0)], vec![reached(2)]]);
    }

    #[test]
    fn a_batch_ends_at_its_limits() {
        let full = (0..3).map(|_| at(0)).collect::<Vec<_>>();
        let value = Some(Bytes::from(vec![0; BATCH_BYTES_MAX / 2]));
        let mut large = full.into_iter().map(|record| {
            Some(Ok(Record {
                value: value.clone(),
                ..record
            }))
        });
        let batch = poll_batch(|_| large.next().flatten(), TOPIC);
        assert_eq!((batch.records.len(), batch.error), (2, None));
        let batch = poll_batch(|_| Some(Ok(at(0))), TOPIC);
        assert_eq!(
            (batch.records.len(), batch.error),
            (BATCH_RECORDS_MAX, None)
        );
    }
}
