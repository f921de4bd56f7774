//! The log: the void rule, the owner that appends, the reader and its checkpoints.

mod bodies;
pub mod chain;
pub mod checkpoint;
#[cfg(any(test, feature = "test-support"))]
pub mod conformance;
pub mod frame;
pub mod genesis;
pub mod log;
pub mod metrics;
pub mod owner;
#[cfg(any(test, feature = "test-support"))]
pub mod probe;
pub mod protocol;
pub mod reader;
pub mod rule;
pub mod store;

pub use checkpoint::Checkpoint;
pub use log::{Kafka, Source};
pub use reader::{Batch, ReadError, Reader, Valid};
