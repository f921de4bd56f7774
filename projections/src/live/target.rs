//! The target of a client: an aggregate or a customer, in the journal of orders.

use schemas::{
    ContextEvent,
    orders::{CreditNoteEvent, Event, OrderEvent},
};

/// The journal that clients follow.
pub const JOURNAL: &str = Event::CONTEXT.topic;

/// An event that clients can also follow by its customer.
pub trait LiveEvent: ContextEvent {
    /// The customer that the event belongs to, if it names one.
    fn customer(&self) -> Option<&str>;
}

/// The aggregate or customer that a client follows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// The events of one aggregate. They are all in one partition.
    Aggregate {
        /// The key of its records.
        key: String,
        /// The partition of the key.
        partition: i32,
    },
    /// The events of a customer's aggregates, which may be in any partition.
    Customer(String),
}

impl LiveEvent for Event {
    fn customer(&self) -> Option<&str> {
        match self {
            Self::Order(OrderEvent::SaleImported(sale)) => sale.customer.as_deref(),
            Self::CreditNote(CreditNoteEvent::CreditNoteIssued(note)) => note.customer.as_deref(),
        }
    }
}

impl Target {
    /// The partition with all events of the target; `None` if any partition may have some.
    pub fn partition(&self) -> Option<i32> {
        match self {
            Self::Aggregate { partition, .. } => Some(*partition),
            Self::Customer(_) => None,
        }
    }

    /// Whether the target can have events in a partition.
    pub fn reads(&self, partition: i32) -> bool {
        self.partition().is_none_or(|own| own == partition)
    }

    /// Whether an event of a record with this key belongs to the target.
    pub fn takes<E: LiveEvent>(&self, key: &[u8], event: &E) -> bool {
        match self {
            Self::Aggregate { key: own, .. } => own.as_bytes() == key,
            Self::Customer(id) => event.customer() == Some(id),
        }
    }
}
