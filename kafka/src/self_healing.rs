//! A producer that is replaced after a fatal error. After such an error, the client library's producer never
//! works again.

use rdkafka::producer::{Producer, ProducerContext};
use std::{
    sync::{Arc, RwLock},
    time::Duration,
};

/// The current producer.
pub(crate) struct SelfHealing<P> {
    role: String,
    current: RwLock<Arc<P>>,
}

impl<P: Send + Sync + 'static> SelfHealing<P> {
    /// `role` is for the log.
    pub fn new(role: &str, producer: P) -> Self {
        Self {
            role: role.to_owned(),
            current: RwLock::new(Arc::new(producer)),
        }
    }

    /// The current producer, with or without a fatal error.
    pub fn current(&self) -> Arc<P> {
        self.current.read().expect("no holder panics").clone()
    }

    /// Replaces the producer if it had a fatal error. If several callers are concurrent, only the first one
    /// replaces it. The old producer still reports the records that it had in flight.
    pub fn heal<C: ProducerContext, E>(&self, new: impl FnOnce() -> Result<P, E>) -> Result<(), E>
    where
        P: Producer<C>,
    {
        if self.current().client().fatal_error().is_none() {
            return Ok(());
        }
        let mut current = self.current.write().expect("no holder panics");
        // Another caller may have replaced it meanwhile.
        let Some((code, reason)) = current.client().fatal_error() else {
            return Ok(());
        };
        tracing::error!(role = self.role, %code, reason, "replacing a producer after a fatal error");
        let old = std::mem::replace(&mut *current, Arc::new(new()?));
        // The producer's destructor waits for a thread, so it runs on a thread of its own instead of the
        // caller's.
        std::thread::spawn(move || drop(old));
        Ok(())
    }

    /// Replaces the producer with one that has other settings. The old producer still sends and reports the
    /// records that it has in flight, for at most `timeout`.
    pub fn replace<C: ProducerContext>(&self, new: P, timeout: Duration)
    where
        P: Producer<C>,
    {
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
    pub fn fail_fatally<C: ProducerContext>(&self)
    where
        P: Producer<C>,
    {
        crate::faults::fail_fatally(self.current().client());
    }
}
