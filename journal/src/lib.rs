//! The log: the void rule, the owner that appends, the reader and its checkpoints.

pub mod checkpoint;
pub mod frame;
pub mod genesis;
pub mod log;
pub mod metrics;
pub mod owner;
pub mod protocol;
pub mod reader;
pub mod rule;
pub mod simulator;
pub mod store;

pub use checkpoint::Checkpoint;
pub use log::{Kafka, Source};
pub use reader::{Batch, ReadError, Reader, Valid};
