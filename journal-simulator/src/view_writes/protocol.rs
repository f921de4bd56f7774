//! The steps of a view's writes that a mutation may replace. Every default body is the step of production or of the
//! store.

/// The number of replicas of every row.
pub(crate) const REPLICAS: usize = 3;
/// More than half of the replicas.
const QUORUM: usize = 2;

/// Steps of a view's writes.
pub(crate) trait WriteProtocol: Send + Sync + 'static {
    /// The timestamp of a write. `by_offset` is the timestamp in production; `by_arrival` grows with each write.
    fn timestamp(by_offset: i64, _by_arrival: i64) -> i64 {
        by_offset
    }

    /// Number of replicas that must acknowledge a write.
    fn acknowledgements() -> usize {
        QUORUM
    }

    /// Number of replicas that a read reads from.
    fn replicas_per_read() -> usize {
        QUORUM
    }

    /// Whether a read that finds different values stores the newest value at every replica that it read from, before
    /// it answers. Cassandra and Scylla do so for reads at a quorum; without it, a later read could find an older
    /// value.
    fn repairs_reads() -> bool {
        true
    }

    /// Whether the fold begins with the stored rows.
    fn loads_rows() -> bool {
        true
    }

    /// Whether deletions are recorded.
    fn records_deletions() -> bool {
        true
    }

    /// Whether deletions are recorded after the rows are written, not before.
    fn records_deletions_last() -> bool {
        false
    }

    /// Whether a row that was not loaded is deleted.
    fn deletes_unknown_rows() -> bool {
        true
    }

    /// Whether the checkpoint is moved before the rows are written.
    fn moves_checkpoint_first() -> bool {
        false
    }

    /// Whether the checkpoint is moved only from the offset at which the projector read it.
    fn compares_checkpoint() -> bool {
        true
    }
}

/// The steps of production.
pub(crate) enum CorrectWrites {}

impl WriteProtocol for CorrectWrites {}
