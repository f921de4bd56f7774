//! Contexts: each has one journal topic, and one schema made of the frame and its event records.
//!
//! `build.rs` generates [`CONTEXTS`] and each context's module from `avro/*.avsc`: to add a context, add its
//! file.

use serde::{Serialize, de::DeserializeOwned};

/// The frame that every context's commits share, with placeholders for the context and its events.
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

include!(concat!(env!("OUT_DIR"), "/contexts.rs"));

/// A context's events, as a Rust type.
pub trait ContextEvent: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The context whose journal holds them.
    const CONTEXT: &'static Context;
    /// The Avro names of all events.
    const NAMES: &'static [&'static str];
    /// The types of the context's aggregates, the first parts of record keys.
    const AGGREGATE_TYPES: &'static [&'static str];

    /// The Avro name of this event.
    fn name(&self) -> &'static str;

    /// The type of the event's aggregate.
    fn aggregate_type(&self) -> &'static str;
}

impl Context {
    /// Creates a context whose commits have the common frame. The registered contexts are in [`CONTEXTS`]; tests of
    /// the journal use one that is not registered. `events_avsc` is a JSON array of the event records' Avro schemas.
    pub const fn new(
        name: &'static str,
        topic: &'static str,
        subject: &'static str,
        events_avsc: &'static str,
    ) -> Self {
        Self {
            name,
            topic,
            subject,
            events_avsc,
        }
    }

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

/// The events of one aggregate, as a Rust type: a branch of its context's union.
pub trait AggregateEvent: Clone + Send + Sync + 'static {
    /// The first part of the aggregate's record keys: lower-case letters. It is stored and can never change.
    const AGGREGATE_TYPE: &'static str;
    /// The union that the events are stored in.
    type Context: ContextEvent;

    /// The same event, as its context stores it.
    fn into_context(self) -> Self::Context;

    /// The event of this aggregate in a context's event; `None` if it belongs to another aggregate.
    fn of_context(event: &Self::Context) -> Option<&Self>;
}

/// Declares a context's `Event` (one variant per aggregate) and each aggregate's events (one variant per
/// Avro record of that name). On the wire they are one flat union, so an aggregate can be split without a
/// change of bytes.
macro_rules! context_events {
    ($context:ident $(, $aggregate:ident $events:ident $stored:literal [$($variant:ident),+])+ $(,)?) => {
        /// One event of this context.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Event {
            $(
                #[doc = concat!("An event of the aggregate `", $stored, "`.")]
                $aggregate($events)
            ),+
        }

        $(
            #[doc = concat!("One event of the aggregate `", $stored, "`.")]
            #[derive(Debug, Clone, PartialEq, serde::Serialize)]
            pub enum $events {
                $(#[doc = concat!("See [`", stringify!($variant), "`].")] $variant($variant)),+
            }

            impl $crate::context::AggregateEvent for $events {
                const AGGREGATE_TYPE: &'static str = $stored;
                type Context = Event;

                fn into_context(self) -> Event {
                    Event::$aggregate(self)
                }

                #[allow(unreachable_patterns, reason = "a context may have a single aggregate")]
                fn of_context(event: &Event) -> Option<&Self> {
                    match event {
                        Event::$aggregate(event) => Some(event),
                        _ => None,
                    }
                }
            }

            impl From<$events> for Event {
                fn from(event: $events) -> Self {
                    Self::$aggregate(event)
                }
            }
        )+

        impl serde::Serialize for Event {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $(Self::$aggregate(event) => event.serialize(serializer)),+ }
            }
        }

        $crate::union::deserialize_nested_record_union!(
            Event, $($($variant => $aggregate $events),+),+
        );

        impl $crate::context::ContextEvent for Event {
            const CONTEXT: &'static $crate::context::Context = &$crate::context::$context;
            const NAMES: &'static [&'static str] = &[$($(stringify!($variant)),+),+];
            const AGGREGATE_TYPES: &'static [&'static str] = &[$($stored),+];

            fn name(&self) -> &'static str {
                match self { $($(Self::$aggregate($events::$variant(_)) => stringify!($variant)),+),+ }
            }

            fn aggregate_type(&self) -> &'static str {
                match self { $(Self::$aggregate(_) => $stored),+ }
            }
        }
    };
}
pub(crate) use context_events;
