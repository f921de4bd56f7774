//! Kafka and the schema registry: the only crate that names their client libraries.
//!
//! It knows topics, records and schemas; it knows nothing of commits, owners or the void rule.

pub mod admin;
pub mod appender;
pub mod codec;
pub mod consumer;
#[cfg(feature = "faults")]
mod faults;
pub mod group;
mod lasting;
pub mod partition;
pub mod publisher;
pub mod registry;
pub mod settings;

pub use admin::Admin;
pub use appender::{Appender, Report};
pub use codec::{CodecError, Decoder, Encoder};
pub use consumer::{BatchConsumer, ConsumerError, Record};
pub use group::{GroupError, Hint, Membership, Others};
pub use publisher::Publisher;
pub use registry::{Registry, RegistryError};
pub use settings::{GroupProtocol, KafkaSettings, RegistrySettings, SettingsError};
