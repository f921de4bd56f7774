//! Kafka and the schema registry: the only crate that names their client libraries.
//!
//! It knows topics, records and schemas; it knows nothing of commits, owners or the void rule. Topics have
//! logical names outside of this crate, and a deployment's prefix at the brokers.

pub mod admin;
pub mod appender;
pub mod bounded;
pub mod codec;
pub mod consumer;
#[cfg(feature = "faults")]
mod faults;
pub mod group;
pub mod partition;
mod polled_producer;
mod prefix;
pub mod publisher;
mod record_limits;
pub mod registry;
#[cfg(test)]
mod reserved_tests;
mod self_healing;
pub mod settings;
mod subjects;

pub use admin::Admin;
pub use appender::{Appender, BrokerRule, Report};
pub use bounded::{BoundedReadError, BoundedReader, Span};
pub use codec::{CodecError, Decoder, Encoder};
pub use consumer::{BatchConsumer, ConsumerError, EndReached, Fetch, Fetched, Record};
pub use group::{GroupError, Hint, Membership, OtherMembers, Watchdog};
pub use publisher::Publisher;
pub use registry::{Registry, RegistryError};
pub use settings::{GroupProtocol, KafkaSettings, RegistrySettings, SettingsError};
pub use subjects::Subjects;
