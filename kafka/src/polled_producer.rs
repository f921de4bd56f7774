//! A producer with a thread that takes its delivery reports.
//!
//! The client library's own `ThreadedProducer` takes reports for 100 ms at a time, and spends the last millisecond of
//! each period in a busy loop, because it rounds the remaining time down. With three producers, this was more than half
//! of the processor time of an idle process. The thread here takes reports for a second at a time.

use rdkafka::{
    ClientConfig,
    client::Client,
    error::KafkaError,
    message::ToBytes,
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// The time for which the thread takes reports before it checks whether the producer was dropped. A report that arrives
/// meanwhile is passed on at once.
const POLL_TIME: Duration = Duration::from_secs(1);

/// A producer that passes reports to its context. Dropping it does not block: within [`POLL_TIME`], its thread reports
/// the records without an outcome as purged, and ends.
pub(crate) struct PolledProducer<C: ProducerContext + 'static> {
    producer: Arc<BaseProducer<C>>,
    is_dropped: Arc<AtomicBool>,
}

/// The reason why a record is not in the queue, and the record.
type NotQueued<'a, K, P, D> = (KafkaError, BaseRecord<'a, K, P, D>);

impl<C: ProducerContext + 'static> PolledProducer<C> {
    /// Creates the client and its thread.
    ///
    /// # Errors
    /// The client library, or the operating system, can't create them.
    pub fn new(config: &ClientConfig, context: C) -> Result<Self, KafkaError> {
        let producer: Arc<BaseProducer<C>> = Arc::new(config.create_with_context(context)?);
        let is_dropped = Arc::new(AtomicBool::new(false));
        let (polled, stop) = (producer.clone(), is_dropped.clone());
        thread::Builder::new()
            .name("producer".into())
            .spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    polled.poll(POLL_TIME);
                }
            })
            .map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self {
            producer,
            is_dropped,
        })
    }

    /// The client.
    pub fn client(&self) -> &Client<C> {
        self.producer.client()
    }

    /// Puts a record into the queue. Its report will come.
    ///
    /// # Errors
    /// The record, which is not in the queue, and the reason.
    #[expect(
        clippy::result_large_err,
        reason = "the caller sends the record again if the queue is full"
    )]
    pub fn send<'a, K: ToBytes + ?Sized, P: ToBytes + ?Sized>(
        &self,
        record: BaseRecord<'a, K, P, C::DeliveryOpaque>,
    ) -> Result<(), NotQueued<'a, K, P, C::DeliveryOpaque>> {
        self.producer.send(record)
    }

    /// Waits until no record is in flight, at most `timeout`. Blocks.
    ///
    /// # Errors
    /// Records are still in flight after `timeout`.
    pub fn flush(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.producer.flush(timeout)
    }
}

impl<C: ProducerContext + 'static> Drop for PolledProducer<C> {
    fn drop(&mut self) {
        self.is_dropped.store(true, Ordering::Relaxed);
    }
}
