//! The log: the void rule, the owner that appends, the reader with its checkpoints, and the reader that
//! views and jobs share.

pub mod batch;
mod bodies;
pub mod chain;
pub mod checkpoint;
#[cfg(any(test, feature = "test-support"))]
pub mod conformance;
pub mod frame;
pub mod genesis;
pub mod log;
#[cfg(any(test, feature = "test-support"))]
pub mod memory_log;
pub mod metrics;
pub mod owner;
#[cfg(any(test, feature = "test-support"))]
pub mod probe;
pub mod protocol;
pub mod reader;
pub mod rule;
mod rule_version;
pub mod shared_reader;
pub mod store;

pub use batch::{Batch, Commits, Valid};
pub use checkpoint::Checkpoint;
pub use log::{Kafka, Source};
pub use reader::{ReadError, Reader};
pub use shared_reader::{Readers, SharedReader, Subscription, Update};
