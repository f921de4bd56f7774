//! A producer that is replaced after a fatal error. After such an error, the client library's producer never
//! works again.

use crate::polled_producer::PolledProducer;
use rdkafka::producer::ProducerContext;
use std::{
    sync::{Arc, RwLock},
    time::Duration,
};

/// The current producer.
pub(crate) struct SelfHealing<C: ProducerContext + 'static> {
    role: String,
    current: RwLock<Arc<PolledProducer<C>>>,
}

impl<C: ProducerContext + 'static> SelfHealing<C> {
    /// `role` is for the log.
    pub fn new(role: &str, producer: PolledProducer<C>) -> Self {
        Self {
            role: role.to_owned(),
            current: RwLock::new(Arc::new(producer)),
        }
    }

    /// The current producer, with or without a fatal error.
    pub fn current(&self) -> Arc<PolledProducer<C>> {
        self.current.read().expect("no holder panics").clone()
    }

    /// Replaces the producer if it had a fatal error. If several callers are concurrent, only the first one
    /// replaces it. The old producer still reports the records that it had in flight.
    pub fn heal<E>(&self, new: impl FnOnce() -> Result<PolledProducer<C>, E>) -> Result<(), E> {
        if self.current().client().fatal_error().is_none() {
            return Ok(());
        }
        let mut current = self.current.write().expect("no holder panics");
        // Another caller may have replaced it meanwhile.
        let Some((code, reason)) = current.client().fatal_error() else {
            return Ok(());
        };
        tracing::error!(role = self.role, %code, reason, "replacing a producer after a fatal error");
        *current = Arc::new(new()?);
        Ok(())
    }

    /// Replaces the producer with one that has other settings. The old producer still sends and reports the
    /// records that it has in flight, for at most `timeout`.
    pub fn replace(&self, new: PolledProducer<C>, timeout: Duration) {
        let mut current = self.current.write().expect("no holder panics");
        let old = std::mem::replace(&mut *current, Arc::new(new));
        tracing::info!(
            role = self.role,
            "replacing a producer to change its settings"
        );
        std::thread::spawn(move || {
            if let Err(error) = old.flush(timeout) {
                tracing::warn!(%error, "records of a replaced producer were not sent");
            }
        });
    }

    /// Makes the producer fail fatally, as after an error that idempotence can't survive.
    #[cfg(feature = "faults")]
    pub fn fail_fatally(&self) {
        crate::faults::fail_fatally(self.current().client());
    }
}
