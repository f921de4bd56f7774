//! Contexts: each has one journal topic, and one schema made of the frame and its event records.

use serde::{Serialize, de::DeserializeOwned};

/// The frame that every context's commits share, with two places to fill in.
const COMMIT_AVSC: &str = include_str!("../avro/commit.avsc");

/// A group of aggregates with one journal.
#[derive(Debug, PartialEq, Eq)]
pub struct Context {
    /// The context's name, such as `orders`.
    pub name: &'static str,
    /// Its journal topic.
    pub topic: &'static str,
    /// The registry's subject of the journal's values.
    pub subject: &'static str,
    /// A JSON array of its event records' Avro schemas.
    events_avsc: &'static str,
}

/// Every context; to add one, add its line.
pub const CONTEXTS: [&Context; 2] = [&ORDERS, &CATALOG];

/// Orders and credit notes.
pub const ORDERS: Context = Context {
    name: "orders",
    topic: "journal.orders",
    subject: "journal.orders-value",
    events_avsc: include_str!("../avro/orders.avsc"),
};

/// Products.
pub const CATALOG: Context = Context {
    name: "catalog",
    topic: "journal.catalog",
    subject: "journal.catalog-value",
    events_avsc: include_str!("../avro/catalog.avsc"),
};

/// The union of a context's events, as a Rust type.
pub trait ContextEvent: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The context whose journal holds them.
    const CONTEXT: &'static Context;
    /// The Avro names of all variants.
    const NAMES: &'static [&'static str];

    /// The Avro name of this event.
    fn name(&self) -> &'static str;
}

impl Context {
    /// The Avro schema of the journal's values, as JSON text.
    pub fn schema(&self) -> String {
        COMMIT_AVSC
            .replace("@CONTEXT@", self.name)
            .replace("\"@EVENTS@\"", self.events_avsc.trim())
    }

    /// The context of a journal topic.
    pub fn of_topic(topic: &str) -> Option<&'static Context> {
        CONTEXTS.into_iter().find(|context| context.topic == topic)
    }

    /// The context of a name such as `orders`.
    pub fn named(name: &str) -> Option<&'static Context> {
        CONTEXTS.into_iter().find(|context| context.name == name)
    }
}

/// Declares the union of a context's events: an enum with a variant per Avro record of that name.
macro_rules! context_events {
    ($context:expr, $($variant:ident),+ $(,)?) => {
        /// One fact of this context; a variant per Avro record of that name.
        #[derive(Debug, Clone, PartialEq, serde::Serialize)]
        pub enum Event {
            $(#[doc = concat!("See [`", stringify!($variant), "`].")] $variant($variant)),+
        }

        $crate::union::deserialize_record_union!(Event, $($variant),+);

        impl $crate::ContextEvent for Event {
            const CONTEXT: &'static $crate::Context = &$context;
            const NAMES: &'static [&'static str] = &[$(stringify!($variant)),+];

            fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => stringify!($variant)),+ }
            }
        }
    };
}
pub(crate) use context_events;
