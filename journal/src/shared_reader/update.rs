//! An update of a subscription.

use crate::{batch::Batch, reader::ReadError};
use std::sync::Arc;

/// An update for a subscriber.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are batches")]
pub enum Update<E> {
    /// The next valid commits of a partition. The log can be read.
    Batch(Batch<E>),
    /// A partition is halted; the others are still read. Comes once for each partition.
    Halted {
        /// The journal.
        topic: &'static str,
        /// Its partition.
        partition: i32,
        /// The reason.
        error: Arc<ReadError>,
    },
    /// The log can't be read now. The subscription retries.
    Failing(Arc<ReadError>),
    /// The log can be read: again, or for the first time.
    Recovered,
}
