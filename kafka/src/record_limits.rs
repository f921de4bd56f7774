//! The largest records that topics accept, from each topic's `max.message.bytes` at the brokers.
//!
//! A broker applies the limit to a producer's batch, so no batch of a producer may be larger than the smallest
//! limit of its topics.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Maximum size of a record's key and value together, in bytes; it fits the broker's default limit. A topic with a
/// smaller `max.message.bytes` accepts less.
pub const RECORD_BYTES_MAX: usize = 1_000_000;
/// Maximum number of bytes that a batch's header, a record's headers and their framing add to a record. (Headers take
/// about 250 bytes, the two framings less than 100.)
pub(crate) const RECORD_OVERHEAD_BYTES: usize = 1_024;
/// The smallest limit that is applied, in bytes. With a smaller limit, not even an announcement would fit.
const MESSAGE_BYTES_MIN: usize = 2 * RECORD_OVERHEAD_BYTES;

/// The limits, by topic.
#[derive(Default)]
pub(crate) struct RecordLimits {
    topics: Mutex<BTreeMap<String, TopicLimit>>,
}

struct TopicLimit {
    /// The topic's `max.message.bytes`; `None` until it is known.
    message_bytes_max: Option<usize>,
    record_bytes_max: Arc<AtomicUsize>,
}

impl Default for TopicLimit {
    fn default() -> Self {
        Self {
            message_bytes_max: None,
            record_bytes_max: Arc::new(AtomicUsize::new(RECORD_BYTES_MAX)),
        }
    }
}

impl RecordLimits {
    /// The maximum size of a topic's record, key and value together, in bytes. The value is kept up to date.
    pub fn record_bytes_max(&self, topic: &str) -> Arc<AtomicUsize> {
        let mut topics = self.topics.lock().expect("no holder of this lock panics");
        let limit = topics.entry(topic.to_owned()).or_default();
        limit.record_bytes_max.clone()
    }

    /// Sets a topic's `max.message.bytes`.
    pub fn set(&self, topic: &str, message_bytes_max: usize) {
        let bytes = message_bytes_max.max(MESSAGE_BYTES_MIN);
        let mut topics = self.topics.lock().expect("no holder of this lock panics");
        let limit = topics.entry(topic.to_owned()).or_default();
        limit.message_bytes_max = Some(bytes);
        let record_bytes = (bytes - RECORD_OVERHEAD_BYTES).min(RECORD_BYTES_MAX);
        limit
            .record_bytes_max
            .store(record_bytes, Ordering::Relaxed);
    }

    /// The maximum size of a batch that every topic accepts, in bytes.
    pub fn batch_bytes_max(&self) -> usize {
        let topics = self.topics.lock().expect("no holder of this lock panics");
        let known = topics.values().filter_map(|limit| limit.message_bytes_max);
        known.fold(RECORD_BYTES_MAX, usize::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_fit_their_topic_and_batches_fit_every_topic() {
        let limits = RecordLimits::default();
        let of_orders = limits.record_bytes_max("journal.orders");
        let record_bytes_max = || of_orders.load(Ordering::Relaxed);
        assert_eq!(record_bytes_max(), RECORD_BYTES_MAX);
        // Kafka's default limit is above ours.
        limits.set("journal.orders", 1_048_588);
        assert_eq!(record_bytes_max(), RECORD_BYTES_MAX);
        assert_eq!(limits.batch_bytes_max(), RECORD_BYTES_MAX);
        limits.set("journal.catalog", 10_000);
        assert_eq!(record_bytes_max(), RECORD_BYTES_MAX);
        assert_eq!(limits.batch_bytes_max(), 10_000);
        limits.set("journal.orders", 5_000);
        assert_eq!(record_bytes_max(), 5_000 - RECORD_OVERHEAD_BYTES);
        assert_eq!(limits.batch_bytes_max(), 5_000);
        limits.set("journal.orders", 1_048_588);
        assert_eq!(record_bytes_max(), RECORD_BYTES_MAX);
        limits.set("journal.orders", 1);
        assert_eq!(record_bytes_max(), RECORD_OVERHEAD_BYTES);
    }
}
