//! One reader per journal and process, which feeds every view and job that is near the end of the log.
//!
//! A [`Subscription`] begins with a reader of its own, from its own checkpoints, which confirms the checkpoints
//! and catches up. Near the end of the log it joins the shared reader; the first subscription there starts it.
//! A subscription joins at the offset that it has read to in each partition, so it misses nothing and gets
//! nothing twice. From then on it has no consumer, thread or timer. The shared reader judges and decodes each
//! record once; subscribers get the same commits in memory.
//!
//! The shared reader keeps batches in a window, bounded in commits and in bytes, until every subscriber has
//! taken them. It reads as fast as its fastest subscriber. When the window is full and some subscriber has
//! taken everything, the oldest batches are dropped. A subscriber that did not take them in time falls back to
//! a reader of its own from its last checkpoint, catches up, and joins again. So a slow or stalled subscriber
//! delays no other one, and memory is bounded at any lag.
//!
//! Subscribers may read different partitions. A subscription joins a shared reader that reads all of its partitions,
//! and replaces one that reads only some of them; the others then fall back and join the new one. Partitions that no
//! subscription needs any more are left out from the next subscription on.
//!
//! A partition that the shared reader halts is halted for each subscriber, for the same reason. After an error
//! that ends the shared reader, each subscriber falls back; if the error concerns its own reader as well, it
//! gets the error from there.
//!
//! `window` is the data structure, `running` the reader's task, `follower` a reader with its retries,
//! `subscription` the switch between the two, and `position` the check that they connect.

mod follower;
mod position;
mod readers;
mod running;
mod subscription;
#[cfg(test)]
mod tests;
mod update;
mod window;

pub use readers::{Readers, SharedReader};
pub use running::Status;
pub use subscription::Subscription;
pub use update::Update;
pub use window::Limits;
