//! The shared readers of a process, one per journal.

use super::{
    running::{Inner, Status},
    subscription::Subscription,
    window::Limits,
};
use crate::{
    checkpoint::Checkpoint,
    log::{ReadLog, Source},
    protocol::{CorrectProtocol, SharingProtocol},
};
use schemas::ContextEvent;
use std::{
    any::Any,
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// The reader of one journal that its subscribers share.
pub struct SharedReader<E, L: ReadLog = Source, P: SharingProtocol = CorrectProtocol> {
    pub(super) inner: Arc<Inner<E, L, P>>,
}

impl<E: ContextEvent, L: ReadLog> SharedReader<E, L> {
    /// Creates the reader, which reads nothing before the first subscription.
    pub fn new(log: L) -> Self {
        Self::with_limits(log, Limits::default())
    }
}

impl<E: ContextEvent, L: ReadLog, P: SharingProtocol> SharedReader<E, L, P> {
    /// Like [`SharedReader::new`], with other bounds and the protocol `P`.
    pub fn with_limits(log: L, limits: Limits) -> Self {
        Self {
            inner: Arc::new(Inner::new(log, limits)),
        }
    }

    /// Subscribes from the given checkpoints, one per partition of the journal ([`Checkpoint::start`]: from
    /// offset 0). `role` names the subscriber, and its client while it has its own reader. Nothing is read
    /// before the first [`Subscription::next`].
    pub fn subscribe(&self, role: &str, starts: Vec<Checkpoint>) -> Subscription<E, L, P> {
        Subscription::new(self.inner.clone(), role, starts)
    }

    /// Its current state.
    pub fn status(&self) -> Status {
        self.inner.status()
    }
}

impl<E, L: ReadLog, P: SharingProtocol> Clone for SharedReader<E, L, P> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

/// The shared readers of a process, by journal.
pub struct Readers<L: ReadLog = Source> {
    log: L,
    /// Each is the [`SharedReader`] of its topic's events.
    by_topic: Arc<Mutex<BTreeMap<&'static str, Box<dyn Any + Send>>>>,
}

impl<L: ReadLog> Readers<L> {
    /// No reader yet, over this log.
    pub fn new(log: L) -> Self {
        Self {
            log,
            by_topic: Arc::default(),
        }
    }

    /// The shared reader of the event type's journal.
    pub fn of<E: ContextEvent>(&self) -> SharedReader<E, L> {
        let mut by_topic = self.by_topic.lock().expect("no holder panics");
        let reader = by_topic
            .entry(E::CONTEXT.topic)
            .or_insert_with(|| Box::new(SharedReader::<E, L>::new(self.log.clone())));
        let reader = reader.downcast_ref::<SharedReader<E, L>>();
        reader
            .expect("a journal has one type of events in a process")
            .clone()
    }
}

impl<L: ReadLog> Clone for Readers<L> {
    fn clone(&self) -> Self {
        Self {
            log: self.log.clone(),
            by_topic: self.by_topic.clone(),
        }
    }
}
