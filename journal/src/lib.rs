//! The log: the void rule, the owner that appends, the reader and its checkpoints.

pub mod checkpoint;
pub mod frame;
pub mod metrics;
pub mod owner;
pub mod reader;
pub mod rule;

pub use checkpoint::Checkpoint;
pub use reader::{Batch, ReadError, Reader, Source, Valid};
