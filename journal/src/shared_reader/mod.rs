//! One reader per journal and process, which feeds every view and job that stands near the end of the log.
//!
//! A [`Subscription`] begins with a reader of its own, from its own checkpoints: that confirms the
//! checkpoints and catches up. Near the end of the log it joins the shared reader, which the first one
//! there starts: at the offset that it has read to, in each partition, so it misses nothing and sees
//! nothing twice. From then on it has no consumer, thread or timer. The shared reader judges and decodes
//! each record once; subscribers get the same commits in memory.
//!
//! The shared reader keeps batches in a window, bounded in commits and in bytes, until every subscriber has
//! taken them. It reads as fast as its fastest subscriber. When the window is full and some subscriber has
//! taken everything, the oldest batches are dropped. A subscriber that did not take them in time falls
//! back to a reader of its own from its last checkpoint, catches up, and joins again. So a slow or stalled
//! subscriber holds nobody up, and memory is bounded whatever the lag.
//!
//! A partition that the shared reader halts is halted for each subscriber, for the same reason. After an
//! error that ends the shared reader, each subscriber falls back and meets the error itself, if it is its
//! own too.
//!
//! `window` is the data structure, `running` the reader's task, `follower` a reader with its retries,
//! `subscription` the way between the two, and `position` whether they connect.

mod follower;
mod position;
mod readers;
mod running;
mod subscription;
#[cfg(test)]
mod tests;
mod window;

pub use readers::{Readers, SharedReader};
pub use running::Status;
pub use subscription::{Subscription, Update};
pub use window::Limits;
