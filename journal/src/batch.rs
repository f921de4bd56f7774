//! Batches of valid commits, as readers return them. Any number of consumers can share one without a copy.

use crate::checkpoint::Checkpoint;
use bytes::Bytes;
use schemas::{Body, Commit, ContextEvent, Decision, ids};
use std::{
    ops::{Deref, Range},
    sync::Arc,
};

/// A valid commit.
#[derive(Debug, Clone)]
pub struct Valid<E> {
    /// Its offset in the partition.
    pub offset: i64,
    /// `<aggregate type>_<aggregate id>`; empty for announcements and no-ops.
    pub key: Bytes,
    /// The record, decoded.
    pub commit: Commit<E>,
}

/// Some valid commits in the order of their offsets. Clones share the commits in memory.
#[derive(Debug)]
pub struct Commits<E> {
    all: Arc<Vec<Valid<E>>>,
    /// The part of `all` that this value has.
    range: Range<usize>,
}

/// The valid commits of a range of one partition's offsets.
#[derive(Debug)]
pub struct Batch<E> {
    /// The journal's partition.
    pub partition: i32,
    /// The `next_offset` of the checkpoint from which this batch continues.
    pub from: i64,
    /// The valid records. May be empty.
    pub commits: Commits<E>,
    /// Size of the valid records in the log; 0 if it is not known.
    pub bytes: usize,
    /// Number of void records.
    pub void: u64,
    /// The void rule's state after this batch.
    pub checkpoint: Checkpoint,
}

impl<E> Commits<E> {
    /// The commits from an offset on.
    pub(crate) fn starting_at(&self, offset: i64) -> Self {
        let before = self.partition_point(|valid| valid.offset < offset);
        Self {
            all: self.all.clone(),
            range: self.range.start + before..self.range.end,
        }
    }

    /// The first `length` commits, and the others.
    ///
    /// # Panics
    /// There are fewer than `length` commits.
    pub fn split_at(&self, length: usize) -> (Self, Self) {
        assert!(length <= self.len(), "{length} of {} commits", self.len());
        let middle = self.range.start + length;
        let part = |range| Self {
            all: self.all.clone(),
            range,
        };
        (part(self.range.start..middle), part(middle..self.range.end))
    }
}

impl<E> From<Vec<Valid<E>>> for Commits<E> {
    fn from(commits: Vec<Valid<E>>) -> Self {
        Self {
            range: 0..commits.len(),
            all: Arc::new(commits),
        }
    }
}

impl<E> Deref for Commits<E> {
    type Target = [Valid<E>];

    fn deref(&self) -> &[Valid<E>] {
        &self.all[self.range.clone()]
    }
}

impl<'c, E> IntoIterator for &'c Commits<E> {
    type Item = &'c Valid<E>;
    type IntoIter = std::slice::Iter<'c, Valid<E>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

// Derived implementations would require `E: Clone`, although no event is copied.
impl<E> Clone for Commits<E> {
    fn clone(&self) -> Self {
        Self {
            all: self.all.clone(),
            range: self.range.clone(),
        }
    }
}

impl<E> Clone for Batch<E> {
    fn clone(&self) -> Self {
        Self {
            partition: self.partition,
            from: self.from,
            commits: self.commits.clone(),
            bytes: self.bytes,
            void: self.void,
            checkpoint: self.checkpoint.clone(),
        }
    }
}

impl<E: ContextEvent> Valid<E> {
    /// The decision, unless this is an announcement or a no-op.
    pub fn decision(&self) -> Option<&Decision<E>> {
        match &self.commit.body {
            Body::Decision(decision) => Some(decision),
            Body::Announcement(_) | Body::NoOp(_) => None,
        }
    }

    /// The key as text: `<aggregate type>_<aggregate id>`. Our own keys are printable ASCII.
    pub fn key_text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }

    /// The id of the event at an index.
    pub fn event_id(&self, log_id: &[u8; 32], index: usize) -> String {
        ids::event_id(log_id, self.commit.epoch, self.commit.seq, index)
    }
}
