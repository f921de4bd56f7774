//! A producer that outlives its fatal errors: after one, the client library's own never works again.

use rdkafka::producer::{Producer, ProducerContext};
use std::sync::{Arc, RwLock};

/// The present producer.
pub(crate) struct Lasting<P> {
    role: String,
    present: RwLock<Arc<P>>,
}

impl<P: Send + Sync + 'static> Lasting<P> {
    /// `role` is for the log.
    pub fn new(role: &str, producer: P) -> Self {
        Self {
            role: role.to_owned(),
            present: RwLock::new(Arc::new(producer)),
        }
    }

    /// The present producer, with or without a fatal error.
    pub fn present(&self) -> Arc<P> {
        self.present.read().expect("no holder panics").clone()
    }

    /// Puts a new producer in the place of one that had a fatal error. Whoever asks first does it; the
    /// old one still reports what it had under way.
    pub fn mend<C: ProducerContext, E>(&self, new: impl FnOnce() -> Result<P, E>) -> Result<(), E>
    where
        P: Producer<C>,
    {
        if self.present().client().fatal_error().is_none() {
            return Ok(());
        }
        let mut present = self.present.write().expect("no holder panics");
        // Somebody else may have been here first.
        let Some((code, reason)) = present.client().fatal_error() else {
            return Ok(());
        };
        tracing::error!(%code, reason, role = self.role, "the producer had a fatal error and is replaced");
        let old = std::mem::replace(&mut *present, Arc::new(new()?));
        // Its end joins a thread, for which nobody should wait.
        std::thread::spawn(move || drop(old));
        Ok(())
    }

    /// Makes it fail for good, as after an error that idempotence can't survive.
    #[cfg(feature = "faults")]
    pub fn fail_fatally<C: ProducerContext>(&self)
    where
        P: Producer<C>,
    {
        crate::faults::fail_fatally(self.present().client());
    }
}
